package backlog

import "time"

// A Stall follows one queue from look to look and knows since when nobody has
// accepted from it. The zero Stall has seen nothing. It is a value: Look returns
// the next one.
//
// It errs towards "somebody accepts": the time counts from the first look that
// found the queue as it is, not from the connect. One case errs the other way:
// connections whose clients have left cannot be told from each other, so while
// such a one is in front at every look, the queue may move and seem to stand
// still. Who acts on a stall makes sure with a connection of its own, as package
// probe does.
type Stall struct {
	since   time.Duration
	waiting []Inode
}

// Look returns the stall after a look, at a time of the boot-time clock, that
// found these connections waiting. The slice is the stall's from then on. A look
// that failed is no look: a queue too long to be listed says Look(now, nil), which
// forgets.
func (s Stall) Look(now time.Duration, waiting []Inode) Stall {
	if len(s.waiting) == 0 || moved(s.waiting, waiting) {
		s.since = now
	}
	s.waiting = waiting
	return s
}

// For returns how long the connection at the front has been seen to wait there,
// 0 if none waits.
func (s Stall) For(now time.Duration) time.Duration {
	if len(s.waiting) == 0 {
		return 0
	}
	return now - s.since
}

// moved reports whether something was accepted between two looks: new
// connections join at the end, clients that leave turn 0 where they are.
func moved(before, after []Inode) bool {
	if len(after) < len(before) {
		return true
	}
	for i, was := range before {
		if is := after[i]; is != was && is != 0 {
			return true
		}
	}
	return false
}
