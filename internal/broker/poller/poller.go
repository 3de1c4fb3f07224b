// Package poller tells which of many listeners somebody waits at, without accepting
// and without a thread or a timer: the kernel wakes whoever waits for the answer,
// and nothing happens until then.
//
// It guarantees that a connection that waits when Watch is called, or comes later, is
// told of once. It does not say how many wait, nor whether they still do.
//
//	p, err := poller.New()
//	err = p.Watch(fd, key)
//	keys, err := p.Wait(nil)
package poller

import (
	"net"
	"os"
	"syscall"
)

// A Poller is safe for concurrent use, but for Wait, which one goroutine calls.
type Poller struct {
	f   *os.File // of the kernel's queue, which is itself waited for
	raw syscall.RawConn
}

// New returns a poller without listeners. It is errors.ErrUnsupported where the
// system has no epoll(7).
func New() (*Poller, error) {
	fd, err := open()
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "poller")
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Poller{f: f, raw: raw}, nil
}

// Watch has Wait return the key, once, when somebody waits at the listener. Watching
// a listener again renews that. The descriptor stays the caller's: it is to be given
// to Forget before it is closed, if another copy of the listener stays open.
func (p *Poller) Watch(fd int, key uint64) error {
	return p.control(func(queue int) error { return watch(queue, fd, key) })
}

// Forget ends what Watch began; it is nothing if the listener is not watched. A key
// that Wait is about to return may still come.
func (p *Poller) Forget(fd int) error {
	return p.control(func(queue int) error { return forget(queue, fd) })
}

func (p *Poller) control(do func(queue int) error) error {
	var err error
	if p.raw.Control(func(queue uintptr) { err = do(int(queue)) }) != nil {
		return net.ErrClosed // nothing else ends the use of an open file
	}
	return err
}

// Wait blocks until somebody waits at a watched listener, and appends the keys, at
// most 64 at a time. It is net.ErrClosed after Close.
func (p *Poller) Wait(keys []uint64) ([]uint64, error) {
	var err error
	rerr := p.raw.Read(func(queue uintptr) bool {
		n := len(keys)
		keys, err = collect(int(queue), keys)
		return err != nil || len(keys) > n
	})
	if rerr != nil {
		return keys, net.ErrClosed // as in control
	}
	return keys, err
}

// Close ends Wait. The listeners stay as they are.
func (p *Poller) Close() error { return p.f.Close() }
