//go:build linux

package broker

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

const deadline = 2 * time.Minute

// built are the programs, FASTBIND_TEST_PROGRAMS where there is no Go to build them.
var built = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("FASTBIND_TEST_PROGRAMS"); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "fastbind-broker-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../testprog", "../../e2e/testdata/plaind", "./testdata/notifyd").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return dir, nil
})

// A world is a runtime directory of its own, and a broker in this process.
type world struct {
	t      *testing.T
	dir    string
	bin    string
	env    runtimedir.Env
	broker *Broker
	end    context.CancelFunc

	patience time.Duration // of the broker, 0: its own
	ended    chan error
	blind    bool   // the system grants no watch of names
	config   Config // of the next broker, but what all have
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, bin: bin, env: runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}}
	t.Cleanup(func() {
		w.stop()
		dirs, _ := filepath.Glob(w.dir + "/run/default/*")
		for _, d := range dirs {
			entries, _ := launch.Generations(d)
			for _, e := range entries {
				if h, err := e.Open(); err == nil {
					_ = h.Signal(syscall.SIGKILL)
					_ = h.Wait(context.Background())
					_ = h.Close()
				}
				if p, err := limit.ParsePlace(e.Record.Place); err == nil && p.By != limit.None {
					left := limit.Adopt(p, 0, limit.Wanted{}, limit.Available{})
					ctx, cancel := context.WithTimeout(context.Background(), deadline)
					if err := left.Remove(ctx); err != nil {
						t.Error(err)
					}
					cancel()
				}
			}
		}
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	return w
}

func (w *world) client() []string {
	return []string{"HOME=" + w.dir, "PATH=" + os.Getenv("PATH"), "TESTPROG_EXECS=" + w.dir + "/execs"}
}

// run starts a broker, and returns when it holds the services.
func (w *world) run(services ...Service) {
	w.t.Helper()
	w.start(services...)
	for _, s := range services {
		name := s.Definition.Service
		if s.Definition.Foreign && len(w.living(name)) > 0 {
			continue // it serves on, and hands nothing over
		}
		w.eventually(name+" is held", func() bool { return w.isHeld(name) })
	}
}

func (w *world) isHeld(name string) bool {
	_, err := os.Lstat(w.sock(name))
	return err == nil && launch.Holder(filepath.Dir(w.sock(name))) != ""
}

func (w *world) start(services ...Service) {
	w.t.Helper()
	holder, err := os.MkdirTemp(w.dir, "holder")
	if err != nil {
		w.t.Fatal(err)
	}
	life, err := launch.CreateLife(holder)
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually("there is an inotify instance, of which other tests have all for moments", func() bool {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
		_ = unix.Close(fd)
		return err == nil
	})
	c := w.config
	c.Env, c.Client, c.Holder = w.env, w.client, holder
	if w.broker, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	w.broker.patience = cmp.Or(w.patience, w.broker.patience)
	if w.blind {
		_ = w.broker.files.Close()
		w.broker.files = nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.ended = make(chan error, 1)
	go func() {
		defer life.Close()
		w.ended <- w.broker.Run(ctx, services)
	}()
	w.end = cancel
}

func (w *world) stop() {
	if w.end != nil {
		w.end()
		if err := <-w.ended; err != nil {
			w.t.Error(err)
		}
		w.end = nil
	}
}

func (w *world) sock(name string) string { return w.dir + "/run/default/" + name + "/sock" }

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(deadline); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within the test's deadline: %s", what)
		}
	}
}

func (w *world) execs() int {
	b, _ := os.ReadFile(w.dir + "/execs")
	return bytes.Count(b, []byte("\n"))
}

// backend is a service that testprog serves.
func (w *world) backend(name string, args ...string) Service {
	return w.service(definition.Definition{Service: name, Command: append([]string{w.bin + "/testprog", "daemon"}, args...),
		Env: []string{"TESTPROG_EXECS"}})
}

func (w *world) foreign(name string, args ...string) Service {
	return w.service(definition.Definition{Service: name, Command: append([]string{w.bin + "/plaind"}, args...), Foreign: true})
}

func (w *world) service(d definition.Definition) Service {
	w.t.Helper()
	d = d.Complete()
	if err := d.Check(); err != nil {
		w.t.Fatal(err)
	}
	p := supervise.Policy{HangAfter: d.HangAfter, OnHang: d.OnHang, StopWithin: d.StopWithin}.Complete()
	if err := p.Check(); err != nil {
		w.t.Fatal(err)
	}
	return Service{Definition: d, Policy: p}
}

// ask makes a connection that knows nothing of fastbind, and asks once.
func (w *world) ask(name string) (string, error) { return w.askPath(w.sock(name)) }

func (w *world) askPath(path string) (string, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return "", err
	}
	return request(conn)
}

// request asks once, and closes the connection.
func request(conn net.Conn) (string, error) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(conn, "7\n"); err != nil {
		return "", err
	}
	reply, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(reply), err
}

func (w *world) must(name string) string {
	w.t.Helper()
	reply, err := w.ask(name)
	if err != nil {
		w.t.Fatalf("%v %s: %v", time.Now(), name, err)
	}
	return reply
}

func (w *world) living(name string) []launch.Entry {
	entries, _ := launch.Generations(filepath.Dir(w.sock(name)))
	var alive []launch.Entry
	for _, e := range entries {
		if e.Alive {
			alive = append(alive, e)
		}
	}
	return alive
}

// kill9 kills the daemon of a service and waits for its death.
func (w *world) kill9(name string) {
	w.t.Helper()
	w.eventually("one serves", func() bool { return len(w.living(name)) == 1 })
	h, err := w.living(name)[0].Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	_ = h.Signal(syscall.SIGKILL)
	if err := h.Wait(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// TestActivation: nothing runs until the first connection, which is served, and the
// next one by the same daemon.
func TestActivation(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"), w.foreign("f"))
	for _, name := range []string{"b", "f"} {
		if n := len(w.living(name)); n != 0 {
			t.Errorf("%s: %d generations before anybody came", name, n)
		}
		s, err := launch.NewBroker(w.env, w.backend(name).Definition, w.client).Inspect(t.Context())
		if err != nil || !s.Held || s.Alive() {
			t.Errorf("%s: held %v, alive %v, %v", name, s.Held, s.Alive(), err)
		}
		if n := len(w.living(name)); n != 0 {
			t.Errorf("%s: looking at it launched it", name)
		}
		first := w.must(name)
		if again := w.must(name); name == "b" && again != first {
			t.Errorf("%s: %q, then %q", name, first, again)
		}
		if n := len(w.living(name)); n != 1 {
			t.Errorf("%s: %d generations", name, n)
		}
	}
}

// TestNoGap: requests by plain sockets all along, while the daemon is killed, and
// leaves for want of clients: none is refused, and who was not accepted is served by
// the next one.
func TestNoGap(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	ctx, cancel := context.WithCancel(t.Context())
	var loops sync.WaitGroup
	var mu sync.Mutex
	asked, cut := 0, 0
	for range 8 {
		loops.Go(func() {
			for ctx.Err() == nil {
				_, err := w.ask("b")
				mu.Lock()
				asked++
				switch {
				case err == nil:
				case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
					cut++ // accepted by the one that was killed
				default:
					t.Errorf("refused: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	const kills = 10
	served := func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked - cut
	}
	for range kills {
		was := served()
		w.eventually("some are served again", func() bool { return served() > was+8 })
		w.eventually("one serves", func() bool { return len(w.living("b")) == 1 && w.living("b")[0].Record.WasReady })
		e := w.living("b")[0]
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		_ = h.Signal(syscall.SIGKILL)
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
	}
	cancel()
	loops.Wait()
	t.Logf("%d requests, %d cut with a killed daemon, %d execs", asked, cut, w.execs())
	if cut > kills*8 {
		t.Errorf("%d cut", cut)
	}
}

// TestIdleExit: R23. A daemon that leaves for want of clients leaves its queue to the
// broker: clients that know nothing of fastbind meet no gap.
func TestIdleExit(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	s.Definition.IdleExit = time.Millisecond // and a second until the first client
	w.run(s)
	const asks = 300
	for i := range asks {
		w.must("b")
		time.Sleep(time.Duration(i%5) * time.Millisecond)
	}
	t.Logf("%d requests, %d execs", asks, w.execs())
	if w.execs() < 3 {
		t.Error("it did not leave between them")
	}
}

// TestBudget: a daemon that dies at once is launched three times, and then its
// clients are refused at once, with the reason for those who can be told.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b", "-exit=load")
	w.run(s)
	for range 20 {
		if reply, err := w.ask("b"); err == nil {
			t.Fatalf("it answered %q", reply)
		}
	}
	if n := w.execs(); n != 3 {
		t.Errorf("%d execs, want 3", n)
	}
	b := launch.NewBroker(w.env, s.Definition, w.client)
	_, err := b.Dial(t.Context(), time.Now())
	var f *launch.Fault
	if !errors.As(err, &f) || f.Class != launch.Refusal || f.RetryAt.IsZero() {
		t.Errorf("a dial says %v", err)
	}
}

// TestDisposable: when the broker ends its daemons serve on; the next broker holds
// them again, and who dials in between launches what did not run.
func TestDisposable(t *testing.T) {
	w := newWorld(t)
	services := []Service{w.backend("b"), w.foreign("f"), w.backend("idle")}
	w.run(services...)
	first := w.must("b")
	w.must("f")
	w.stop()
	if got := w.must("b"); got != first {
		t.Errorf("%q, then %q", first, got)
	}
	w.must("f")
	if _, err := w.ask("idle"); err == nil {
		t.Error("somebody serves what did not run, and whose broker is gone")
	}
	l := launch.NewBroker(w.env, services[2].Definition, w.client)
	conn, err := l.Dial(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()

	w.run(services...)
	for _, name := range []string{"b", "idle"} {
		was := w.must(name)
		e := w.living(name)[0]
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := launch.AskToEnd(t.Context(), runtimedir.Place{}, e, h); err != nil {
			t.Fatal(err)
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
		if now := w.must(name); now == was {
			t.Errorf("%s: %q again", name, now)
		}
	}
}

// askAt is ask at a further endpoint.
func (w *world) askAt(name, endpoint string) (string, error) {
	return w.askPath(w.sock(name) + "-" + endpoint)
}

// TestFurtherEndpoints: whoever connects at any endpoint activates the daemon, which
// answers at all of them; who waits at one while it is dead is served by the next one.
func TestFurtherEndpoints(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f", "-pid")
	s.Definition.Endpoints = []string{"admin", "m-1"}
	w.run(s)
	at := func(endpoint string) string {
		t.Helper()
		reply, err := w.askAt("f", endpoint)
		if err != nil {
			t.Fatalf("at %s: %v", endpoint, err)
		}
		return reply
	}
	if n := len(w.living("f")); n != 0 {
		t.Fatalf("%d generations before anybody came", n)
	}
	status, err := launch.NewBroker(w.env, s.Definition, w.client).Inspect(t.Context())
	if err != nil || !slices.Equal(status.Further, s.Definition.Endpoints) {
		t.Errorf("status names %q: %v", status.Further, err)
	}
	var last string
	for _, first := range []string{"m-1", "admin", "m-1"} {
		reply := at(first)
		pid, _, _ := strings.Cut(reply, " ")
		if reply != pid+" "+first+" 7" || pid == last {
			t.Errorf("at %s: %q after %s", first, reply, last)
		}
		last = pid
		if got := w.must("f"); got != pid+" 7" {
			t.Errorf("at the first: %q, not %s", got, pid)
		}
		for _, n := range s.Definition.Endpoints {
			if got := at(n); got != pid+" "+n+" 7" {
				t.Errorf("at %s: %q, not %s", n, got, pid)
			}
		}
		w.kill9("f")
	}

	// A name that is deleted is put back when the daemon is launched, from the second
	// one; an endpoint that has lost both is bound anew.
	for _, names := range [][]string{{"sock-admin"}, {"sock-admin", "keep-admin"}} {
		w.eventually("it is held", func() bool { return len(w.living("f")) == 0 })
		for _, n := range names {
			if err := os.Remove(filepath.Dir(w.sock("f")) + "/" + n); err != nil {
				t.Fatal(err)
			}
		}
		at("m-1")
		at("admin")
		w.kill9("f")
	}

	// The broker may go: the daemon serves on, and another one binds all anew after it.
	at("admin")
	w.stop()
	at("admin")
	w.must("f")
	w.run(s)
	at("m-1")
	w.kill9("f")
	w.eventually("another daemon is at the further endpoint", func() bool {
		_, err := w.askAt("f", "admin")
		return err == nil
	})
}

// TestFurtherChange: further endpoints that are added to a definition, or taken out of
// it, are there, or not, from the next launch on. Nobody who waits at another is lost.
func TestFurtherChange(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f", "-pid")
	s.Definition.Endpoints = []string{"old", "admin"}
	w.run(s)
	if _, err := w.askAt("f", "old"); err != nil {
		t.Fatal(err)
	}
	changed := s
	changed.Definition.Endpoints = []string{"admin", "new"}
	if err := w.broker.Set(t.Context(), []Service{changed}); err != nil {
		t.Fatal(err)
	}
	if reply, err := w.askAt("f", "old"); err != nil || !strings.HasSuffix(reply, " old 7") {
		t.Errorf("of what runs: %q, %v", reply, err)
	}
	// Somebody waits in a queue while it is replaced.
	e := w.living("f")[0]
	h, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w.halt(h.PID())
	waiting := make(chan string, 1)
	go func() {
		reply, err := w.askAt("f", "admin")
		waiting <- fmt.Sprint(reply, " ", err)
	}()
	w.eventually("somebody waits", func() bool {
		list, err := w.broker.List(t.Context())
		return err == nil && list[0].Waiting > 0
	})
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-waiting; !strings.HasSuffix(got, " admin 7 <nil>") {
		t.Errorf("who waited meanwhile: %s", got)
	}
	if reply, err := w.askAt("f", "new"); err != nil || !strings.HasSuffix(reply, " new 7") {
		t.Errorf("at the new one: %q, %v", reply, err)
	}
	if _, err := w.askAt("f", "old"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("at the old one: %v", err)
	}
	w.must("f")
}

// locked holds the launch lock of a service that was not launched yet.
func (w *world) locked(name string) (release func()) {
	w.t.Helper()
	dir := filepath.Dir(w.sock(name))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if ok, err := lock.Try(f); !ok {
		w.t.Fatal("the lock is held", err)
	}
	return sync.OnceFunc(func() { _ = lock.Release(f) })
}

// TestBoundFirst: no daemon is launched before all endpoints are bound, though its own
// is and somebody waits there.
func TestBoundFirst(t *testing.T) {
	w := newWorld(t)
	release := w.locked("z")
	defer release()
	w.patience = deadline
	w.start(w.foreign("a", "-ask", w.sock("z")), w.foreign("z"))
	w.eventually("a is held", func() bool { return w.isHeld("a") })
	first := make(chan string, 1)
	go func() {
		reply, err := w.ask("a")
		first <- fmt.Sprint(reply, " ", err)
	}()
	w.eventually("a is about to be launched", func() bool {
		list, err := w.broker.List(t.Context())
		return err == nil && list[0].State == supervise.Launching
	})
	time.Sleep(50 * time.Millisecond)
	if entries, _ := launch.Generations(filepath.Dir(w.sock("a"))); len(entries) != 0 {
		t.Error("a was launched before z was bound")
	}
	release()
	if got := <-first; got != "7 <nil>" {
		t.Errorf("the first client heard %q", got)
	}
	if entries, _ := launch.Generations(filepath.Dir(w.sock("a"))); len(entries) != 1 {
		t.Errorf("%d launches of a, want 1", len(entries))
	}
}

// TestBoundLate: one that cannot be bound, because somebody does not give the launch
// lock back, keeps no daemon of the others from being launched.
func TestBoundLate(t *testing.T) {
	w := newWorld(t)
	release := w.locked("z")
	defer release()
	w.start(w.foreign("a"), w.foreign("z"))
	w.eventually("a is held", func() bool { return w.isHeld("a") })
	w.must("a")
	if w.isHeld("z") {
		t.Error("z is held, though somebody else has its lock")
	}
	release()
	w.eventually("z is held", func() bool { return w.isHeld("z") })
}

// TestNoStartOrder: services that need each other are started by whoever comes first
// to any of them: all endpoints are there before any daemon is, and a daemon that
// connects to another one at its start launches it, and waits at most for its answer.
func TestNoStartOrder(t *testing.T) {
	for _, first := range []string{"a", "b"} {
		t.Run(first, func(t *testing.T) {
			w := newWorld(t)
			a := w.foreign("a", "-pid", "-ask", w.sock("b")+"-admin")
			b := w.foreign("b", "-pid", "-ask", w.sock("a"))
			b.Definition.Endpoints = []string{"admin"}
			w.run(a, b)
			w.must(first)
			for _, name := range []string{"a", "b"} {
				w.eventually(name+" was answered", func() bool {
					log, _ := os.ReadFile(w.dir + "/state/default/" + name + ".log")
					return bytes.Contains(log, []byte("asked at start <nil>"))
				})
				if n := len(w.living(name)); n != 1 {
					t.Errorf("%d daemons of %s", n, name)
				}
			}
		})
	}
}

// TestIdleExitLongAfter: a backend that was launched for a broker knows that it is held
// for as long as it runs: when it ends by itself the queue stays ours, and nobody is
// launched before somebody comes.
func TestIdleExitLongAfter(t *testing.T) {
	w := newWorld(t)
	s := w.backend("idle")
	s.Definition.IdleExit = 11 * time.Second // longer than a daemon waits for a broker to come
	w.run(s)
	if _, err := w.broker.Request(t.Context(), "idle", supervise.VerbReady); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended", func() bool { return len(w.living("idle")) == 0 })
	time.Sleep(500 * time.Millisecond) // for a launch that is not to come
	if n := w.execs(); n != 1 {
		t.Errorf("%d launches, though nobody came", n)
	}
	conn, err := net.Dial("unix", w.sock("idle"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
