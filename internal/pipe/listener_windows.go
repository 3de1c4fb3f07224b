package pipe

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// Addr is a pipe's name as a [net.Addr].
type Addr string

// Network returns "pipe".
func (Addr) Network() string { return "pipe" }

// String returns the name.
func (a Addr) String() string { return string(a) }

// ErrShared is the answer of Shut where another process serves the name too.
var ErrShared = errors.New("another process serves the name too")

// A Listener serves a queue of instances. It is a [net.Listener] and safe for
// concurrent use. Nothing of it runs between calls, and no thread is held by Accept.
type Listener struct {
	name  string
	n     int            // how many instances wait for clients
	ready chan *instance // those with a client; room for all
	until deadline

	mu      sync.Mutex // guards the fields below, and the instances
	armed   []*instance
	rest    []*instance // those with a client when it was shut; accepted first
	state   listenerState
	stopped chan struct{} // closed when no more instances will be ready; another after Reopen
	tell    func(made, taken []uintptr) error
	awaited chan struct{} // while nobody is handed out; closed when that is over
	untold  func()        // of Await
}

type listenerState uint8

const (
	serving listenerState = iota
	shut                  // no new clients, those of rest can still be accepted
	closed
)

// Closed returns a listener in the state after Shut, to which nobody is connected: one
// that waits for Reopen. n is as of [Claim].
func Closed(name string, n int) (*Listener, error) {
	if n < 1 || n > MaxQueue || !validName(name) {
		return nil, pathError("listen on", name, syscall.EINVAL)
	}
	l := newListener(name, n)
	l.state = shut
	close(l.stopped)
	return l, nil
}

func newListener(name string, n int) *Listener {
	l := &Listener{name: name, n: n, ready: make(chan *instance, n), stopped: make(chan struct{})}
	l.until.init()
	return l
}

func listen(name string, handles []windows.Handle) (*Listener, error) {
	l := newListener(name, len(handles))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, h := range handles {
		in, err := arm(h, l.ready)
		if err != nil {
			for _, h := range handles[i:] {
				_ = windows.CloseHandle(h)
			}
			for _, in := range l.stopLocked() {
				in.close()
			}
			return nil, l.opError("listen", err)
		}
		l.armed = append(l.armed, in)
	}
	return l, nil
}

// Accept is AcceptPipe, as a [net.Listener] has it.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptPipe()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptPipe returns the next connection. It blocks until there is a client, the
// listener is closed ([net.ErrClosed]; after Shut once all that were connected are
// accepted), or the deadline is reached ([os.ErrDeadlineExceeded]). Errors are
// *[net.OpError].
//
// An instance takes the connection's place in the queue before it is returned. Where
// the system has none to give, the queue is shorter until it has; only when none is
// left at all is that an error, and the next call tries again.
func (l *Listener) AcceptPipe() (*Conn, error) {
	for {
		select {
		case <-l.until.reached():
			return nil, l.opError("accept", os.ErrDeadlineExceeded)
		default:
		}
		stopped, c, err := l.acceptRest()
		if c != nil || err != nil {
			return c, err
		}
		if awaited := l.awaiting(); awaited != nil {
			select {
			case <-l.until.reached():
			case <-stopped:
			case <-awaited:
			}
			continue
		}
		if err := l.refill(); err != nil {
			return nil, l.opError("accept", err)
		}
		select {
		case <-l.until.reached():
		case <-stopped:
		case in := <-l.ready:
			if c, err := l.accept(in); c != nil || err != nil {
				return c, err
			}
		}
	}
}

// accept makes a connection of an instance that was ready, and has the queue refilled
// before. Nil and nil: it was none after all.
func (l *Listener) accept(in *instance) (*Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.armed, in)
	if i < 0 {
		return nil, nil // stopped meanwhile, and who did has taken it
	}
	err := in.result()
	if err == errAgain {
		if err = in.rearm(l.ready); err == nil {
			return nil, nil
		}
	}
	l.armed = slices.Delete(l.armed, i, i+1)
	l.takenLocked(in)
	if err != nil {
		in.close()
		return nil, l.opError("accept", err)
	}
	_ = l.refillLocked() // or the next call says why not
	return l.connection(in)
}

func (l *Listener) connection(in *instance) (*Conn, error) {
	in.disarm()
	c, err := newConn(in.h, l.name, true)
	if err != nil {
		return nil, l.opError("accept", err)
	}
	return c, nil
}

// acceptRest returns what was connected when Shut was called. Nil and nil: the listener
// serves, until stopped.
func (l *Listener) acceptRest() (stopped <-chan struct{}, c *Conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		in := l.rest[0]
		l.rest = l.rest[1:]
		c, err = l.connection(in)
		return nil, c, err
	}
	if l.state != serving {
		return nil, nil, l.opError("accept", net.ErrClosed)
	}
	return l.stopped, nil, nil
}

// refill gives the queue its length again. An error says that there is no queue.
func (l *Listener) refill() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refillLocked(); err != nil && len(l.armed) == 0 {
		return err
	}
	return nil
}

func (l *Listener) refillLocked() error {
	var made []uintptr
	defer func() { l.madeLocked(made) }()
	for l.state == serving && len(l.armed) < l.n {
		h, err := create(l.name, windows.FILE_OPEN)
		if isNotExist(err) {
			// All were used up and their connections have ended, since the system
			// gave no further ones. The name is claimed anew.
			h, err = create(l.name, windows.FILE_CREATE)
		}
		if err != nil {
			return err
		}
		in, err := arm(h, l.ready)
		if err != nil {
			_ = windows.CloseHandle(h)
			return err
		}
		l.armed = append(l.armed, in)
		made = append(made, uintptr(h))
	}
	return nil
}

// Shut makes the name refuse further clients, while those that are connected can still
// be accepted; the last Accept after them returns [net.ErrClosed]. Nobody who has
// connected is lost. It does not block. Calling it again does nothing.
//
// It is [ErrShared] where another process has instances of the name: clients would go
// there, and it is that process's turn. Then nothing has changed, but
// that process has had a connection that ended at once. After Close it is [net.ErrClosed].
func (l *Listener) Shut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.state {
	case shut:
		return nil
	case closed:
		return l.opError("shut", net.ErrClosed)
	}
	own, err := l.occupyLocked()
	if err != nil {
		l.takenLocked(own...)
		for _, in := range own {
			in.close()
		}
		l.armed = slices.DeleteFunc(l.armed, func(in *instance) bool { return slices.Contains(own, in) })
		l.forgetLocked()
		_ = l.refillLocked()
		return l.opError("shut", err)
	}
	l.state = shut
	all := l.stopLocked()
	l.takenLocked(all...)
	for _, in := range all {
		if slices.Contains(own, in) || in.cancel() != nil {
			in.close()
			continue
		}
		// The system may not have told of the client yet, and is not to later.
		in.unwatch()
		l.rest = append(l.rest, in)
	}
	l.forgetLocked() // what it has told of meanwhile
	close(l.stopped)
	return nil
}

// Reopen undoes a Shut: clients can connect again, beside the connections of whoever had
// the name meanwhile, and those that were connected then are accepted first. That nobody
// else serves the name is for the caller to see to. It does not block. On a listener that
// serves it does nothing; after Close it is [net.ErrClosed]. Any other error leaves it
// shut.
func (l *Listener) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.state {
	case serving:
		return nil
	case closed:
		return l.opError("listen", net.ErrClosed)
	}
	l.state = serving
	if err := l.refillLocked(); err != nil && len(l.armed) == 0 {
		l.state = shut
		return l.opError("listen", err)
	}
	l.stopped = make(chan struct{})
	return nil
}

// occupyLocked connects to every instance that waits for a client, and returns these. The
// system has no call that closes an instance only if nobody has connected to it:
// between a look and the close a client would be lost. But a connect is exact: an
// instance is either a client's or our own.
func (l *Listener) occupyLocked() (own []*instance, err error) {
	for {
		h, err := open(l.name)
		switch {
		case err == windows.ERROR_PIPE_BUSY || isNotExist(err):
			return own, nil
		case err != nil:
			return own, err
		}
		// Closed at the end only: an instance whose client has left could be
		// another's next.
		defer windows.CloseHandle(h)
		mark := []byte(rand.Text())
		if err := writeAll(h, mark); err != nil {
			return own, err
		}
		i := slices.IndexFunc(l.armed, func(in *instance) bool { return !slices.Contains(own, in) && begins(in.h, mark) })
		if i < 0 {
			return own, ErrShared
		}
		own = append(own, l.armed[i])
	}
}

// forgetLocked takes what is armed no more out of ready, which has room for armed ones
// only.
func (l *Listener) forgetLocked() {
	for range cap(l.ready) {
		select {
		case in := <-l.ready:
			if slices.Contains(l.armed, in) {
				l.ready <- in
			}
		default:
			return
		}
	}
}

// stopLocked returns all armed instances, those that are ready first, and leaves none.
func (l *Listener) stopLocked() []*instance {
	var all []*instance
	for {
		select {
		case in := <-l.ready:
			if i := slices.Index(l.armed, in); i >= 0 {
				l.armed = slices.Delete(l.armed, i, i+1)
				all = append(all, in)
			}
			continue
		default:
		}
		all = append(all, l.armed...)
		l.armed = nil
		return all
	}
}

// Close ends the listener. Clients that wait in its queue see their connection end, as
// those of a closed socket do; Shut is for keeping them. Connections that were
// accepted live on. Closing again is [net.ErrClosed].
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == closed {
		return l.opError("close", net.ErrClosed)
	}
	if l.state == serving {
		close(l.stopped)
	}
	l.state = closed
	for _, in := range append(l.stopLocked(), l.rest...) {
		in.close()
	}
	l.rest = nil
	if l.tell != nil {
		_ = l.tell(nil, nil)
		l.tell = nil
	}
	return nil
}

// Addr returns the pipe's name, an [Addr].
func (l *Listener) Addr() net.Addr { return Addr(l.name) }

// SetDeadline bounds Accept, also one that waits already; the zero time ends the bound.
func (l *Listener) SetDeadline(t time.Time) error {
	l.until.set(t)
	return nil
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Addr: Addr(l.name), Err: err}
}

// A deadline is a channel that is closed when a time has come, which can be changed.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	c     chan struct{}
}

func (d *deadline) init() { d.c = make(chan struct{}) }

// reached returns the channel. It is made anew when a reached deadline is put off, so
// whoever waits has to have asked before.
func (d *deadline) reached() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.c
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.c // it runs: its close comes, and without our mutex
	}
	d.timer = nil
	select {
	case <-d.c:
		d.c = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	c := d.c
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(c) })
	} else {
		close(c)
	}
}
