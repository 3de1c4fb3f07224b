//go:build unix

package e2e

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
)

// crowd releases n client processes together and returns their lines.
func (w *world) crowd(n int, during func(), args ...string) []string {
	w.t.Helper()
	gate, release, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	type end struct {
		out *bytes.Buffer
		err error
	}
	ends := make(chan end, n)
	for range n {
		cmd := w.command("testprog", append([]string{"dial", "-gate", "-timeout=100s"}, args...)...)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = gate, &out, &out
		if err := cmd.Start(); err != nil {
			w.t.Fatal(err)
		}
		stop := context.AfterFunc(w.t.Context(), func() { _ = cmd.Process.Kill() })
		go func() {
			err := cmd.Wait()
			stop()
			ends <- end{&out, err}
		}()
	}
	_ = gate.Close()
	_ = release.Close()
	if during != nil {
		during()
	}
	var lines []string
	for range n {
		e := <-ends
		line := strings.TrimSpace(e.out.String())
		if e.err != nil {
			w.t.Errorf("a client failed: %v: %s", e.err, line)
		}
		lines = append(lines, line)
	}
	return lines
}

// onePID fails unless every client was answered by one process.
func (w *world) onePID(lines []string) {
	w.t.Helper()
	pids := map[string]int{}
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) < 2 || f[0] != "ok" {
			w.t.Errorf("a client was not served: %q", l)
			continue
		}
		pids[f[1]]++
	}
	if len(pids) != 1 {
		w.t.Errorf("answered by several daemons: %v", pids)
	}
}

// TestCrowd: R1, R7, R9. However many processes dial at once, one daemon is
// executed and nobody fails, whatever was there before.
func TestCrowd(t *testing.T) {
	for _, c := range []struct{ clients, rounds int }{{32, 10}, {100, 20}, {1000, 1}} {
		t.Run(strconv.Itoa(c.clients), func(t *testing.T) {
			t.Run("no daemon", func(t *testing.T) {
				w := newWorld(t)
				for range c.rounds {
					before := w.execs()
					w.onePID(w.crowd(c.clients, nil))
					if n := w.execs() - before; n != 1 {
						t.Fatalf("%d execs in a round, want 1", n)
					}
					w.must("stop")
				}
			})
			t.Run("stale socket", func(t *testing.T) {
				w := newWorld(t)
				for range c.rounds {
					w.dial()
					w.kill9("t")
					before := w.execs()
					w.onePID(w.crowd(c.clients, nil))
					if n := w.execs() - before; n != 1 {
						t.Fatalf("%d execs in a round, want 1", n)
					}
				}
			})
			t.Run("killed in the middle", func(t *testing.T) {
				w := newWorld(t)
				for range c.rounds {
					old := w.dial()
					before := w.execs()
					// Who was connected to the killed daemon is told so, typed,
					// and dials again until the kernel has let go of its
					// listener; nobody is told anything else.
					lines := w.crowd(c.clients, func() { w.kill9("t") }, "-retry")
					// All may have been answered before the kill: one client that
					// comes after it makes it one exec, whoever was first.
					next := w.dial()
					if n := w.execs() - before; n != 1 || next == old {
						t.Fatalf("%d execs in a round, want 1; daemon %s answered before, %s after", n, old, next)
					}
					for _, l := range lines {
						if f := strings.Fields(l); len(f) < 2 || f[0] != "ok" || f[1] != old && f[1] != next {
							t.Errorf("a client was told %q; the daemons were %s and %s", l, old, next)
						}
					}
				}
			})
		})
	}
}

// TestGoroutines: R1. A thousand goroutines of one process share one launch and
// hold no thread while they wait.
func TestGoroutines(t *testing.T) {
	w := newWorld(t)
	out := strings.Split(w.must("dial", "-n=1000", "-load=300ms"), "\n")
	threads := strings.Fields(out[len(out)-1])
	if n, err := strconv.Atoi(threads[len(threads)-1]); err != nil || n >= 50 {
		t.Errorf("%v threads, want fewer than 50", threads)
	}
	w.onePID(out[:len(out)-1])
	if len(out) != 1001 || w.execs() != 1 {
		t.Errorf("%d answers and %d execs, want 1000 and 1", len(out)-1, w.execs())
	}
	w.kill9("t")
	out = strings.Split(w.must("dial", "-n=1000"), "\n")
	if w.onePID(out[:len(out)-1]); w.execs() != 2 {
		t.Errorf("%d execs after a kill, want 2", w.execs())
	}
}
