package daemon

import (
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/proc"
)

// A need says whether anybody needs the daemon: connections, leases, and the
// daemon itself while it loads. It decides when the daemon ends by itself:
//
//   - Idle: nothing needs it for the service's idle_exit.
//   - It had leases and has none any more: after a second, whoever is connected.
//
// Times are of the boot clock, so that a suspend counts. Safe for concurrent use.
type need struct {
	now func() time.Duration
	at  func(time.Duration) (<-chan struct{}, func())

	changed chan struct{} // holds one token: look again

	mu    sync.Mutex // guards the fields below
	whose generation.Need
	armed bool // someone waits for a time that is not later than the end
}

func newNeed(after time.Duration) *need {
	return &need{now: proc.BootTime, at: proc.At, changed: make(chan struct{}, 1),
		whose: generation.Need{IdleExit: after, Since: proc.BootTime()}}
}

// load says that the daemon loads, connect that a connection is open; release
// ends either.
func (n *need) load() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whose.Holds++
}

func (n *need) connect() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whose.Holds++
	if !n.whose.Used {
		n.whose.Used = true
		n.armed = false // the end may be nearer now
	}
}

func (n *need) release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whose.Holds--
	n.unneededLocked()
}

// succession says that a successor loads, until the returned function is called,
// once: it takes over what is due.
func (n *need) succession() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whose.Heirs++
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.whose.Heirs--
		n.armed = false // who waits has seen nothing due
		n.unneededLocked()
	}
}

// lease says that a lease is held, until the returned function is called, once.
func (n *need) lease() (end func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whose.Leases++
	n.whose.Leased = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.whose.Leases--; n.whose.Leases == 0 {
			n.whose.LastEnd = n.now()
			n.armed = false // the end may be nearer now
		}
		n.unneededLocked()
	}
}

func (n *need) unneededLocked() {
	if n.whose.Leases > 0 || n.whose.Holds > 0 && !n.whose.Leased {
		return
	}
	if n.whose.Holds == 0 {
		n.whose.Since = n.now()
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
	at, why := n.whose.Due()
	if why == "" {
		return n.whose.Leases, -1
	}
	return n.whose.Leases, max(0, at-n.now())
}

// unused is for how long nobody needs the daemon, negative if somebody does.
func (n *need) unused() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.whose.Holds > 0 || n.whose.Leases > 0 {
		return -1
	}
	return max(0, n.now()-n.whose.Since)
}

// await sends why the daemon ends, once that is so, or nothing if stop is closed
// before.
func (n *need) await(stop <-chan struct{}) <-chan string {
	ended := make(chan string, 1)
	go func() {
		for {
			n.mu.Lock()
			at, why := n.whose.Due()
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
