package supervise

import (
	"hash/maphash"
	"os"
	"strings"
	"testing"
	"time"
)

// spoilt skips what the race detector would spend minutes on.
func spoilt(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("a search is one goroutine: the race detector has nothing to find, and takes ten times as long")
	}
}

// epoch is the time of each state of a search: only what lies between two times
// matters.
const epoch = time.Hour

// canon moves the world to the epoch, and forgets times that are so long ago that it
// makes no difference how long. So a search has an end.
func (w *world) canon() {
	move := w.now - epoch
	future := func(t *time.Duration) {
		if *t != 0 {
			*t = max(*t-move, epoch)
		}
	}
	past := func(t *time.Duration, atMost time.Duration) {
		if *t != 0 {
			*t = max(*t-move, epoch-atMost)
		}
	}
	m := &w.m
	p := m.Policy
	for _, t := range []*time.Duration{&m.deadline, &m.watchdog, &m.heirBy, &m.timer, &w.timer} {
		future(t)
	}
	for i := range m.leaving {
		future(&m.leaving[i].by)
	}
	if m.notUntil != 0 && m.notUntil-move <= epoch {
		m.notUntil = 0
	}
	future(&m.notUntil)
	m.streak = min(m.streak, FreeLaunches+3) // the backoff grows no more
	past(&m.since, max(p.BackoffReset, p.ReadyWithin))
	past(&m.reported, reportEvery)
	past(&m.badAt, p.BackoffReset+p.BackoffMax)
	for i := range m.failures {
		past(&m.failures[i], BudgetWindow)
	}
	for i := range w.failed {
		if past(&w.failed[i], time.Hour); w.failed[i] < epoch-2*BudgetWindow {
			w.failed[i] = 0
		}
	}
	past(&w.quickAt, p.BackoffMin)
	for i := range w.procs {
		d := &w.procs[i]
		past(&d.launched, 4*BudgetWindow)
		future(&d.until)
		past(&d.alive, max(p.Watchdog, time.Second))
		past(&d.drain, p.StopWithin+stopGrace)
		past(&d.capture, captureWithin)
	}
	w.now = epoch
}

// found is what a search has come to.
type found struct {
	states int
	fixed  bool // there are no more
	broken string
	trace  []string
}

// search visits every world that any sequence of actions leads to, breadth first, and
// lets everything go well from each of them.
func search(w world, n next, limit int) found {
	type step struct {
		from   int
		action string
	}
	seed := maphash.MakeSeed()
	seen := map[uint64]bool{}
	var steps []step
	var todo []world
	at := 0
	trace := func(i int, tail ...string) (names []string) {
		for ; i > 0; i = steps[i].from {
			names = append([]string{steps[i].action}, names...)
		}
		return append(names, tail...)
	}
	add := func(w world, from int, action string) {
		w.canon()
		h := maphash.Comparable(seed, w)
		if !seen[h] {
			seen[h] = true
			steps = append(steps, step{from, action})
			todo = append(todo, w)
		}
	}
	w.deliver(n, Requested{Verb: VerbEnable})
	add(w, 0, "enable")
	for ; len(todo) > 0; at++ {
		w := todo[0]
		todo = todo[1:]
		if w.broken != "" {
			return found{len(steps), false, w.broken, trace(at)}
		}
		if len(steps) > limit {
			return found{states: len(steps)}
		}
		calm := w
		if tail, ok := calm.calm(n); !ok {
			broken := calm.broken
			if broken == "" {
				broken = stalled
			}
			return found{len(steps), false, broken, trace(at, append([]string{"--- from here on all goes well"}, tail...)...)}
		}
		for _, a := range w.actions() {
			next := w
			a.do(&next, n)
			add(next, at, a.name)
		}
	}
	return found{states: len(steps), fixed: true}
}

// TestSearch tries everything that can happen to a service, within bounds: the
// invariants hold in every state, and from each there is a way to a daemon that
// serves and to an answer for each request.
func TestSearch(t *testing.T) {
	spoilt(t)
	long := os.Getenv("FASTBIND_LONG") == "1"
	watched := func(p *Policy) { p.Watchdog = 10 * time.Second }
	for _, c := range []struct {
		name    string
		restart Restart
		left    supplies
		change  func(*Policy)
		long    bool
	}{
		{"clients and faults", RestartOnDemand, supplies{clients: 2, faults: 2, timers: 1}, nil, false},
		{"time", RestartAlways, supplies{clients: 1, timers: 7}, nil, false},
		{"a request and a fault", RestartOnDemand, supplies{clients: 1, requests: 1, faults: 1, timers: 1}, nil, false},
		{"two requests", RestartOnFailure, supplies{requests: 2, clients: 1, timers: 1}, nil, false},
		{"an outsider", RestartOnDemand, supplies{outsiders: 2, clients: 1, timers: 2}, nil, false},
		{"watchdog", RestartOnDemand, supplies{clients: 1, faults: 1, timers: 2}, watched, false},

		{"clients and faults, more time", RestartOnDemand, supplies{clients: 2, faults: 2, timers: 2}, nil, true},
		{"three faults", RestartAlways, supplies{clients: 1, faults: 3, timers: 1}, nil, true},
		{"more time", RestartOnFailure, supplies{clients: 1, timers: 12}, nil, true},
		{"a request and a fault, more time", RestartOnDemand, supplies{clients: 1, requests: 1, faults: 1, timers: 2}, nil, true},
		{"a request and two faults", RestartOnDemand, supplies{clients: 1, requests: 1, faults: 2, timers: 1}, nil, true},
		{"three requests", RestartOnFailure, supplies{requests: 3, timers: 1}, nil, true},
		{"watchdog, more time", RestartOnDemand, supplies{clients: 1, faults: 1, timers: 3}, watched, true},
		{"everything once", RestartOnDemand, supplies{1, 1, 1, 1, 1, 1}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && !long {
				t.Skip("takes long: FASTBIND_LONG=1")
			}
			p := coarse(c.restart)
			if c.change != nil {
				c.change(&p)
			}
			limit := 200_000
			if long {
				limit = 3_000_000
			}
			began := time.Now()
			f := search(newWorld(p, c.left), real, limit)
			t.Logf("%d states, all there are: %v, in %v", f.states, f.fixed, time.Since(began).Round(time.Millisecond))
			if f.broken != "" {
				t.Fatalf("%s:\n  %s", f.broken, strings.Join(f.trace, "\n  "))
			}
			if !f.fixed {
				t.Error("it has not come to an end")
			}
		})
	}
}
