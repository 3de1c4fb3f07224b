package handover

import (
	"sync"
	"syscall"
)

// Kept is what the daemon of this process stands on: a Handover that says how it can
// be handed down once more, and the descriptors for it, which stay the daemon's.
type Kept struct {
	Handover
	Listener, ControlListener, LifeLock syscall.Conn
}

var kept struct {
	mu  sync.Mutex
	now func() Kept
}

// Keep says what the daemon of this process stands on, for who executes another
// program in its place. now is called concurrently.
func Keep(now func() Kept) {
	kept.mu.Lock()
	defer kept.mu.Unlock()
	kept.now = now
}

// Standing returns what the daemon of this process stands on; ok is false if there is
// none that a broker or its own hand has launched.
func Standing() (k Kept, ok bool) {
	kept.mu.Lock()
	now := kept.now
	kept.mu.Unlock()
	if now == nil {
		return k, false
	}
	return now(), true
}
