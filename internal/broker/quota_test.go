//go:build linux

package broker

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// TestNeeded: who is taken for needed, before daemons are asked and after.
func TestNeeded(t *testing.T) {
	backend := func(change func(*load)) load {
		l := load{sketch: sketch{View: View{Holding: true, State: supervise.Ready}, backend: true}, serves: -1, asked: true}
		change(&l)
		return l
	}
	foreign := func(change func(*load)) load {
		return backend(func(l *load) { l.backend, l.serves = false, 0; change(l) })
	}
	for what, c := range map[string]struct {
		load load
		want bool
	}{
		"a backend without clients":         {backend(func(*load) {}), false},
		"with one":                          {backend(func(l *load) { l.Connections = 1 }), true},
		"with a lease":                      {backend(func(l *load) { l.leases = 1 }), true},
		"that does not answer":              {backend(func(l *load) { l.Connections = -1 }), true},
		"not asked yet":                     {backend(func(l *load) { l.Connections, l.asked = -1, false }), false},
		"for whom somebody waits":           {backend(func(l *load) { l.Waiting = 1 }), true},
		"where the system does not tell":    {backend(func(l *load) { l.Waiting = -1 }), false},
		"that loads":                        {backend(func(l *load) { l.State = supervise.Starting }), true},
		"that has a successor":              {backend(func(l *load) { l.State = supervise.Succeeding }), true},
		"whose listener we have not":        {backend(func(l *load) { l.Holding = false }), true},
		"a foreign daemon without clients":  {foreign(func(*load) {}), false},
		"a foreign one with two":            {foreign(func(l *load) { l.serves = 2 }), true},
		"of a foreign one nobody can tell":  {foreign(func(l *load) { l.serves = -1 }), true},
		"a foreign one that begins":         {foreign(func(l *load) { l.State = supervise.Starting }), true},
		"a foreign one for whom one waits":  {foreign(func(l *load) { l.Waiting = 1 }), true},
		"a foreign one that is not our own": {foreign(func(l *load) { l.Holding = false }), true},
	} {
		if got := c.load.needed(); got != c.want {
			t.Errorf("%s: needed is %v", what, got)
		}
	}
}

// TestUsages: what a daemon says of its last use counts more than when it was seen.
func TestUsages(t *testing.T) {
	idle := sketch{View: View{Holding: true, State: supervise.Ready, Memory: 5}, backend: true}
	says, serves, leaves, unknown := idle, idle, idle, idle
	says.lastUse, serves.Connections, leaves.Phase, unknown.Memory = 8, 1, record.Draining, -1
	list := []load{{sketch: idle, used: 7, limit: 9, asked: true}, {sketch: says, used: 7, asked: true}, {sketch: serves, used: 7, limit: 9, asked: true},
		{sketch: leaves, used: 7, asked: true}, {sketch: unknown, used: 7, asked: true}}
	before := proc.BootTime()
	got := usages(list)
	if u := got[0]; u.Used != 7 || u.Busy || u.Leaving || u.Memory != 5 || u.Limit != 9 {
		t.Errorf("who says nothing: %+v", u)
	}
	if u := got[1]; u.Used != 8 || u.Busy {
		t.Errorf("who says it: %+v", u)
	}
	if u := got[2]; u.Used < before || !u.Busy || u.Limit != 0 || list[2].used != u.Used {
		t.Errorf("who serves: %+v, seen at %v", u, list[2].used)
	}
	if u := got[3]; !u.Leaving {
		t.Errorf("who drains: %+v", u)
	}
	if u := got[4]; u.Memory != 0 {
		t.Errorf("without known memory: %+v", u)
	}
}

// TestCounted: a foreign daemon with a listener of which the kernel does not tell is not
// taken for one without clients.
func TestCounted(t *testing.T) {
	for _, c := range []struct {
		inodes []backlog.Inode
		want   int
	}{{[]backlog.Inode{1, 2}, 5}, {[]backlog.Inode{1, 9}, -1}, {nil, -1}} {
		l := load{sketch: sketch{inodes: c.inodes}, serves: -1}
		if l.count(map[backlog.Inode]int{1: 2, 2: 3, 3: 4}); l.serves != c.want {
			t.Errorf("%v: %d, want %d", c.inodes, l.serves, c.want)
		}
	}
}

// TestTaken: a connection of ours that is accepted late is closed then, not before.
func TestTaken(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: newWorld(t).dir + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	r := &run{}
	r.unaccepted(c)
	if r.taken(); len(r.ours) != 1 {
		t.Fatal("one that waits is given up")
	}
	at, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	_ = at.SetDeadline(time.Now().Add(deadline))
	r.taken()
	if _, err := at.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || len(r.ours) != 0 {
		t.Errorf("%d are left; who has accepted one reads %v", len(r.ours), err)
	}
}

// quota sets one from now on, and how often it is looked at.
func (w *world) quota(q supervise.Quota) (set func(supervise.Quota)) {
	var now atomic.Pointer[supervise.Quota]
	now.Store(&q)
	w.config.Quota = func() supervise.Quota { return *now.Load() }
	return func(q supervise.Quota) { now.Store(&q) }
}

// often has the broker look often.
func (w *world) often(every time.Duration) {
	w.t.Helper()
	if err := w.broker.call(w.t.Context(), func() { w.broker.every = every }); err != nil {
		w.t.Fatal(err)
	}
}

// running are those that have a daemon, in order.
func (w *world) running(names ...string) string {
	var list []string
	for _, name := range names {
		if w.view(name).State == supervise.Ready {
			list = append(list, name)
		}
	}
	return strings.Join(list, " ")
}

// connect has a client that stays, and is served.
func (w *world) connect(name string) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("unix", w.sock(name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if _, err := conn.Write([]byte("7\n")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 64)); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// TestQuota: of three daemons where two may run the one goes that was not used for the
// longest time, with the reason on record, and the next client has it again.
func TestQuota(t *testing.T) {
	w := newWorld(t)
	w.quota(supervise.Quota{Daemons: 2})
	w.run(w.backend("a"), w.backend("b"), w.backend("c"))
	sub, err := w.broker.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	w.must("a")
	w.must("b")
	w.until("b", "its client has left", func(v View) bool { return v.Connections == 0 })
	// When somebody was there last is known up to the time that an answer takes, which is
	// 300 ms at most.
	time.Sleep(500 * time.Millisecond)
	w.must("a") // so it is b that was not used for the longest time
	w.must("c")
	w.eventually("b has ended", func() bool { return w.view("b").State == supervise.Held && len(w.living("b")) == 0 })
	if got := w.running("a", "b", "c"); got != "a c" {
		t.Errorf("%s run", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		n, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n.Kind == "dismissed" {
			if n.Service != "b" || n.Generation != 1 || n.PID == 0 || !strings.Contains(n.Reason, "more than 2 daemons") {
				t.Errorf("%+v", n)
			}
			break
		}
	}
	w.must("b")
	w.eventually("another one has ended", func() bool { got := w.running("a", "b", "c"); return got == "a b" || got == "b c" })
}

// TestQuotaMemory: what memory makes too much is seen although nothing is launched, and
// a quota that is set later holds then. Without one, or a daemon, there is no next look.
func TestQuotaMemory(t *testing.T) {
	w := newWorld(t)
	set := w.quota(supervise.Quota{})
	services := []Service{w.backend("a"), w.foreign("f")}
	w.run(services...)
	w.often(10 * time.Millisecond)
	rests := func() bool {
		var next time.Duration
		busy := false
		if err := w.broker.call(t.Context(), func() { next, busy = w.broker.weighing.next(), w.broker.weighing.looks }); err != nil {
			t.Fatal(err)
		}
		return next == 0 && !busy
	}
	w.must("a")
	w.must("f")
	w.eventually("both run", func() bool { return w.running("a", "f") == "a f" })
	w.eventually("there is nothing to look at", rests)
	set(supervise.Quota{Memory: 1 << 40})
	if err := w.broker.Set(t.Context(), services); err != nil {
		t.Fatal(err)
	}
	if rests() {
		t.Error("it is not looked at")
	}
	set(supervise.Quota{Memory: 1 << 20})
	w.eventually("both have ended", func() bool { return w.running("a", "f") == "" && len(w.living("a"))+len(w.living("f")) == 0 })
	w.eventually("nobody is left to look at", rests)
}

// TestQuotaInUse: none is taken from whom it serves, foreign or not. What is too much is
// told, and goes when it is used no more.
func TestQuotaInUse(t *testing.T) {
	w := newWorld(t)
	w.quota(supervise.Quota{Daemons: 1})
	w.run(w.backend("a"), w.foreign("f"), w.backend("c"))
	w.often(10 * time.Millisecond)
	conns := map[string]net.Conn{"a": w.connect("a"), "f": w.connect("f")}
	w.must("c")
	excess := func(want int) func() bool {
		return func() bool {
			m, err := w.broker.Metrics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return m.Quota.Daemons == 1 && m.Excess.Daemons == want
		}
	}
	w.eventually("c has gone", func() bool { return w.running("a", "f", "c") == "a f" })
	w.eventually("one is too many", excess(1))
	for _, name := range slices.Sorted(maps.Keys(conns)) {
		if _, err := conns[name].Write([]byte("7\n")); err != nil {
			t.Error(name, err)
		} else if _, err := conns[name].Read(make([]byte, 64)); err != nil {
			t.Errorf("%s does not serve any more: %v", name, err)
		}
	}
	_ = conns["f"].Close()
	w.eventually("f has gone", func() bool { return w.running("a", "f", "c") == "a" })
	w.eventually("that is not too many", excess(0))
	if n := len(w.living("a")); n != 1 {
		t.Errorf("%d of a", n)
	}
}
