//go:build linux

package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
)

// TestNoGapQueued: who was not accepted by a daemon that is killed is served by the
// next one, all of them. A daemon that is stopped before it is killed accepts nobody, so
// it is known who these are; others, who ask all the time, may have been accepted, at
// most one for each loop and kill. Nobody is refused.
func TestNoGapQueued(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	const loops, queued, kills = 8, 24, 6
	var (
		mu       sync.Mutex
		stopped  bool // whoever begins now cannot be accepted by the one that is killed
		served   int  // requests of loops since the last kill
		asked    int
		cut      int
		queues   int
		slowest  time.Duration
		finished atomic.Bool
	)
	ask := func() (unaccepted bool, err error) {
		mu.Lock()
		unaccepted = stopped
		mu.Unlock()
		_, err = w.ask("b")
		return unaccepted, err
	}
	var group sync.WaitGroup
	for range loops {
		group.Go(func() {
			for !finished.Load() {
				unaccepted, err := ask()
				mu.Lock()
				asked++
				switch {
				case err == nil:
					served++
				case unaccepted:
					t.Errorf("who was queued is not served: %v", err)
				case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
					cut++
				default:
					t.Errorf("refused: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	for range kills {
		w.eventually("everybody is served", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return served >= 4*loops
		})
		w.eventually("one serves", func() bool { return len(w.living("b")) == 1 && w.living("b")[0].Record.WasReady })
		e := w.living("b")[0]
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		w.eventually("it is stopped", func() bool { return state(e.Record.PID) == "T" })
		mu.Lock()
		stopped = true
		mu.Unlock()
		var wait sync.WaitGroup
		var connected atomic.Int32
		for range queued {
			wait.Go(func() {
				conn, err := net.Dial("unix", w.sock("b"))
				if err != nil {
					t.Errorf("refused: %v", err)
					return
				}
				connected.Add(1)
				at := time.Now()
				reply, err := request(conn)
				if err != nil || strings.Contains(reply, strconv.Itoa(e.Record.PID)) {
					t.Errorf("who was queued has %q, %v", reply, err)
				}
				mu.Lock()
				slowest = max(slowest, time.Since(at))
				queues++
				mu.Unlock()
			})
		}
		w.eventually("all wait", func() bool { return connected.Load() == queued || t.Failed() })
		if err := h.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		stopped, served = false, 0
		mu.Unlock()
		_ = h.Close()
		wait.Wait()
	}
	finished.Store(true)
	group.Wait()
	t.Logf("%d requests of %d loops and %d kills, %d cut with who had accepted them; %d queued before a kill, all served, the last %v after it came; %d execs",
		asked, loops, kills, cut, queues, slowest.Round(time.Millisecond), w.execs())
	if cut > kills*loops || queues != kills*queued {
		t.Errorf("%d cut, %d served of those who were queued", cut, queues)
	}
	if n := w.execs(); n != kills+1 {
		t.Errorf("%d execs, want one for each kill and the first", n)
	}
}

// state is the letter of a process's state, proc_pid_stat(5).
func state(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// TestCrashAtStart: a definition that crashes at start has at most three starts in
// 30 s, whoever asks how often. Clients are answered at once, those who can be told
// with the reason, and the broker rests.
func TestCrashAtStart(t *testing.T) {
	for name, service := range map[string]func(*world) Service{
		"backend": func(w *world) Service { return w.backend("b", "-exit=load") },
		"foreign": func(w *world) Service {
			return w.service(definition.Definition{Service: "b", Foreign: true, Env: []string{"TESTPROG_EXECS"},
				Command: []string{"/bin/sh", "-c", `echo $$ >>"$TESTPROG_EXECS"; echo the index is broken; exit 7`}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := service(w)
			w.run(s)
			l := launch.NewBroker(w.env, s.Definition, w.client)
			began := time.Now()
			plain, dials := 0, 0
			var took []time.Duration // by a client, and then a dial
			for time.Since(began) < 8*time.Second {
				at := time.Now()
				if reply, err := w.ask("b"); err == nil {
					t.Fatalf("it answered %q", reply)
				}
				plain++
				if w.execs() >= 3 { // before, a dial may be connected, and see the end of it
					ctx, cancel := context.WithTimeout(t.Context(), deadline)
					conn, err := l.Dial(ctx, time.Now())
					cancel()
					var f *launch.Fault
					switch {
					case err == nil:
						_ = conn.Close() // the third is not dead yet
					case !errors.As(err, &f), f.Class != launch.Refusal && f.Class != launch.LaunchFailed:
						t.Fatalf("a dial says %v", err)
					case f.Class == launch.Refusal && (f.RetryAt.IsZero() || time.Until(f.RetryAt) > 30*time.Second || len(f.LogTail) == 0):
						t.Fatalf("a dial says %v, again at %v, log %q", f, f.RetryAt, f.LogTail)
					}
					dials++
				}
				took = append(took, time.Since(at))
				time.Sleep(5 * time.Millisecond)
			}
			slices.Sort(took)
			slowest := took[len(took)-1]
			if n := w.execs(); n != 3 {
				t.Errorf("%d starts, want 3", n)
			}
			// Now nobody asks. What the process uses is the broker's.
			const rest = 5 * time.Second
			before := usage(t)
			time.Sleep(rest)
			after := usage(t)
			cpu, wakes := after.cpu-before.cpu, after.wakes-before.wakes
			t.Logf("%d starts; %d clients and %d dials, one after the other, half of the pairs answered after %v, the slowest after %v; then in %v of rest %v of processor time, %d wake-ups",
				w.execs(), plain, dials, took[len(took)/2].Round(time.Microsecond), slowest.Round(time.Microsecond), rest, cpu, wakes)
			if cpu > rest/20 || wakes > 100 {
				t.Errorf("the broker does not rest")
			}
			if slowest > 5*time.Second { // a client that waits for a launch that nobody makes waits for ever
				t.Errorf("a client was answered after %v", slowest)
			}
		})
	}
}

type used struct {
	cpu   time.Duration
	wakes int64 // how often a thread slept
}

// usage is what this process has used.
func usage(t *testing.T) used {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return used{time.Duration(r.Utime.Nano() + r.Stime.Nano()), int64(r.Nvcsw)}
}
