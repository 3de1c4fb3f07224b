// Package generation decides what a running generation does with its listener:
// whether it accepts, whom it hands the listener to, and when it ends by itself.
//
// It touches nothing. Its types are values that are comparable and go from one
// state to the next; package daemon carries out what they say, under its own
// locks, and the exploration (internal/explore) runs the same decisions on a
// simulated kernel.
package generation

import (
	"errors"
	"time"
)

// An Heir is what is known of a generation's successor.
type Heir uint8

// What an heir can be. There is one at a time; its control connection is its life.
const (
	NoHeir      Heir = iota
	HeirLoads        // it has the listener, and does not accept
	HeirOrdered      // it has ordered the generation to accept no more
	HeirTook         // it is the owner
)

// A Hold is what is known of a standing broker that has the listener as well.
type Hold uint8

// The holds. The broker's connection is the hold's life; who launches for it says so
// beforehand, so that there is no moment without.
const (
	NotHeld  Hold = iota
	Promised      // it was launched for a broker, which has not come yet
	Held          // the broker's connection lives
)

// A Tenure is what a generation has decided about its listener. The zero Tenure is
// of one that has not bound yet.
type Tenure struct {
	Hold     Hold // the queue is a standing broker's
	Bound    bool // there is a listener to hand over
	Loaded   bool // it accepts, or is about to
	Ending   bool // it drains, or is about to: no heir is taken any more
	Stranded bool // and no name leads to the listener any more
	Refusing bool // it serves its queue to the end, whatever becomes of an heir
	Heir     Heir
}

// Why no heir is taken.
var (
	errUnbound = errors.New("the daemon has not bound yet")
	errEnding  = errors.New("the daemon is ending")
	errHeir    = errors.New("there is a successor already")
	errHeld    = errors.New("another broker holds the listener already")
	errTaken   = errors.New("a successor is taking over: ask that one")
)

// TakeHold gives the listener to a standing broker as well, or says why not. Whom a
// successor has ordered to accept no more gives nothing: the successor asks in the
// same moment whether there is a hold, which it goes on with.
func (t Tenure) TakeHold() (Tenure, error) {
	switch {
	case !t.Bound:
		return t, errUnbound
	case t.Ending:
		return t, errEnding
	case t.Heir == HeirOrdered, t.Heir == HeirTook:
		return t, errTaken
	case t.Hold == Held:
		return t, errHeld
	}
	t.Hold = Held
	return t, nil
}

// LoseHold says that a broker's connection has ended, or that the one that was
// promised has not come: the queue is the generation's alone again. It is not if the
// generation has said that it ends: the next one may have the queue by then.
func (t Tenure) LoseHold(was Hold) Tenure {
	if t.Hold == was && !t.Ending {
		t.Hold = NotHeld
	}
	return t
}

// Begin takes an heir, or says why not.
func (t Tenure) Begin() (Tenure, error) {
	switch {
	case !t.Bound:
		return t, errUnbound
	case t.Ending:
		return t, errEnding
	case t.Heir != NoHeir:
		return t, errHeir
	}
	t.Heir = HeirLoads
	return t, nil
}

// Order is the heir's order to accept no more. It reports whether to pause.
func (t Tenure) Order() (_ Tenure, pause bool) {
	if t.Refusing || t.Heir != HeirLoads && t.Heir != HeirOrdered {
		return t, false
	}
	t.Heir = HeirOrdered
	return t, true
}

// A Parting is what follows the end of an heir's connection.
type Parting uint8

// The partings.
const (
	PartNothing Parting = iota
	PartAlone           // it is gone: all goes on as before
	PartResume          // it is gone, having ordered: accept again
	PartHandOn          // it is the owner: accept nothing any more, and end
)

// Lose says what the end of the heir's connection means. owner is whether current
// names this generation still: that, and no word of the heir's, makes an owner.
func (t Tenure) Lose(owner bool) (Tenure, Parting) {
	switch {
	case t.Refusing:
		t.Heir = NoHeir
	case t.Heir == HeirLoads:
		t.Heir = NoHeir
		return t, PartAlone
	case t.Heir == HeirOrdered && owner:
		t.Heir = NoHeir
		return t, PartResume
	case t.Heir == HeirOrdered:
		t.Heir = HeirTook
		return t, PartHandOn
	}
	return t, PartNothing
}

// A Reason is why a generation ends.
type Reason uint8

// The reasons.
const (
	EndAsked    Reason = iota // somebody has asked it to, or an heir is the owner
	EndItself                 // nobody needs it
	EndStranded               // no name leads to its listener any more
)

// End says that the generation is to drain, and reports whether it is. One that has
// an heir does not end by itself: the heir may have come after that was decided.
func (t Tenure) End(r Reason) (Tenure, bool) {
	if r == EndItself && (t.Heir == HeirLoads || t.Heir == HeirOrdered) {
		return t, false
	}
	t.Ending, t.Stranded = true, r == EndStranded
	return t, true
}

// A Drain is how a generation ends.
type Drain uint8

// The drains.
const (
	DrainAwait  Drain = iota // not yet: an heir is taking over, or goes
	DrainRefuse              // the kernel refuses newcomers, who is queued is served
	DrainHandOn              // the listener and its queue are the heir's, or a broker's
)

// Drain says how the generation ends; late is whether the heir has had its moment.
// One that is stranded serves its queue itself unless the heir does: that is
// stranded too, and nobody else can come. A broker that holds a stranded listener
// has let go of it.
func (t Tenure) Drain(late bool) (Tenure, Drain) {
	switch {
	case t.Heir == NoHeir && t.Hold != NotHeld && !t.Stranded:
		return t, DrainHandOn
	case t.Heir == NoHeir, t.Stranded && t.Heir == HeirLoads, t.Stranded && t.Heir == HeirOrdered && late:
		t.Refusing = true
		return t, DrainRefuse
	case t.Heir == HeirTook, late:
		return t, DrainHandOn
	}
	return t, DrainAwait
}

// A Gate is what stands between a generation's Accept and the kernel's queue.
type Gate struct {
	Paused   bool // a successor is taking over
	Handed   bool // the queue is another process's
	Draining bool // the kernel refuses newcomers
	Closed   bool
}

// An Entry is what a gate lets Accept do.
type Entry uint8

// What Accept does.
const (
	AcceptNext   Entry = iota // wait for the next connection
	AcceptWait                // wait until the gate has changed
	AcceptQueued              // take what is queued, and end when nothing is
	AcceptEnd                 // nothing is accepted any more
)

// Accept says what Accept does now.
func (g Gate) Accept() Entry {
	switch {
	case g.Draining:
		return AcceptQueued
	case g.Paused:
		return AcceptWait
	case g.Handed:
		return AcceptEnd
	}
	return AcceptNext
}

// Pause stops accepting until Resume or HandOn.
func (g Gate) Pause() Gate {
	g.Paused = g.Paused || !g.Closed && !g.Handed
	return g
}

// Resume ends a pause.
func (g Gate) Resume() Gate {
	g.Paused = false
	return g
}

// HandOn ends accepting.
func (g Gate) HandOn() Gate {
	g.Handed, g.Paused = true, false
	return g
}

// Drain lets in who is queued, and nobody else. It ends a pause.
func (g Gate) Drain() Gate {
	g.Draining, g.Paused = true, false
	return g
}

// Close ends a pause too.
func (g Gate) Close() Gate {
	g.Closed, g.Paused = true, false
	return g
}

// The bounds of a need.
const (
	// LeaseGrace is how long a daemon outlives its last lease: who renews one, or
	// hands it on, needs a moment.
	LeaseGrace = time.Second

	// FirstGrace is how long a daemon waits for its first connection at the least:
	// whoever launched it may not have connected yet.
	FirstGrace = time.Second
)

// Why a generation that nobody asked to stop ends.
const (
	EndedIdle   = "idle"
	EndedLeases = "last lease gone"
)

// A Need is who needs a generation. Times are of one clock.
type Need struct {
	IdleExit time.Duration // 0: never
	Holds    int           // open connections, and one while it loads
	Used     bool          // there was a connection
	Leases   int
	Leased   bool          // there was a lease
	Heirs    int           // successors that load: nothing is due meanwhile
	Since    time.Duration // when Holds and Leases became 0
	LastEnd  time.Duration // when the last lease ended
}

// Due says when the generation ends if nothing changes, and why; "" if it does
// not.
func (n Need) Due() (at time.Duration, why string) {
	switch {
	case n.Leases > 0, n.Heirs > 0:
	case n.Leased:
		return n.LastEnd + LeaseGrace, EndedLeases
	case n.Holds == 0 && n.IdleExit > 0 && !n.Used:
		return n.Since + max(n.IdleExit, FirstGrace), EndedIdle
	case n.Holds == 0 && n.IdleExit > 0:
		return n.Since + n.IdleExit, EndedIdle
	}
	return 0, ""
}
