package notify

import "sync"

// A queue holds what waits for the receiver, in order: events, and barriers that
// are released when everything before them has been taken. One goroutine adds,
// one delivers.
type queue struct {
	mu    sync.Mutex // guards the fields below
	items []item
	ended bool

	filled chan struct{} // holds a token after something was added, or the end
	room   chan struct{} // holds a token after something was taken
}

// An item is an event, or a barrier if release is set.
type item struct {
	event   Event
	release func()
}

func newQueue() *queue {
	return &queue{filled: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// add appends an item, or merges it with the last one. It does not wait: who adds
// has waited for room before, so that a message stays with the kernel until there is
// a place for it.
func (q *queue) add(it item) {
	q.mu.Lock()
	if n := len(q.items); n == 0 || !merge(&q.items[n-1], it) {
		q.items = append(q.items, it)
	}
	q.mu.Unlock()
	signal(q.filled)
}

// full reports whether the queue has no place left.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) >= maxPending
}

// waitRoom returns false if stop is closed before there is room.
func (q *queue) waitRoom(stop <-chan struct{}) bool {
	for q.full() {
		select {
		case <-q.room:
		case <-stop:
			return false
		}
	}
	return true
}

// end says that nothing will be added any more.
func (q *queue) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	signal(q.filled)
}

// take removes the first item. ok is false if there is none now, ended if there
// will never be one again.
func (q *queue) take() (it item, ok, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item{}, false, q.ended
	}
	it = q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	return it, true, false
}

// deliver sends the events until the queue has ended or stop is closed; barriers
// are released in either case, those never added excepted.
func (q *queue) deliver(to chan<- Event, stop <-chan struct{}) {
	stopped := false
	for {
		it, ok, ended := q.take()
		switch {
		case ended:
			return
		case !ok:
			<-q.filled // the end comes here too
			continue
		}
		signal(q.room)
		if it.release != nil {
			it.release()
			continue
		}
		if stopped {
			continue
		}
		select {
		case to <- it.event:
		case <-stop:
			stopped = true
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is there already
	}
}

// merge makes one event of two where nothing is lost by that.
func merge(last *item, next item) bool {
	if last.release != nil || next.release != nil {
		return false
	}
	a, b := &last.event, next.event
	switch {
	case a.Refused != "" && b.Refused != "":
	case a.minor() && b.minor():
		if b.Status == nil {
			b.Status = a.Status
		}
		b.Pulse = max(a.Pulse, b.Pulse)
	default:
		return false
	}
	b.Merged += a.Merged + 1
	*a = b
	return true
}

// minor reports whether the event is a pulse or a status text and nothing else.
func (e Event) minor() bool {
	m := e.Message
	if m.Pulse == Trigger {
		return false
	}
	m.Status, m.Pulse = nil, NoPulse
	return e.Refused == "" && m == Message{}
}
