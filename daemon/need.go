package daemon

import (
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
)

// leaseGrace is how long a daemon outlives its last lease: who renews one, or
// hands it on, needs a moment.
const leaseGrace = time.Second

// firstGrace is how long a daemon waits for its first connection at the least:
// whoever launched it may not have connected yet.
const firstGrace = time.Second

// Why a daemon that nobody asked to stop ends.
const (
	endedIdle   = "idle"
	endedLeases = "last lease gone"
)

// A need says whether anybody needs the daemon: connections, leases, and the
// daemon itself while it loads. It decides when the daemon ends by itself:
//
//   - Idle: nothing needs it for the service's idle_exit.
//   - It had leases and has none any more: after a second, whoever is connected.
//
// Times are of the boot clock, so that a suspend counts. Safe for concurrent use.
type need struct {
	after time.Duration // idle_exit; 0: never
	now   func() time.Duration
	at    func(time.Duration) (<-chan struct{}, func())

	changed chan struct{} // holds one token: look again

	mu      sync.Mutex // guards the fields below
	holds   int        // open connections, and one while it loads
	used    bool       // there was a connection
	leases  int
	leased  bool          // there was a lease
	heirs   int           // successors that load: nothing is due meanwhile
	since   time.Duration // when holds and leases became 0
	lastEnd time.Duration // when the last lease ended
	armed   bool          // someone waits for a time that is not later than the end
}

func newNeed(after time.Duration) *need {
	return &need{after: after, now: proc.BootTime, at: proc.At, changed: make(chan struct{}, 1), since: proc.BootTime()}
}

// load says that the daemon loads, connect that a connection is open; release
// ends either.
func (n *need) load() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holds++
}

func (n *need) connect() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holds++
	if !n.used {
		n.used = true
		n.armed = false // the end may be nearer now
	}
}

func (n *need) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.holds--
	n.unneededLocked()
}

// succession says that a successor loads, until the returned function is called,
// once: it takes over what is due.
func (n *need) succession() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heirs++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.heirs--
		n.armed = false // who waits has seen nothing due
		n.unneededLocked()
	}
}

// lease says that a lease is held, until the returned function is called, once.
func (n *need) lease() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leases++
	n.leased = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.leases--; n.leases == 0 {
			n.lastEnd = n.now()
			n.armed = false // the end may be nearer now
		}
		n.unneededLocked()
	}
}

func (n *need) unneededLocked() {
	if n.leases > 0 || n.holds > 0 && !n.leased {
		return
	}
	if n.holds == 0 {
		n.since = n.now()
	}
	// A connection a millisecond must not cost a timer each: who waits already
	// looks again when that time comes, which is too early at the most.
	if !n.armed {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
}

// seen is what status shows: leases held, and the time left, negative if the
// daemon does not end by itself.
func (n *need) seen() (leases int, left time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, why := n.dueLocked()
	if why == "" {
		return n.leases, -1
	}
	return n.leases, max(0, at-n.now())
}

// dueLocked says when the daemon ends if nothing changes, and why; "" if it does
// not.
func (n *need) dueLocked() (at time.Duration, why string) {
	switch {
	case n.leases > 0, n.heirs > 0:
	case n.leased:
		return n.lastEnd + leaseGrace, endedLeases
	case n.holds == 0 && n.after > 0 && !n.used:
		return n.since + max(n.after, firstGrace), endedIdle
	case n.holds == 0 && n.after > 0:
		return n.since + n.after, endedIdle
	}
	return 0, ""
}

// await sends why the daemon ends, once that is so, or nothing if stop is closed
// before.
func (n *need) await(stop <-chan struct{}) <-chan string {
	ended := make(chan string, 1)
	go func() {
		for {
			n.mu.Lock()
			at, why := n.dueLocked()
			n.armed = why != ""
			n.mu.Unlock()
			var reached <-chan struct{}
			giveUp := func() {}
			if why != "" {
				if at <= n.now() {
					ended <- why
					return
				}
				reached, giveUp = n.at(at)
			}
			select {
			case <-reached:
			case <-n.changed:
			case <-stop:
				giveUp()
				return
			}
			giveUp()
		}
	}()
	return ended
}
