// Package poller tells which of many listeners somebody waits at, without accepting
// and without a thread or a timer: the kernel wakes whoever waits for the answer,
// and nothing happens until then.
//
// It guarantees that a connection that waits when Watch is called, or comes later, is
// told of once. It does not say how many wait, nor whether they still do.
//
//	p, err := poller.New()
//	err = p.Watch(socket, key)
//	keys, err := p.Wait(nil)
package poller

import "github.com/fastbind/fastbind/internal/endpoint"

// A Poller is safe for concurrent use, but for Wait, which one goroutine calls.
type Poller struct{ queue queue }

// New returns a poller without listeners. It is errors.ErrUnsupported where the
// system can tell of nobody who waits.
func New() (*Poller, error) {
	q, err := open()
	if err != nil {
		return nil, err
	}
	return &Poller{q}, nil
}

// Watch has Wait return the key, once, when somebody waits at the listener. Watching
// a listener again renews that. The socket stays the caller's: it is to be given
// to Forget before it is closed, if another copy of the listener stays open.
func (p *Poller) Watch(s *endpoint.Socket, key uint64) error { return p.queue.watch(s, key) }

// Forget ends what Watch began; it is nothing if the listener is not watched. A key
// that Wait is about to return may still come.
func (p *Poller) Forget(s *endpoint.Socket) error { return p.queue.forget(s) }

// Wait blocks until somebody waits at a watched listener, and appends the keys, at
// most 64 at a time. It is net.ErrClosed after Close.
func (p *Poller) Wait(keys []uint64) ([]uint64, error) { return p.queue.wait(keys) }

// Close ends Wait. The listeners stay as they are.
func (p *Poller) Close() error { return p.queue.close() }

const mostKeys = 64
