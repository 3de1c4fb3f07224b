//go:build linux

package broker

import (
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// hold asks the generation that serves for a hold of its own.
func (w *world) hold(name string) (*control.Client, error) {
	w.t.Helper()
	e, ok := w.serving(name)
	if !ok {
		return nil, context.Canceled
	}
	dir := filepath.Dir(w.sock(name))
	c, err := launch.DialControl(w.t.Context(), runtimedir.Place{Dir: dir, Addr: dir}, e.Name)
	if err != nil {
		return nil, err
	}
	f, err := c.Hold(w.t.Context(), "")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = f.Close()
	return c, nil
}

func (w *world) serving(name string) (launch.Entry, bool) {
	dir := filepath.Dir(w.sock(name))
	entries, _ := launch.Generations(dir)
	return launch.Serving(dir, entries)
}

// holdTaken waits until the broker has the hold of who serves, who is not number.
func (w *world) holdTaken(name string, not uint64) {
	w.t.Helper()
	w.eventually("the broker has the hold", func() bool {
		if e, ok := w.serving(name); !ok || e.Number == not {
			return false
		}
		c, err := w.hold(name)
		if err == nil {
			_ = c.Close()
			return false
		}
		return strings.Contains(err.Error(), "another broker holds")
	})
}

func (w *world) signal(name string, sig syscall.Signal) {
	w.t.Helper()
	e, ok := w.serving(name)
	if !ok {
		w.t.Fatal("nobody serves")
	}
	h, err := e.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	_ = h.Signal(sig)
	if err := h.Wait(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) unlink(name string) {
	w.t.Helper()
	for _, n := range []string{"sock", "keep"} {
		if err := syscall.Unlink(filepath.Join(filepath.Dir(w.sock(name)), n)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestHoldOfLaunched: whom the broker launches knows for longer than it was promised that
// its queue is the broker's.
func TestHoldOfLaunched(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	w.must("b")
	w.holdTaken("b", 0)
}

// TestAdoptAfterAnother: the holder before has died, and the daemon has not seen that
// yet: the next broker asks again.
func TestAdoptAfterAnother(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	conn, err := launch.NewBroker(w.env, s.Definition, w.client).Dial(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	var other *control.Client
	w.eventually("it can be held", func() bool { other, err = w.hold("b"); return err == nil })
	time.AfterFunc(300*time.Millisecond, func() { _ = other.Close() })
	w.run(s)
	w.holdTaken("b", 0)
}

// TestSuccessorOfAnother: a client has replaced the daemon. The broker holds what the
// successor serves, and that one's end is no gap.
func TestSuccessorOfAnother(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	w.run(s)
	w.must("b")
	w.holdTaken("b", 0)
	e, _ := w.serving("b")
	if err := launch.NewBroker(w.env, s.Definition, w.client).Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.holdTaken("b", e.Number)
	w.signal("b", syscall.SIGTERM)
	w.must("b")
	w.holdTaken("b", e.Number+1)
}

// TestNamesDeleted: R11. Where both names are gone, whoever serves ends; the broker holds
// what a client has launched there, or binds anew.
func TestNamesDeleted(t *testing.T) {
	for _, launched := range []bool{false, true} {
		w := newWorld(t)
		s := w.backend("b")
		w.run(s)
		w.must("b")
		w.holdTaken("b", 0)
		e, _ := w.serving("b")
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		w.unlink("b")
		if launched {
			conn, err := launch.NewBroker(w.env, s.Definition, w.client).Dial(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
		w.eventually("there is a name again", func() bool { _, err := w.ask("b"); return err == nil })
		w.holdTaken("b", e.Number)
		w.signal("b", syscall.SIGKILL)
		w.must("b")
	}
}
