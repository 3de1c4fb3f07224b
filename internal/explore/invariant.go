package explore

import (
	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// The invariants, as far as they are about a state. I2 and I3,
// and that no living listener loses its name, are about transitions: who dials in
// vain or is dropped notes that where it happens.

// owns reports whether a generation is one that clients at the path reach, and that
// accepts them, or will when it has loaded.
func (s *state) owns(g *gen) bool {
	pending := g.old != 0 && !g.wasReady && g.life <= taking
	leaves := g.life == awaiting && g.tenure.Hold != generation.NotHeld && !g.tenure.Stranded // to the broker, and says so
	return g.alive() && g.life <= awaiting && !pending && !leaves && s.listens(g.sock) && s.named(g.sock) &&
		g.gate.Accept() == generation.AcceptNext
}

// check notes what is broken in the state that a transition has led to.
func (w *world) check() {
	owner, owners, launches := id(0), 0, 0
	for i := range w.gens {
		g := &w.gens[i]
		if !w.owns(g) {
			continue
		}
		owners++
		owner = id(i + 1)
	}
	if owners > 1 {
		w.breaks("I1", "two generations own the endpoint")
	}
	if owner != 0 {
		g := &w.gens[owner-1]
		if current := w.at().current; g.life == serving && w.at().lock == 0 && current != owner && (current != 0 || w.left.deletions == w.rules.deletions) {
			w.breaks("I1", "current names another generation than the one that owns the endpoint, and nobody is launching")
		}
	}
	for i := range w.procs {
		if pr := &w.procs[i]; pr.gen != 0 && pr.dir == w.path && pr.m.Step < launch.StepAbandon {
			launches++
		}
	}
	d := w.at()
	switch {
	case w.bro.state == broHolding && w.named(w.bro.held) && d.lock == 0 && !d.holder:
		w.breaks("R32", "an endpoint is held, and who only looks cannot know: it would launch a daemon")
	case launches > 1:
		w.breaks("I1", "two launches at a time")
	case d.sock != d.keep && w.listens(d.sock) && w.listens(d.keep):
		w.breaks("I1", "the endpoint's two names lead to two listeners that accept")
	}
}

// isQuiet reports whether nothing is left to do: every dial has ended, no lock is
// held, and what lives is a daemon that serves at the path, if any.
func (s *state) isQuiet() bool {
	for p := range broker {
		waits := p == upgrader && s.procs[p].m.Step == launch.StepDone // in a mutant
		if st := s.procs[p].status; st == running && !waits || st == unborn && p != upgrader {
			return false
		}
	}
	for i := range s.gens {
		g := &s.gens[i]
		if g.alive() && (g.life != serving || !s.owns(g) || g.open != 0 || g.tenure.Heir != generation.NoHeir || g.lost || g.holdLost) {
			return false
		}
	}
	return s.at().lock == 0 && s.stray == (stray{}) && s.atRest()
}
