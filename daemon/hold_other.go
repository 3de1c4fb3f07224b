//go:build !windows

package daemon

// A broker has the listener itself, and with it the queue.

func (g *giver) awaitHoldLocked() {}

func (g *giver) stopAwaitingLocked() {}

func (g *giver) heldLocked() {}

func (g *giver) alone() {}
