package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/journal"
)

// Bounds of what is told of events.
const (
	MaxSubscriptions = 64  // at once
	maxUnread        = 256 // events of one subscription; one more and the oldest is lost
)

// ErrSubscriptions is the answer when there are MaxSubscriptions.
var ErrSubscriptions = errors.New("too many read the broker's events already")

// A Noted is an event that the broker has written to a service's journal. What the
// daemons and other programs write there is not among them.
type Noted struct {
	journal.Event
	Time time.Time
	Lost uint64 // events before this one that the reader was too slow for
}

// A Subscription reads what the broker notes from its begin on. Next is called by
// one goroutine at a time, Close at any time.
type Subscription struct {
	feed *feed

	unread []Noted // guarded by feed.mu
	lost   uint64  // guarded by feed.mu
	wake   chan struct{}
}

// Subscribe begins to read. Whoever subscribes closes.
func (b *Broker) Subscribe() (*Subscription, error) { return b.feed.subscribe() }

// Next returns the next event, and waits for it. The error is ErrEnded when the
// broker has ended, or the subscription was closed, and everything is read; or ctx's
// cause.
func (s *Subscription) Next(ctx context.Context) (Noted, error) {
	for {
		n, ok, err := s.feed.take(s)
		if ok || err != nil {
			return n, err
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Noted{}, context.Cause(ctx)
		}
	}
}

// Close ends the subscription. Closing again does nothing.
func (s *Subscription) Close() { s.feed.leave(s) }

// feed gives each event to all subscriptions. It never waits for one.
type feed struct {
	mu    sync.Mutex
	subs  map[*Subscription]bool
	ended bool
}

func (f *feed) subscribe() (*Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return nil, ErrEnded
	case len(f.subs) >= MaxSubscriptions:
		return nil, ErrSubscriptions
	case f.subs == nil:
		f.subs = map[*Subscription]bool{}
	}
	s := &Subscription{feed: f, wake: make(chan struct{}, 1)}
	f.subs[s] = true
	return s, nil
}

func (f *feed) tell(n Noted) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subs {
		if len(s.unread) == maxUnread {
			s.unread = append(s.unread[:0], s.unread[1:]...)
			s.lost++
		}
		s.unread = append(s.unread, n)
		s.stir()
	}
}

// stir has Next look again.
func (s *Subscription) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take(s *Subscription) (Noted, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(s.unread) == 0 {
		if !f.subs[s] {
			return Noted{}, false, ErrEnded
		}
		return Noted{}, false, nil
	}
	n := s.unread[0]
	s.unread = append(s.unread[:0], s.unread[1:]...)
	n.Lost, s.lost = s.lost, 0
	return n, true, nil
}

func (f *feed) leave(s *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subs, s)
	s.stir()
}

// end ends all subscriptions: there will be no more events.
func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for s := range f.subs {
		delete(f.subs, s)
		s.stir()
	}
}
