//go:build linux

package broker

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// A waiter has connected while the broker could not launch, and waits for its reply.
type waiter struct {
	reply string
	err   error
}

// queued has a client wait at each service, of which the broker launches none: its
// workers rest.
func (w *world) queued(names ...string) map[string]chan waiter {
	w.t.Helper()
	if err := w.broker.workers.rest(w.t.Context(), &w.broker.under); err != nil {
		w.t.Fatal(err)
	}
	waiters := map[string]chan waiter{}
	for _, name := range names {
		c := make(chan waiter, 1)
		go func() {
			reply, err := w.ask(name)
			c <- waiter{reply, err}
		}()
		waiters[name] = c
		w.eventually(name+" is to be launched", func() bool { return w.view(name).State == supervise.Launching })
	}
	return waiters
}

// open returns the process of who serves; it is closed with the test.
func (w *world) open(name string) *proc.Handle {
	w.t.Helper()
	e, ok := w.serving(name)
	if !ok {
		w.t.Fatal("nobody serves")
	}
	h, err := e.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = h.Close() })
	return h
}

// TestLeaveWaiting: whoever waits where nobody serves when the broker ends is served by
// a daemon that is launched for that.
func TestLeaveWaiting(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"), w.foreign("f"), w.backend("idle"))
	waiters := w.queued("b", "f")
	w.stop()
	for name, c := range waiters {
		if got := <-c; got.err != nil {
			t.Errorf("%s: %v", name, got.err)
		}
		if n := len(w.living(name)); n != 1 {
			t.Errorf("%s: %d generations", name, n)
		}
	}
	if n := len(w.living("idle")); n != 0 {
		t.Error("what nobody waited for was launched")
	}
}

// TestLetGoWaiting: so it is when the broker lets a service go.
func TestLetGoWaiting(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"), w.foreign("f"))
	waiters := w.queued("b", "f")
	if err := w.broker.Set(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range waiters {
		if got := <-c; got.err != nil {
			t.Errorf("%s: %v", name, got.err)
		}
		w.eventually(name+" is held no more", func() bool { return !w.isHeld(name) })
	}
}

// TestLeaveHopeless: who waits at the end for what cannot be launched learns why.
func TestLeaveHopeless(t *testing.T) {
	w := newWorld(t)
	s := w.service(definition.Definition{Service: "b", Command: []string{w.dir + "/missing"}})
	w.run(s)
	if err := w.broker.workers.rest(w.t.Context(), &w.broker.under); err != nil {
		w.t.Fatal(err)
	}
	b := launch.NewBroker(w.env, s.Definition, w.client)
	began := time.Now()
	raw, err := b.Dial(t.Context(), began)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var c launch.Conn
	b.Watch(&c, raw, began)
	w.stop()
	_ = c.SetDeadline(time.Now().Add(deadline))
	_, err = c.Read(make([]byte, 1))
	if f, ok := errors.AsType[*launch.Fault](err); !ok || f.Class != launch.LaunchFailed || f.Stage != launch.StageExecutable {
		t.Errorf("who waited was told %v", err)
	}
}

// TestRefusingIsNotHeld: while the broker answers for the dead it holds nothing, and
// whoever looks sees the failure.
func TestRefusingIsNotHeld(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b", "-exit=load")
	w.run(s)
	for range 4 {
		if reply, err := w.ask("b"); err == nil {
			t.Fatalf("it answered %q", reply)
		}
	}
	w.eventually("it is refused", func() bool { return w.view("b").State == supervise.Refusing })
	w.eventually("nobody holds it", func() bool { return launch.Holder(filepath.Dir(w.sock("b"))) == "" })
	status, err := launch.NewBroker(w.env, s.Definition, w.client).Inspect(t.Context())
	if err != nil || status.Held || status.Phase != "failed" || status.RetryAt.IsZero() {
		t.Errorf("status says held %v, phase %q, retry at %v: %v", status.Held, status.Phase, status.RetryAt, err)
	}
	if a, err := w.broker.Request(t.Context(), "b", supervise.VerbReset); err != nil || !a.Done {
		t.Fatalf("reset: %+v, %v", a, err)
	}
	w.eventually("it is held again", func() bool { return w.isHeld("b") && w.view("b").State == supervise.Held })
}

// TestRemovedOnItsWay: a service whose other definition waits for its daemon to end, and
// that no file defines any more by then, is gone.
func TestRemovedOnItsWay(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	w.run(s)
	w.must("b")
	h := w.open("b")
	_ = h.Signal(syscall.SIGSTOP) // so that its end takes a while
	other := s
	other.Definition.EnvPolicy = definition.EnvCoexist
	if when, _ := s.when(other); when != supervise.Elsewhere {
		t.Fatalf("it is the same endpoint: %v", when)
	}
	if err := w.broker.Set(t.Context(), []Service{other}); err != nil {
		t.Fatal(err)
	}
	if err := w.broker.Set(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if list, err := w.broker.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("it is there: %v, %v", list, err)
	}
	_ = h.Signal(syscall.SIGCONT)
}

// TestPassedOn: who waits at any endpoint of a service waits for the next broker, if there
// is one: it is passed all listeners.
func TestPassedOn(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f")
	s.Definition.Endpoints = []string{"admin", "m-1"}
	var left Left
	w.config.Leave = func(dirName string, h *launch.Holding, departs bool) bool {
		all, err := h.Copies(func(l launch.Left) string { return dirName + l.Endpoint })
		if err != nil || !departs || dirName != "f" {
			t.Errorf("%s is left: %v, %v", dirName, departs, err)
			return false
		}
		left = Left{File: all[0].File, Inode: all[0].Inode, Further: all[1:]}
		return true
	}
	w.run(s)
	if err := w.broker.workers.rest(w.t.Context(), &w.broker.under); err != nil {
		w.t.Fatal(err)
	}
	waits := make(chan waiter, 1)
	go func() {
		reply, err := w.askAt("f", "m-1")
		waits <- waiter{reply, err}
	}()
	w.eventually("it is to be launched", func() bool { return w.view("f").State == supervise.Launching })
	w.stop()
	if n := len(w.living("f")); n != 0 {
		t.Fatalf("%d were launched, although there is a next broker", n)
	}
	w.config = Config{Left: func(string) (l Left) {
		l, left = left, Left{}
		return l
	}}
	w.run(s)
	if got := <-waits; got.err != nil || got.reply != "m-1 7" {
		t.Errorf("who waited: %q, %v", got.reply, got.err)
	}
	w.must("f")
	if got, err := w.askAt("f", "admin"); err != nil || got != "admin 7" {
		t.Errorf("at admin: %q, %v", got, err)
	}
}

// TestLeaveInTime: the end of the broker waits for no daemon that does not end, and who
// waits there finds that on record.
func TestLeaveInTime(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f")
	w.run(s)
	w.broker.grace = 100 * time.Millisecond
	w.must("f")
	h := w.open("f")
	_ = h.Signal(syscall.SIGSTOP)
	go func() { _, _ = w.broker.Request(t.Context(), "f", supervise.VerbStop) }()
	w.eventually("it is asked to end", func() bool { e, _ := w.serving("f"); return e.Record.Stopped })
	b := launch.NewBroker(w.env, s.Definition, w.client)
	began := time.Now()
	raw, err := b.Dial(t.Context(), began)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var c launch.Conn
	b.Watch(&c, raw, began)
	w.stop()
	_ = h.Signal(syscall.SIGKILL)
	_ = c.SetDeadline(time.Now().Add(deadline))
	_, err = c.Read(make([]byte, 1))
	if f, ok := errors.AsType[*launch.Fault](err); !ok || !strings.Contains(f.Error(), errLeft.Error()) {
		t.Errorf("who waited was told %v", err)
	}
}

// TestLetGoLaunching: a service is let go while its daemon is launched. The broker closes
// its listener then, whose number may be another's at once; the launch has its own copy.
func TestLetGoLaunching(t *testing.T) {
	w := newWorld(t)
	at, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	launch.OnStep = func(s launch.Step) {
		if s == launch.StepPrepare { // who only holds does not come there
			once.Do(func() { close(at); <-gate })
		}
	}
	defer func() { launch.OnStep = nil }()
	w.run(w.backend("b"))
	asked := make(chan error, 1)
	go func() {
		_, err := w.broker.Request(context.WithoutCancel(t.Context()), "b", supervise.VerbLaunch)
		asked <- err
	}()
	<-at
	if err := w.broker.Set(t.Context(), []Service{w.backend("other")}); err != nil {
		t.Fatal(err)
	}
	w.eventually("another one is held", func() bool { return w.isHeld("other") })
	close(gate)
	if err := <-asked; err != nil {
		t.Error(err)
	}
	w.eventually("it runs", func() bool { return len(w.living("b")) == 1 })
	for _, name := range []string{"b", "other"} {
		w.must(name)
	}
	if n := len(w.living("b")); n != 1 {
		t.Errorf("%d generations run", n)
	}
	w.stop()
}
