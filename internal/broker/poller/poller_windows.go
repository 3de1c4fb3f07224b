package poller

import (
	"errors"
	"net"
	"sync"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// queue is the keys of those that the system's thread pool has told of.
type queue struct{ *told }

type told struct {
	some chan struct{} // holds a token while there may be keys

	mu     sync.Mutex // guards the fields below
	keys   map[uint64]bool
	closed bool
}

func open() (queue, error) {
	return queue{&told{some: make(chan struct{}, 1), keys: map[uint64]bool{}}}, nil
}

func (q queue) watch(s *endpoint.Socket, key uint64) error {
	if s.Hold() == nil {
		return errors.ErrUnsupported
	}
	q.mu.Lock()
	closed := q.closed
	q.mu.Unlock()
	if closed {
		return net.ErrClosed
	}
	return s.Hold().Watch(func() { q.add(key) })
}

func (q queue) add(key uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.keys[key] = true
	q.wakeLocked()
}

func (q queue) wakeLocked() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q queue) forget(s *endpoint.Socket) error {
	if s.Hold() != nil {
		s.Hold().Unwatch()
	}
	return nil
}

func (q queue) wait(keys []uint64) ([]uint64, error) {
	for {
		<-q.some
		q.mu.Lock()
		n, closed := len(keys), q.closed
		for key := range q.keys {
			if len(keys) == n+mostKeys {
				break
			}
			keys = append(keys, key)
			delete(q.keys, key)
		}
		if len(q.keys) > 0 || closed {
			q.wakeLocked()
		}
		q.mu.Unlock()
		if closed {
			return keys[:n], net.ErrClosed
		}
		if len(keys) > n {
			return keys, nil
		}
	}
}

func (q queue) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wakeLocked()
	return nil
}
