package wire

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/reexec"
	"github.com/fastbind/fastbind/internal/varlink"
	"github.com/fastbind/fastbind/internal/varlink/varlinktest"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// A fake is a broker that does as it is told.
type fake struct {
	views   []broker.View
	metrics broker.Metrics
	answer  func(ctx context.Context, name string, verb supervise.Verb) (supervise.Answer, error)
	err     error // of all else

	mu      sync.Mutex
	changes []string // of what is to be held
	subs    []*fakeSubscription
}

func (f *fake) List(_ context.Context, names ...string) ([]broker.View, error) {
	list := f.views
	if len(names) > 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(v broker.View) bool { return !slices.Contains(names, v.Name) })
	}
	return list, f.err
}

func (f *fake) Metrics(context.Context) (broker.Metrics, error) { return f.metrics, f.err }
func (f *fake) Subscribe() (*broker.Subscription, error)        { return nil, broker.ErrSubscriptions }
func (f *fake) Enable(_ context.Context, n string) error        { return f.change("enable " + n) }
func (f *fake) Disable(_ context.Context, n string) error       { return f.change("disable " + n) }
func (f *fake) Reload(context.Context) error                    { return f.change("reload") }

func (f *fake) Upgrade(context.Context, syscall.Conn) error { return f.change("upgrade") }

func (f *fake) Request(ctx context.Context, name string, verb supervise.Verb) (supervise.Answer, error) {
	if f.answer == nil {
		return supervise.Answer{Done: true}, f.err
	}
	return f.answer(ctx, name, verb)
}

func (f *fake) change(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, what)
	return f.err
}

// A fakeSubscription has the events that are put into it.
type fakeSubscription struct {
	events chan broker.Noted
	closed chan struct{}
}

func (f *fake) subscribe() (subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &fakeSubscription{make(chan broker.Noted, 1000), make(chan struct{})}
	f.subs = append(f.subs, s)
	return s, f.err
}

func (f *fake) tell(n broker.Noted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.subs {
		s.events <- n
	}
}

func (s *fakeSubscription) Close() { close(s.closed) }

func (s *fakeSubscription) Next(ctx context.Context) (broker.Noted, error) {
	select {
	case n, ok := <-s.events:
		if !ok {
			return n, broker.ErrEnded
		}
		return n, nil
	case <-ctx.Done():
		return broker.Noted{}, context.Cause(ctx)
	}
}

// A world is a server on a real socket.
type world struct {
	*testing.T
	broker *fake
	server *server
	path   string
	end    context.CancelFunc
	served chan error
}

func newWorld(t *testing.T, f *fake) *world {
	dir, err := os.MkdirTemp("/tmp", "fbw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{T: t, broker: f, path: filepath.Join(dir, "sock"), served: make(chan error, 1)}
	ln, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	w.server = newServer(ctx, f, "v1", peer.Check)
	w.server.subscribe = f.subscribe
	go func() { w.served <- w.server.serve(ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-w.served; err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) dial() net.Conn {
	w.Helper()
	conn, err := net.Dial("unix", w.path)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) client() *Client { return NewClient(w.dial()) }

// full has every field set.
func full() broker.View {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456789, time.UTC)
	return broker.View{
		Name: "gocache", Definition: definition.Definition{Service: "gocache", Command: []string{"/bin/gocached", "-v"}}.Complete(),
		State: supervise.Ready, Holding: true, Waiting: 2, RetryAt: at.Add(time.Hour), Reason: "r", Number: 7, Phase: "ready", PID: 4711,
		Since: at, ReadyAt: at.Add(time.Second), Status: "indexing", Memory: 1 << 20, Connections: 3,
		Limits:   limit.Report{{Kind: limit.Memory, Wanted: 1 << 21, Actual: 1 << 21, By: limit.Cgroup, Force: limit.Partly, Reason: "swap is not counted"}},
		Restarts: 4, LastFailure: "exit status 1", FailedAt: at.Add(-time.Second),
	}
}

func sampleMetrics() broker.Metrics {
	m := broker.ServiceMetrics{Service: "gocache", Launches: 5, Restarts: 2, Failures: map[string]uint64{"load": 1, "exec": 2}}
	m.Launch.Counts[3], m.Launch.Sum = 5, 20*time.Millisecond
	m.Ready.Counts[len(m.Ready.Counts)-1], m.Ready.Sum = 1, time.Hour
	return broker.Metrics{Since: time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC), Services: []broker.ServiceMetrics{m},
		Quota: supervise.Quota{Daemons: 2, Memory: 3 << 20}, Excess: supervise.Excess{Daemons: 1, Memory: 5}}
}

func noted(service string) broker.Noted {
	return broker.Noted{Time: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Event: journal.Event{Kind: "failed", Service: service, Generation: 7, PID: 4711,
		Reason: "exit status 1", Fields: []journal.Field{{Key: "stage", Value: "load"}, {Key: "status", Value: "1", Number: true}}}}
}

// The description names exactly the methods that can be called, the errors that can
// come, and the fields that are sent.
func TestDescription(t *testing.T) {
	d := varlinktest.Parse(t, description)
	var callable []string
	for _, m := range newServer(t.Context(), &fake{}, "v1", nil).methods() {
		callable = append(callable, Interface+"."+m.Name)
	}
	slices.Sort(callable)
	if diff := cmp.Diff(callable, d.Named("method")); diff != "" {
		t.Errorf("methods (-callable +described):\n%s", diff)
	}
	want := []string{Interface + "." + errEnding, Interface + "." + errNoSuchService, Interface + "." + errRefused, Interface + "." + errUnsupportedFormat}
	if diff := cmp.Diff(want, d.Named("error")); diff != "" {
		t.Errorf("errors (-used +described):\n%s", diff)
	}
	if len(description) > varlink.MaxFrame/2 {
		t.Errorf("%d bytes", len(description))
	}
	e := eventOf(noted("gocache"))
	for item, v := range map[string]any{
		"type Service": serviceOf(full()), "type Limit": serviceOf(full()).Limits[0], "type Field": Field{}, "type Event": e,
		"type Counts": countsOf(sampleMetrics().Services[0]), "type Failures": Failures{}, "type Histogram": Histogram{},
		"reply Describe": describeReply{}, "reply Launch": serviceReply{}, "reply Restart": serviceReply{}, "reply List": listReply{},
		"reply Events": eventReply{Event: &e}, "reply Metrics": metricsReply{Since: e.Time, Quota: quotaOf(sampleMetrics())}, "type Quota": quotaOf(sampleMetrics()),
	} {
		var sent map[string]any
		if err := json.Unmarshal(encode(v), &sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(d.Items[item])), slices.Sorted(maps.Keys(sent))); diff != "" {
			t.Errorf("%s (-described +sent):\n%s", item, diff)
		}
	}
}

// What the broker has arrives at the client, all of it.
func TestSeen(t *testing.T) {
	f := &fake{views: []broker.View{full(), {Name: "idle", State: supervise.Held, Waiting: -1, Memory: -1, Connections: -1}}, metrics: sampleMetrics()}
	w := newWorld(t, f)
	c := w.client()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Service{serviceOf(f.views[0]), {Name: "idle", State: "held", Limits: []Limit{}}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := list[0]; *s.Waiting != 2 || *s.Memory != 1<<20 || *s.Connections != 3 || !s.Since.Equal(f.views[0].Since) || s.Limits[0].Force != limit.Partly.String() {
		t.Errorf("%+v", s)
	}
	s, fields, cut, err := c.Describe(t.Context(), "gocache")
	if err != nil || s.PID != 4711 || cut || !slices.Contains(fields, Field{"command", "-v"}) {
		t.Errorf("%+v, %v, %v, %v", s, fields, cut, err)
	}
	m, err := c.Metrics(t.Context())
	if q := m.Quota; q == nil || *q != (Quota{2, 3 << 20, 1, 5}) {
		t.Errorf("the quota is %+v", q)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(m.BoundsUS) != len(broker.Buckets) || len(m.Services) != 1 || !m.Since.Equal(f.metrics.Since) {
		t.Fatalf("%+v", m)
	}
	if s := m.Services[0]; s.Launches != 5 || s.Restarts != 2 || s.Launch.Counts[3] != 5 || s.Launch.SumUS != 20000 || len(s.Ready.Counts) != len(broker.Buckets)+1 ||
		!slices.Equal(s.Failures, []Failures{{"exec", 2}, {"load", 1}}) {
		t.Errorf("%+v", s)
	}
}

// A broker of many services, each with all that it can have to say, is listed whole.
func TestMany(t *testing.T) {
	f := &fake{}
	for i := range 1000 {
		v := full()
		v.Name = "s" + strconv.Itoa(1000+i)
		f.views = append(f.views, v)
		m := sampleMetrics().Services[0]
		m.Service = v.Name
		f.metrics.Services = append(f.metrics.Services, m)
	}
	long := strings.Repeat("\x00", 1<<20)
	worst := &f.views[500]
	worst.Reason, worst.Status, worst.LastFailure = long, long, long
	for range 5 {
		worst.Limits = append(worst.Limits[:0:0], append(worst.Limits, limit.Entry{Kind: limit.OpenFiles, Reason: long})...)
	}
	worst.Definition.Command = []string{"/bin/x", long, strings.Repeat("\x01", 900)}
	for range 100 {
		worst.Definition.Env = append(worst.Definition.Env, strings.Repeat("\x02", 900))
	}
	w := newWorld(t, f)
	c := w.client()
	list, err := c.List(t.Context())
	if err != nil || len(list) != 1000 || list[999].Name != "s1999" || len(list[500].Status) != maxText {
		t.Fatalf("%d services, %v", len(list), err)
	}
	m, err := c.Metrics(t.Context())
	if err != nil || len(m.Services) != 1000 || m.Services[999].Service != "s1999" {
		t.Errorf("%d services, %v", len(m.Services), err)
	}
	if _, fields, cut, err := c.Describe(t.Context(), worst.Name); err != nil || !cut || len(fields) < 3 {
		t.Errorf("%d fields, %v, %v", len(fields), cut, err)
	}
	if _, _, cut, err := c.Describe(t.Context(), "s1000"); err != nil || cut {
		t.Errorf("%v, %v", cut, err)
	}
	for _, method := range []string{"List", "Metrics"} {
		_, err = one[listReply](t.Context(), c, method)
		if r, ok := errors.AsType[*varlink.RemoteError](err); !ok || r.Name != varlink.ExpectedMore {
			t.Errorf("%s in one reply: %v", method, err)
		}
	}
	f.views = make([]broker.View, maxListed+1)
	if _, err := w.client().List(t.Context()); err != errTooLong {
		t.Errorf("a list without end: %v", err)
	}
}

// Every method asks the broker for what it says.
func TestRequests(t *testing.T) {
	var asked []string
	f := &fake{views: []broker.View{full()}, answer: func(_ context.Context, name string, v supervise.Verb) (supervise.Answer, error) {
		asked = append(asked, v.String()+" "+name)
		return supervise.Answer{Done: true}, nil
	}}
	c := newWorld(t, f).client()
	launch := func(ready bool) func(context.Context, string) (Service, error) {
		return func(ctx context.Context, name string) (Service, error) { return c.Launch(ctx, name, ready) }
	}
	for _, run := range []func(context.Context, string) (Service, error){launch(false), launch(true), c.Restart} {
		if s, err := run(t.Context(), "gocache"); err != nil || s.Generation != 7 {
			t.Errorf("%+v, %v", s, err)
		}
	}
	reload := func(ctx context.Context, _ string) error { return c.Reload(ctx) }
	for _, do := range []func(context.Context, string) error{c.Stop, c.Reset, c.Enable, c.Disable, reload} {
		if err := do(t.Context(), "gocache"); err != nil {
			t.Error(err)
		}
	}
	want := []string{"launch gocache", "ready gocache", "restart gocache", "stop gocache", "reset gocache"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"enable gocache", "disable gocache", "reload"}, f.changes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every refusal arrives with its reason, and the connection is good for more.
func TestRefusals(t *testing.T) {
	f := &fake{}
	c := newWorld(t, f).client()
	f.answer = func(context.Context, string, supervise.Verb) (supervise.Answer, error) {
		return supervise.Answer{Reason: "3 launches failed", Retry: proc.BootTime() + time.Minute}, nil
	}
	for range 2 {
		_, err := c.Launch(t.Context(), "x", true)
		refused, ok := errors.AsType[*RefusedError](err)
		if !ok {
			t.Fatal(err)
		}
		if left := time.Until(refused.RetryAt); refused.Reason != "3 launches failed" || left < 50*time.Second || left > time.Minute {
			t.Errorf("%+v", refused)
		}
	}
	f.answer = func(context.Context, string, supervise.Verb) (supervise.Answer, error) {
		return supervise.Answer{Reason: strings.Repeat("x", 1<<20)}, nil
	}
	err := c.Stop(t.Context(), "x")
	if refused, ok := errors.AsType[*RefusedError](err); !ok || len(refused.Reason) != maxText || !refused.RetryAt.IsZero() {
		t.Error(err)
	}
	f.answer = func(context.Context, string, supervise.Verb) (supervise.Answer, error) {
		return supervise.Answer{}, broker.ErrUnknown
	}
	if err := c.Stop(t.Context(), "x"); err != broker.ErrUnknown {
		t.Error(err)
	}
	if _, _, _, err := c.Describe(t.Context(), "x"); err != broker.ErrUnknown {
		t.Error(err)
	}
	f.err = broker.ErrEnded
	if _, err := c.List(t.Context()); err != broker.ErrEnded {
		t.Error(err)
	}
	if _, err := c.Metrics(t.Context()); err != broker.ErrEnded {
		t.Error(err)
	}
	f.err = errors.New("x.toml:3: no such field")
	if err := c.Enable(t.Context(), "x"); err == nil || err.Error() != f.err.Error() {
		t.Error(err)
	}
	for _, bad := range []string{"", "../x", "X", strings.Repeat("x", 65)} {
		_, _, _, err := c.Describe(t.Context(), bad)
		if r, ok := errors.AsType[*varlink.RemoteError](err); !ok || r.Name != varlink.InvalidParameter {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	c.format = 2
	if _, err := c.List(t.Context()); err == nil || err.Error() != "the broker speaks format 1, this program format 2" {
		t.Error(err)
	}
}

// What waits is given up when the peer hangs up, or the server closes, or after its
// time; and it keeps nobody from asking.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 10)
		f := &fake{answer: func(ctx context.Context, _ string, _ supervise.Verb) (supervise.Answer, error) {
			<-ctx.Done()
			gone <- context.Cause(ctx)
			return supervise.Answer{}, context.Cause(ctx)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := newServer(ctx, f, "v1", nil)
		s.wire.Bounds.Peers, s.wire.Bounds.Apart = 2, 3
		dial := func() *Client {
			ours, theirs := net.Pipe()
			go s.wire.ServeConn(theirs)
			synctest.Wait()
			return NewClient(ours)
		}
		answers := make(chan error, 3)
		var waiting []*Client
		for range 3 {
			c := dial()
			waiting = append(waiting, c)
			go func() { answers <- c.Stop(context.Background(), "x") }()
			synctest.Wait()
		}
		if err := dial().Stop(t.Context(), "x"); err == nil || err.Error() != "so many requests wait already: 3" {
			t.Errorf("one too many: %v", err)
		}
		c := dial()
		if _, err := c.List(t.Context()); err != nil {
			t.Error(err)
		}
		_ = waiting[0].Close()
		if err := <-gone; err != varlink.ErrHungUp {
			t.Error(err)
		}
		if err := <-answers; err != net.ErrClosed {
			t.Error(err)
		}
		start := time.Now()
		if err := <-answers; err == nil || err.Error() != errWaited.Error() || time.Since(start) != maxWait {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		<-answers
		go func() { answers <- waiting[1].Stop(context.Background(), "x") }()
		synctest.Wait()
		_ = s.wire.Close()
		cancel()
		if err := <-answers; err != broker.ErrEnded {
			t.Error(err)
		}
		for _, c := range append(waiting, c) {
			_ = c.Close()
		}
	})
}

// Events arrive in order, those of the named services; the reader knows when it misses
// nothing more, and how many it was too slow for.
func TestEvents(t *testing.T) {
	f := &fake{}
	w := newWorld(t, f)
	if _, err := one[eventReply](t.Context(), w.client(), "Events"); err == nil || !strings.Contains(err.Error(), varlink.ExpectedMore) {
		t.Errorf("without more: %v", err)
	}
	var got []string
	err := w.client().Events(t.Context(), []string{"a", "b"}, func(e *Event, lost uint64) bool {
		if e == nil {
			for _, n := range []string{"a", "other", "b", "a"} {
				e := noted(n)
				e.Lost = uint64(len(n))
				f.tell(e)
			}
			return false
		}
		got = append(got, e.Service+" "+strconv.FormatUint(lost, 10)+" "+e.Kind+" "+e.Fields[1].Value)
		return len(got) == 3
	})
	if diff := cmp.Diff([]string{"a 1 failed 1", "b 6 failed 1", "a 1 failed 1"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	select {
	case <-f.subs[0].closed:
	case <-time.After(time.Minute):
		t.Error("the subscription stays when its reader is gone")
	}
	// The largest event there can be.
	e := noted("a")
	e.Reason = strings.Repeat("\x00", 1<<20)
	for range 1000 {
		e.Fields = append(e.Fields, journal.Field{Key: "k", Value: e.Reason})
	}
	f.subs = nil
	err = w.client().Events(t.Context(), nil, func(got *Event, _ uint64) bool {
		if got == nil {
			f.tell(e)
			return false
		}
		return len(got.Reason) == maxText && len(got.Fields) > 2
	})
	if err != nil {
		t.Error(err)
	}
	// The broker's end.
	f.subs = nil
	err = w.client().Events(t.Context(), nil, func(got *Event, _ uint64) bool {
		close(f.subs[0].events)
		return false
	})
	if err != broker.ErrEnded {
		t.Error(err)
	}
}

// Who does not read is given up, and makes the server keep no more than one reply.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := newServer(t.Context(), f, "v1", nil)
		s.subscribe = f.subscribe
		ours, theirs := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.wire.ServeConn(theirs)
		}()
		start := time.Now()
		if _, err := io.WriteString(ours, `{"method":"io.fastbind.Broker.Events","more":true}`+"\x00"); err != nil {
			t.Fatal(err)
		}
		<-served
		if took := time.Since(start); took != varlink.DefaultWrite {
			t.Errorf("given up after %v", took)
		}
		<-f.subs[0].closed
		_ = ours.Close()
	})
}

// TestStranger: R34. Another uid gets no answer, even where it can connect.
func TestStranger(t *testing.T) {
	if os.Getuid() != 0 {
		reexec.Used(stranger)
		t.Skip("only root can be another user")
	}
	w := newWorld(t, &fake{})
	for _, p := range []string{filepath.Dir(w.path), w.path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := reexec.Command(t, stranger, w.path)
	cmd.SysProcAttr = asUser(20000 + os.Getpid()%10000)
	// The test binary's directory is not the stranger's: it is run by descriptor.
	exe, err := os.Open(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Path = "/proc/self/fd/3"
	out, err := cmd.Output()
	if err != nil || string(out) != "EOF" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := w.client().List(t.Context()); err != nil {
		t.Error(err)
	}
}

var stranger = reexec.Helper("stranger", func(args []string) {
	conn, err := net.Dial("unix", args[0])
	if err != nil {
		_, _ = os.Stdout.WriteString(err.Error())
		return
	}
	c := NewClient(conn)
	_, err = c.List(context.Background())
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE) {
		_, _ = os.Stdout.WriteString("EOF")
		return
	}
	_, _ = os.Stdout.WriteString("answered: " + strconv.FormatBool(err == nil))
})

// FuzzServer: whatever a peer sends, it gets at most well-formed replies, and is done
// with.
func FuzzServer(f *testing.F) {
	for _, m := range newServer(context.Background(), &fake{}, "v1", nil).methods() {
		f.Add([]byte(`{"method":"io.fastbind.Broker.` + m.Name + `","parameters":{"name":"gocache","format":1}}`))
	}
	f.Add([]byte(`{"method":"io.fastbind.Broker.Events","more":true,"parameters":{"names":["a",1]}}`))
	f.Add([]byte(`{"method":"io.fastbind.Broker.List","parameters":{"format":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			fk := &fake{views: []broker.View{full()}, metrics: sampleMetrics()}
			s := newServer(t.Context(), fk, "v1", nil)
			s.subscribe = fk.subscribe
			ours, theirs := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				s.wire.ServeConn(theirs)
			}()
			go func() {
				_, _ = ours.Write(append(data, 0))
				synctest.Wait()
				_ = ours.Close()
			}()
			frames := varlink.NewFrameReader(ours)
			for {
				frame, err := frames.Next(nil)
				if err != nil {
					break
				}
				if _, err := varlink.ParseReply(frame); err != nil || len(frame) > varlink.MaxFrame {
					t.Fatalf("%q is answered with %q", data, frame)
				}
			}
			<-served
			if all, apart := s.wire.Peers(); all != 0 || apart != 0 {
				t.Fatalf("%d peers, %d apart", all, apart)
			}
		})
	})
}
