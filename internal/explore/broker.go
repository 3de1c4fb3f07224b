package explore

import (
	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// The standing broker. What it does under the launch lock is launch.Machine, in the
// modes Holds and Activates, and what a daemon makes of its hold is generation.Tenure.
// What it wants next is simplified after its driver and package supervise, whose
// machine has times and budgets, and is searched by itself: whoever waits is launched
// for, an end is followed by holding, a failure by binding anew.

// A broState is what a broker is about.
type broState uint8

const (
	broNone      broState = iota
	broBinding            // the machine runs, in mode Holds
	broLooking            // somebody accepts there: who?
	broMarking            // it has the listener of who serves, and is to say that it holds
	broHolding            // nobody serves; the kernel tells when somebody waits
	broLaunching          // the machine runs, in mode Activates
	broAttending          // a generation serves, of whose listener it has a copy
	broFollowing          // a generation serves, of whose listener it has none
	broWaiting            // before it binds anew
)

// A bro is the standing broker: its process is procs[broker].
type bro struct {
	state broState
	held  id // the listener it has a copy of
	inode id // what it takes for that one's
	run   id // the generation that it follows
}

// brokerGone is what the kernel does when it is dead.
func (w *world) brokerGone() {
	w.bro = bro{}
	w.procs[broker] = proc{}
	for i := range w.gens {
		if g := &w.gens[i]; g.alive() && g.tenure.Hold != generation.NotHeld {
			g.hold, g.holdLost = false, true
		}
	}
	for i := range w.dirs {
		w.dirs[i].holder = false
	}
}

// run begins a machine of the broker's.
func (w *world) launches(mode launch.Mode, state broState) {
	w.bro.state = state
	w.procs[broker] = proc{status: running, m: launch.Machine{Mode: mode, Step: launch.StepLock}}
}

// decide takes what came of the broker's machine.
func (w *world) decide() {
	pr := w.procs[broker]
	if pr.conn {
		w.hangUp(broker)
	}
	w.procs[broker] = proc{status: running, m: launch.Machine{Step: launch.StepDone}}
	switch {
	case pr.m.Result == launch.Launched && w.bro.state == broBinding:
		w.bro = bro{state: broHolding, held: pr.sock, inode: pr.sock}
	case pr.m.Result == launch.Launched:
		w.bro.state = broAttending
	case pr.m.Result == launch.Attached:
		w.bro.state, w.bro.run = broLooking, 0
	default:
		if !pr.caused {
			w.breaks("I2", "a broker fails without a failed launch or a refusal")
		}
		w.refuse()
	}
}

// refuse ends the queue and all that the broker has. That is for a launch that failed, or
// because an outsider has deleted both names: who is in the queue by then is dropped.
func (w *world) refuse() {
	if k := w.bro.held; k != 0 {
		w.socks[k-1].shut, w.socks[k-1].excused = true, true
	}
	w.bro = bro{state: broWaiting}
}

// waits is what the kernel says of the broker's listener: somebody is there, or
// nobody can come any more.
func (s *state) waits() bool {
	k := s.bro.held
	return k != 0 && (s.socks[k-1].queue != 0 || s.socks[k-1].shut)
}

// stepBroker emits what the broker does beside the steps of its machine.
func (x *explorer) stepBroker(s *state) {
	do := func(what string, k kind, f func(*world)) { x.try(s, label{who: broker, what: what}, k, f) }
	b := &s.bro
	server := x.rules.server(s)
	other := server != 0 && server != b.run
	switch b.state {
	case broNone:
		if s.left.brokers > 0 {
			do("starts", option, func(w *world) {
				w.left.brokers--
				w.launches(launch.Holds, broBinding)
			})
		}
	case broLooking:
		switch g := server; {
		case g == 0 && b.held != 0 && s.named(b.held):
			do("finds nobody who serves any more", progress, func(w *world) { w.bro.state = broHolding })
		case g == 0:
			do("finds nobody who serves", progress, func(w *world) { w.refuse() })
		case !x.rules.asked(&s.gens[g-1]):
			// It is asked again in a moment.
		default:
			do("asks who serves for the listener", progress, x.rules.adopt)
		}
	case broMarking:
		if s.path != 0 && s.at().lock != 0 {
			return
		}
		do("says that it holds", progress, x.rules.mark)
	case broHolding:
		switch {
		case !s.named(b.held) && !x.rules.blind:
			do("sees that no name leads to its listener", progress, func(w *world) { w.refuse() })
		case s.waits():
			do("sees that somebody waits", progress, func(w *world) { w.launches(launch.Activates, broLaunching) })
		}
	case broAttending:
		g := &s.gens[b.run-1]
		switch {
		case (!g.alive() || g.phase == phDraining) && other:
			do("sees that another one serves", progress, func(w *world) { w.bro.state = broLooking })
		case !g.alive():
			do("sees its end", progress, func(w *world) { w.bro.state, w.bro.run = broHolding, 0 })
		case g.phase == phDraining && s.waits():
			do("sees that somebody waits, and that it drains", progress, func(w *world) { w.launches(launch.Activates, broLaunching) })
		case !g.hold && !g.holdLost && g.life >= loading:
			if _, err := x.rules.holds(g.tenure); err == nil {
				do("takes its hold", progress, func(w *world) {
					g := &w.gens[w.bro.run-1]
					g.tenure, _ = x.rules.holds(g.tenure)
					g.hold, g.holdLost = true, false
				})
			}
		}
	case broFollowing:
		if !s.gens[b.run-1].alive() || other {
			do("sees its end", progress, func(w *world) { w.launches(launch.Holds, broBinding) })
		}
	case broWaiting:
		do("binds anew", progress, func(w *world) { w.launches(launch.Holds, broBinding) })
	}
}

// server is the generation that serves at the path, as package launch finds it
// (Serving): current's, or a successor that loads, or where an outsider has deleted
// current the newest one alive.
func (s *state) server() id {
	if c := s.at().current; c != 0 {
		if c == foreign {
			return 0
		}
		if g := &s.gens[c-1]; g.alive() && g.phase != phDraining {
			return c
		}
		for i := range s.gens {
			if g := &s.gens[i]; g.alive() && g.onDisk && g.old == c && g.phase < phDraining {
				return id(i + 1)
			}
		}
		if s.gens[c-1].alive() {
			return c
		}
		return 0
	}
	for i := numGens - 1; i >= 0; i-- {
		if g := &s.gens[i]; g.alive() && g.onDisk && s.named(g.sock) && (g.old == 0 || g.tookOver) {
			return id(i + 1)
		}
	}
	return 0
}

// asked reports whether a daemon can be asked for its hold now: it has bound, has seen the
// end of the broker before, and nobody is taking over from it.
func asked(g *gen) bool {
	return g.life >= loading && !(g.holdLost && g.tenure.Hold == generation.Held) && g.tenure.Heir != generation.HeirOrdered
}

// adopt asks who serves for its listener, and to be let hold it.
func adopt(w *world) {
	run := w.rules.server(w.state)
	g := &w.gens[run-1]
	t, err := w.rules.holds(g.tenure)
	if g.hold && !g.tenure.Ending {
		err = nil // it is held by us
	}
	had := w.bro.held
	w.bro = bro{state: broFollowing, run: run}
	if err == nil {
		g.tenure, g.hold, g.holdLost = t, true, false
		w.bro = bro{state: broMarking, run: run, held: g.sock, inode: g.sock}
	}
	if had != 0 && had != w.bro.held {
		w.socks[had-1].excused = true // no name leads to it any more
	}
}

// mark says, under the lock, that the broker holds, unless no name leads to the listener
// any more: then it lets go of it, and looks again.
func mark(w *world) {
	if w.named(w.bro.held) {
		w.at().holder = true
		w.bro.state = broAttending
		return
	}
	if g := &w.gens[w.bro.run-1]; g.hold {
		g.hold, g.holdLost = false, true
	}
	w.socks[w.bro.held-1].excused = true
	w.bro = bro{state: broLooking}
}

// own is StepOwn.
func (w *world) own(p int) launch.Outcome {
	d := w.dir(w.procs[p].dir)
	at := d.sock == w.bro.inode
	if !at && d.keep != w.bro.inode || w.socks[w.bro.held-1].shut {
		return launch.Moved
	}
	if g := w.rules.server(w.state); g != 0 && w.gens[g-1].phase != phDraining && w.accepts(g) {
		return launch.InUse
	}
	if !at {
		w.removeName(w.procs[p].dir, &d.sock)
		d.sock = d.keep
	}
	return launch.OK
}

// accepts reports whether a generation accepts from the held listener, or will: a
// successor has its listener from the one before.
func (w *world) accepts(g id) bool {
	gen := &w.gens[g-1]
	if gen.old != 0 && !gen.tookOver {
		gen = &w.gens[gen.old-1]
	}
	return gen.sock == w.bro.held
}

// heldStill is a daemon's tenure when it comes to end: whoever is dead by then holds
// nothing.
func (s *state) heldStill(g id) generation.Tenure {
	t := s.gens[g-1].tenure
	if s.gens[g-1].holdLost {
		t = t.LoseHold(t.Hold)
	}
	return t
}

// atRest reports whether the broker, if there is one, has nothing to do: it holds the
// endpoint, or knows who serves there.
func (s *state) atRest() bool {
	b := &s.bro
	switch b.state {
	case broNone:
		return true
	case broHolding:
		return s.named(b.held) && !s.waits()
	case broAttending:
		return s.gens[b.run-1].alive() && s.gens[b.run-1].hold && s.named(b.held)
	case broFollowing:
		return s.gens[b.run-1].alive()
	}
	return false
}
