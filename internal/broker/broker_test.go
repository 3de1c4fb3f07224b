//go:build linux

package broker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
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
	ended  chan error
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

// run starts a broker that holds the services.
func (w *world) run(services ...Service) {
	w.t.Helper()
	holder, err := os.MkdirTemp(w.dir, "holder")
	if err != nil {
		w.t.Fatal(err)
	}
	life, err := launch.CreateLife(holder)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.broker, err = New(Config{Env: w.env, Client: w.client, Holder: holder}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.ended = make(chan error, 1)
	go func() {
		defer life.Close()
		w.ended <- w.broker.Run(ctx, services)
	}()
	w.end = cancel
	for _, s := range services {
		name := s.Definition.Service
		if s.Definition.Foreign && len(w.living(name)) > 0 {
			continue // it serves on, and hands nothing over
		}
		w.eventually(name+" is held", func() bool {
			_, err := os.Lstat(w.sock(name))
			return err == nil && launch.Holder(filepath.Dir(w.sock(name))) != ""
		})
	}
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
func (w *world) ask(name string) (string, error) {
	conn, err := net.Dial("unix", w.sock(name))
	if err != nil {
		return "", err
	}
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
	for range kills {
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
	if asked < 4*kills || cut > kills*8 {
		t.Errorf("%d requests, %d cut", asked, cut)
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
		if err := launch.AskToEnd(e, h); err != nil {
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
