package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/varlink"
)

// Broker is what the server asks: a broker.Broker, and whoever knows what it is to
// hold. All of it is called concurrently.
type Broker interface {
	List(ctx context.Context, names ...string) ([]broker.View, error)
	Metrics(context.Context) (broker.Metrics, error)
	Subscribe() (*broker.Subscription, error)
	Request(ctx context.Context, name string, verb supervise.Verb) (supervise.Answer, error)

	// Enable and Disable hold a service and let it go, now and in later brokers;
	// Reload reads the definition files. They return when that is done.
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Reload(ctx context.Context) error

	// Upgrade executes another program in place of this one, which answers at asker by
	// TellUpgraded; it returns only why it does not.
	Upgrade(ctx context.Context, asker syscall.Conn) error
}

// Bounds of a server beside those of package varlink.
const (
	maxWaits = 256       // requests that wait, and readers of events, at once
	maxWait  = time.Hour // for what was asked to be done
	maxLists = 4         // that are being made at once
)

// Serve answers those of the same uid who connect to ln until ctx ends or ln fails,
// and owns ln from then on. It is nil if ctx has ended. When it returns, every
// connection is closed and every goroutine has ended; that takes no longer than two
// replies that nobody reads, 10 s. version is what GetInfo says.
func Serve(ctx context.Context, ln net.Listener, b Broker, version string) error {
	return newServer(ctx, b, version, checkPeer).serve(ln)
}

func (s *server) serve(ln net.Listener) error {
	done := make(chan struct{})
	stop := context.AfterFunc(s.ctx, func() {
		defer close(done)
		_ = s.wire.Close()
	})
	err := s.wire.Serve(ln)
	if !stop() {
		<-done
	}
	return err
}

type server struct {
	ctx    context.Context
	broker Broker
	wire   *varlink.Server
	lists  chan struct{} // holds a token for each that is being made

	// Changed by tests.
	maxWait   time.Duration
	subscribe func() (subscription, error)
}

// A subscription is a broker.Subscription.
type subscription interface {
	Next(context.Context) (broker.Noted, error)
	Close()
}

func newServer(ctx context.Context, b Broker, version string, check func(syscall.Conn) error) *server {
	s := &server{ctx: ctx, broker: b, maxWait: maxWait, lists: make(chan struct{}, maxLists)}
	s.subscribe = func() (subscription, error) { return b.Subscribe() }
	s.wire = varlink.NewServer(varlink.Service{
		Info:       func() varlink.Info { return varlink.Info{Product: "broker", Version: version} },
		Interfaces: []varlink.Interface{{Name: Interface, Description: description, Methods: s.methods()}},
		Check:      varlink.CheckOf(check),
	})
	s.wire.Bounds.Apart = maxWaits
	return s
}

func (s *server) methods() []varlink.Method {
	return []varlink.Method{
		s.method("List", s.list),
		s.method("Describe", about(s.describe)),
		s.method("Launch", about(s.launch)),
		s.method("Stop", about(s.stop)),
		s.method("Restart", about(s.restart)),
		s.method("Reset", about(s.reset)),
		s.method("Enable", about(s.enable)),
		s.method("Disable", about(s.disable)),
		s.method("Reload", s.reload),
		s.method("Upgrade", s.upgrade),
		s.method("Events", s.events),
		s.method("Metrics", s.metrics),
	}
}

// A request is a call that is being answered.
type request struct {
	*varlink.Peer
	call   varlink.Call
	fields *varlink.Fields
	name   string // of the service, if it is asked about one
}

// method is one that is only asked in a format that is spoken.
func (s *server) method(name string, answer func(*request) error) varlink.Method {
	return varlink.Method{Name: name, Answer: func(p *varlink.Peer, c varlink.Call) error {
		r := &request{Peer: p, call: c, fields: varlink.FieldsOf(c.Parameters)}
		format := r.fields.IntegerOr("format", Format)
		switch {
		case r.fields.Err != nil, format < 1:
			return r.invalid("format")
		case format != Format:
			return r.fail(errUnsupportedFormat, jsonlite.Member{Name: "wanted", Value: jsonlite.Int(format)},
				jsonlite.Member{Name: "supported", Value: jsonlite.Int(Format)})
		}
		return answer(r)
	}}
}

func (r *request) invalid(parameter string) error {
	return r.Fail(r.call, varlink.InvalidParameter, "parameter", parameter)
}

func (r *request) fail(err string, parameters ...jsonlite.Member) error {
	return r.FailWith(r.call, Interface+"."+err, jsonlite.Object(parameters...))
}

// failed replies with what an error of the broker means.
func (r *request) failed(err error) error {
	refused := &RefusedError{}
	switch {
	case errors.Is(err, varlink.ErrHungUp):
		return err
	case errors.Is(err, broker.ErrUnknown):
		return r.fail(errNoSuchService, jsonlite.Member{Name: "name", Value: jsonlite.String(r.name)})
	case errors.Is(err, broker.ErrEnded):
		return r.fail(errEnding)
	case !errors.As(err, &refused):
		refused.Reason = err.Error()
	}
	p := []jsonlite.Member{{Name: "reason", Value: jsonlite.String(varlink.Cut(refused.Reason, maxText))}}
	if !refused.RetryAt.IsZero() {
		p = append(p, jsonlite.Member{Name: "retry_at", Value: jsonlite.String(refused.RetryAt.UTC().Format(time.RFC3339Nano))})
	}
	return r.fail(errRefused, p...)
}

// reply replies with a struct.
func (r *request) reply(continues bool, v any) error {
	return r.Reply(r.call, continues, func(dst []byte) []byte { return append(dst, encode(v)...) })
}

// done replies that it is, or why not.
func (r *request) done(err error) error {
	if err != nil {
		return r.failed(err)
	}
	return r.reply(false, struct{}{})
}

// errWaited ends what was waited for too long.
var errWaited = errors.New("it takes too long to be waited for; what was begun goes on")

// wait does what may take a while, apart from those who ask, until the peer hangs up
// or the server closes.
func (s *server) wait(r *request, f func(context.Context) error) error {
	back, ok := r.Apart()
	if !ok {
		return errors.New("so many requests wait already: " + strconv.Itoa(s.wire.Bounds.Apart))
	}
	defer back()
	ctx, cancel := context.WithCancelCause(s.ctx)
	over := make(chan struct{})
	defer func() {
		cancel(nil)
		<-over
	}()
	late := time.NewTimer(s.maxWait)
	defer late.Stop()
	go func() {
		defer close(over)
		select {
		case <-r.Closing():
			cancel(broker.ErrEnded)
		case <-r.HungUp():
			cancel(varlink.ErrHungUp)
		case <-late.C:
			cancel(errWaited)
		case <-ctx.Done():
		}
	}()
	err := f(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		if s.ctx.Err() != nil {
			return broker.ErrEnded
		}
		return cause
	}
	return err
}

// ask has the broker do something, and waits for it.
func (s *server) ask(r *request, verb supervise.Verb) error {
	return s.wait(r, func(ctx context.Context) error {
		a, err := s.broker.Request(ctx, r.name, verb)
		if err != nil || a.Done {
			return err
		}
		refused := &RefusedError{Reason: a.Reason}
		if a.Retry != 0 {
			refused.RetryAt = time.Now().Add(a.Retry - proc.BootTime())
		}
		return refused
	})
}

// about is a method that is asked about a service.
func about(answer func(*request) error) func(*request) error {
	return func(r *request) error {
		r.name = r.fields.Text("name")
		if r.fields.Err != nil || definition.CheckName("name", r.name) != nil {
			return r.invalid("name")
		}
		return answer(r)
	}
}

func (s *server) stop(r *request) error { return r.done(s.ask(r, supervise.VerbStop)) }

func (s *server) reset(r *request) error { return r.done(s.ask(r, supervise.VerbReset)) }

func (s *server) enable(r *request) error {
	return r.done(s.wait(r, func(ctx context.Context) error { return s.broker.Enable(ctx, r.name) }))
}

func (s *server) disable(r *request) error {
	return r.done(s.wait(r, func(ctx context.Context) error { return s.broker.Disable(ctx, r.name) }))
}

func (s *server) reload(r *request) error { return r.done(s.wait(r, s.broker.Reload)) }

func (s *server) upgrade(r *request) error {
	var asker syscall.Conn
	if !r.call.Oneway {
		asker, _ = r.Conn().(syscall.Conn)
	}
	return r.done(s.wait(r, func(ctx context.Context) error { return s.broker.Upgrade(ctx, asker) }))
}

type upgradeReply struct {
	From Program `json:"from"`
	To   Program `json:"to"`
}

// TellUpgraded replies to a call of Upgrade that the program before this one has
// received at conn.
func TellUpgraded(conn net.Conn, from, to Program) error {
	if err := conn.SetWriteDeadline(time.Now().Add(varlink.DefaultWrite)); err != nil {
		return err
	}
	reply := encode(upgradeReply{from, to})
	_, err := conn.Write(varlink.AppendReply(nil, false, "", func(dst []byte) []byte { return append(dst, reply...) }))
	return err
}

func (s *server) restart(r *request) error { return s.run(r, supervise.VerbRestart) }

func (s *server) launch(r *request) error {
	verb := supervise.VerbLaunch
	if r.fields.Flag("ready") {
		verb = supervise.VerbReady
	}
	if r.fields.Err != nil {
		return r.invalid("ready")
	}
	return s.run(r, verb)
}

// run answers a method after which a generation runs.
func (s *server) run(r *request, verb supervise.Verb) error {
	if err := s.ask(r, verb); err != nil {
		return r.failed(err)
	}
	v, err := s.view(r.name)
	if err != nil {
		return r.failed(err)
	}
	return r.reply(false, serviceReply{serviceOf(v)})
}

type serviceReply struct {
	Service Service `json:"service"`
}

// view is what the broker has of a service.
func (s *server) view(name string) (broker.View, error) {
	list, err := s.broker.List(s.ctx, name)
	switch {
	case err != nil:
		return broker.View{}, err
	case len(list) == 0:
		return broker.View{}, broker.ErrUnknown
	}
	return list[0], nil
}

type describeReply struct {
	Service    Service `json:"service"`
	Definition []Field `json:"definition"`
	Cut        bool    `json:"cut"`
}

func (s *server) describe(r *request) error {
	v, err := s.view(r.name)
	if err != nil {
		return r.failed(err)
	}
	d := describeReply{Service: serviceOf(v)}
	for _, f := range v.Definition.Fields() {
		d.Definition = append(d.Definition, Field{f.Key, f.Value})
	}
	d.Definition, d.Cut = shorten(d.Definition, varlink.MaxFrame-maxAround-len(encode(d.Service)))
	return r.reply(false, d)
}

type listReply struct {
	Services []json.RawMessage `json:"services"`
}

func (s *server) list(r *request) error {
	return s.inParts(r, func() ([][]json.RawMessage, error) {
		list, err := s.broker.List(s.ctx)
		return parts(list, serviceOf), err
	}, func(part []json.RawMessage) any { return listReply{part} })
}

type metricsReply struct {
	Since    time.Time         `json:"since"`
	BoundsUS []int64           `json:"bounds_us"`
	Services []json.RawMessage `json:"services"`
	Quota    *Quota            `json:"quota,omitempty"`
}

func (s *server) metrics(r *request) error {
	var bounds []int64
	for _, b := range broker.Buckets {
		bounds = append(bounds, b.Microseconds())
	}
	var since time.Time
	var quota *Quota
	return s.inParts(r, func() ([][]json.RawMessage, error) {
		m, err := s.broker.Metrics(s.ctx)
		since, quota = utc(m.Since), quotaOf(m)
		return parts(m.Services, countsOf), err
	}, func(part []json.RawMessage) any { return metricsReply{since, bounds, part, quota} })
}

// inParts replies with a list in as many replies as it needs. All is made before the
// first of them is written, a few lists at a time: however many ask, and however slowly
// they read, they cost no more than its text.
func (s *server) inParts(r *request, list func() ([][]json.RawMessage, error), reply func([]json.RawMessage) any) error {
	select {
	case s.lists <- struct{}{}:
	case <-r.HungUp():
		return varlink.ErrHungUp
	case <-r.Closing():
		return r.failed(broker.ErrEnded)
	}
	parts, err := list()
	<-s.lists
	if err != nil {
		return r.failed(err)
	}
	if len(parts) > 1 && !r.call.More {
		return r.FailWith(r.call, varlink.ExpectedMore, jsonlite.Object())
	}
	for i, part := range parts {
		if err := r.reply(i < len(parts)-1, reply(part)); err != nil {
			return err
		}
		parts[i] = nil
	}
	return nil
}

// parts are the encoded elements of a list, as many in each part as a frame has room for.
func parts[E, S any](list []E, of func(E) S) [][]json.RawMessage {
	parts := [][]json.RawMessage{{}} // null would be no list
	room := varlink.MaxFrame - maxAround
	for _, e := range list {
		text := encode(of(e))
		if len(text) >= room && len(parts[len(parts)-1]) > 0 {
			parts, room = append(parts, nil), varlink.MaxFrame-maxAround
		}
		last := len(parts) - 1
		parts[last], room = append(parts[last], text), room-len(text)-1
	}
	return parts
}

type eventReply struct {
	Event *Event `json:"event,omitempty"`
	Lost  uint64 `json:"lost"`
}

func (s *server) events(r *request) error {
	names := r.fields.TextsOrNull("names")
	switch {
	case r.fields.Err != nil:
		return r.invalid("names")
	case !r.call.More:
		return r.FailWith(r.call, varlink.ExpectedMore, jsonlite.Object())
	}
	sub, err := s.subscribe()
	if err != nil {
		return r.failed(err)
	}
	defer sub.Close()
	return r.failed(s.wait(r, func(ctx context.Context) error { return tell(ctx, r, sub, names) }))
}

// tell replies with events until ctx ends, or the peer does not read them: then there
// is no use in telling it why.
func tell(ctx context.Context, r *request, sub subscription, names []string) error {
	if r.reply(true, eventReply{}) != nil {
		return varlink.ErrHungUp
	}
	var lost uint64
	for {
		n, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		lost += n.Lost
		if len(names) > 0 && !slices.Contains(names, n.Service) {
			continue
		}
		e := eventOf(n)
		if r.reply(true, eventReply{&e, lost}) != nil {
			return varlink.ErrHungUp
		}
		lost = 0
	}
}
