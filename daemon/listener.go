package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/generation"
)

// onEnd calls f once when the peer hangs up or the connection is closed, at once
// if it is closed already, unless the returned function was called before.
func (c *Conn) onEnd(f func()) (cancel func()) {
	c.ln.mu.Lock()
	defer c.ln.mu.Unlock()
	if c.closed {
		go f()
		return func() {}
	}
	if c.ends == nil {
		c.ends = map[int]func(){}
	}
	key := c.next
	c.next++
	c.ends[key] = f
	if c.unwatch == nil {
		c.unwatch = watchHangup(c.raw(), c.end)
	}
	return func() {
		c.ln.mu.Lock()
		defer c.ln.mu.Unlock()
		delete(c.ends, key)
	}
}

// end calls everyone who waits for the connection's end.
func (c *Conn) end() {
	c.ln.mu.Lock()
	ends := c.ends
	c.ends = nil
	c.ln.mu.Unlock()
	for _, f := range ends {
		f()
	}
}

// listener is what Serve accepts from. It refuses peers of another uid, waits
// out a lack of descriptors, counts what it handed out, and during a drain
// hands out what is queued before it says net.ErrClosed.
type listener struct {
	ul      *endpoint.Listener
	need    *need         // is held for each open connection
	drained chan struct{} // closed when the queue was found empty in a drain
	asked   chan struct{} // Accept was called in a drain

	mu       sync.Mutex // guards the fields below
	gate     generation.Gate
	resumed  chan struct{} // while paused; closed when that is over
	inAccept int
	accepted *sync.Cond // signalled when inAccept becomes 0
	open     int
	none     chan struct{} // closed when open is 0 in a drain
}

func newListener(ul *endpoint.Listener, n *need) *listener {
	l := &listener{ul: ul, need: n, drained: make(chan struct{}), asked: make(chan struct{}, 1), none: make(chan struct{})}
	l.accepted = sync.NewCond(&l.mu)
	return l
}

// Addr returns the endpoint's address.
func (l *listener) Addr() net.Addr { return l.ul.Addr() }

// Close stops accepting. It does not remove the endpoint's name.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate.Closed {
		return net.ErrClosed
	}
	l.turnLocked(l.gate.Close())
	return l.ul.Close()
}

// Bounds of the pause after the system had no descriptor or memory for a
// connection. Failing Accept would end most daemons for a passing lack.
const (
	minLack = 5 * time.Millisecond
	maxLack = time.Second
)

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	for lack := minLack; ; {
		uc, err := l.next()
		switch {
		case err == nil:
			if endpoint.Check(uc) != nil {
				_ = uc.Close() // not of our uid, or gone already
				continue
			}
			return l.track(uc), nil
		case isLack(err):
			time.Sleep(lack)
			lack = min(2*lack, maxLack)
		case errors.Is(err, os.ErrDeadlineExceeded): // woken: things have changed
		default:
			return nil, err
		}
	}
}

func isLack(err error) bool {
	return endpoint.IsLack(err) || errors.Is(err, syscall.ECONNABORTED)
}

func (l *listener) next() (*endpoint.Conn, error) {
	switch entry := l.enter(); entry {
	case generation.AcceptNext:
		return l.acceptOne()
	case generation.AcceptQueued:
	default:
		return nil, l.ended()
	}
	select {
	case l.asked <- struct{}{}:
	default:
	}
	uc, err := acceptQueued(l.ul)
	if errors.Is(err, syscall.EAGAIN) {
		l.mu.Lock()
		defer l.mu.Unlock()
		select {
		case <-l.drained:
		default:
			close(l.drained)
		}
		return nil, l.ended()
	}
	return uc, err
}

// ended is what Accept says when nothing is accepted any more.
func (l *listener) ended() error {
	return &net.OpError{Op: "accept", Net: l.ul.Addr().Network(), Addr: l.ul.Addr(), Err: net.ErrClosed}
}

// enter waits until the gate is not paused and says what it lets Accept do. With
// AcceptNext the caller is counted as accepting.
func (l *listener) enter() generation.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch entry := l.gate.Accept(); entry {
		case generation.AcceptWait:
			resumed := l.resumed
			l.mu.Unlock()
			<-resumed
			l.mu.Lock()
		case generation.AcceptNext:
			l.inAccept++
			return entry
		default:
			return entry
		}
	}
}

// acceptOne accepts for who has entered.
func (l *listener) acceptOne() (*endpoint.Conn, error) {
	uc, err := accept(l.ul)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inAccept--; l.inAccept == 0 {
		l.accepted.Broadcast()
	}
	return uc, err
}

// turnLocked changes the gate.
func (l *listener) turnLocked(to generation.Gate) {
	was := l.gate.Paused
	l.gate = to
	switch {
	case to.Paused && !was:
		l.resumed = make(chan struct{})
	case was && !to.Paused:
		close(l.resumed)
	}
}

// pause stops accepting until resume or handOn: Accept blocks. It returns when
// nothing is being accepted any more.
func (l *listener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(l.gate.Pause())
	l.wakeLocked()
}

// resume ends a pause.
func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turnLocked(l.gate.Resume())
	if l.gate.Accept() == generation.AcceptNext {
		_ = l.ul.SetDeadline(time.Time{})
	}
}

// handOn ends accepting without touching the queue, which another process has:
// Accept says net.ErrClosed from now on. It returns when nothing is being
// accepted any more.
func (l *listener) handOn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.gate.Handed {
		l.turnLocked(l.gate.HandOn())
		if l.open == 0 {
			close(l.none)
		}
	}
	l.wakeLocked()
}

// wakeLocked waits until nobody is accepting.
func (l *listener) wakeLocked() {
	_ = l.ul.SetDeadline(time.Unix(1, 0))
	for l.inAccept > 0 {
		l.accepted.Wait()
	}
}

// refuse makes the kernel refuse newcomers and begins the drain.
func (l *listener) refuse() error {
	if err := endpoint.Shut(l.ul); err != nil {
		return err
	}
	l.drain()
	return nil
}

// drain makes Accept hand out what is queued and nothing more. A blocked Accept
// does not notice a shutdown by itself: the deadline wakes it.
func (l *listener) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate.Draining {
		return
	}
	l.turnLocked(l.gate.Drain())
	if l.open == 0 {
		close(l.none)
	}
	_ = l.ul.SetDeadline(time.Unix(1, 0))
}

func (l *listener) track(uc *endpoint.Conn) *Conn {
	l.need.connect()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open++; l.open == 1 && (l.gate.Draining || l.gate.Handed) {
		l.none = make(chan struct{})
	}
	return newConn(uc, l)
}

func (l *listener) forget(c *Conn) {
	l.mu.Lock()
	if c.closed {
		l.mu.Unlock()
		return
	}
	c.closed = true
	unwatch := c.unwatch
	if l.open--; l.open == 0 && (l.gate.Draining || l.gate.Handed) {
		close(l.none)
	}
	l.mu.Unlock()
	l.need.release()
	if unwatch != nil {
		unwatch()
	}
	c.end()
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// idle returns a channel that is closed when no connection is open. It is
// called in a drain, after the last connection was handed out.
func (l *listener) idle() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.none
}

// ConnContext returns a context for the work done for one connection: it ends
// when the peer has hung up, also while nobody reads from conn, when conn is
// closed, or when ctx ends. It has the shape of http.Server.ConnContext. Any
// number of contexts can be made for a connection.
//
// A half-closed connection has not hung up: its peer waits for the answer. If
// ctx is Serve's, or has its end, a stop does not end the work at once but when
// the drain's bound is over. conn must be one that Serve's listener accepted;
// of another the hang-up is not noticed.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*Conn)
	if !ok {
		return ctx
	}
	parent, end := ctx, context.Context(nil)
	if d, ok := ctx.Value(drainKey{}).(drain); ok && d.serving == ctx.Done() {
		parent, end = context.WithoutCancel(ctx), d.hard
	}
	child, cancel := context.WithCancel(parent)
	unwatch := c.onEnd(cancel)
	context.AfterFunc(child, unwatch)
	if end != nil {
		stop := context.AfterFunc(end, cancel)
		context.AfterFunc(child, func() { stop() })
	}
	return child
}
