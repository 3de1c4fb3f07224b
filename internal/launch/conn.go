package launch

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/proc"
)

// A Conn watches a connection for its first reply and says, as a *Fault, why none
// comes: because the generation died, or because it is hung. From the first byte
// on the connection's errors are its own. Its methods are as safe for concurrent
// use as those of the connection.
//
// A connection costs nothing more until its first write, which starts a timer.
// That ends with the first byte or with Close.
type Conn struct {
	raw    net.Conn
	broker *Broker
	began  time.Time // when the dial began
	asking asking    // nil but in tests

	first   atomic.Bool // a byte was read
	written atomic.Bool // watch is set up, or not needed

	mu     sync.Mutex // guards the fields below
	over   bool       // a byte was read, or it was closed
	wrote  time.Time  // the first write
	timer  *time.Timer
	cancel context.CancelFunc // ends the question under way, nil without one
	asked  time.Time          // the last question at a caller's deadline
	hung   *Fault             // the daemon is hung, and every deadline is over
}

// asking are the questions that a Conn asks.
type asking interface {
	Hang(context.Context, Silence) *Fault
	Verdict(Lost) *Fault
}

// Watch makes a Conn of a connection that the broker's Dial made; began is when
// that was called. Conn is a value so that it can be part of another one.
func (b *Broker) Watch(c *Conn, raw net.Conn, began time.Time) {
	c.raw, c.broker, c.began = raw, b, began
}

// Bounds of the questions that a connection asks.
const (
	// lateWithin is how long a caller whose deadline is over waits for the answer
	// whether the daemon is hung.
	lateWithin = 100 * time.Millisecond

	// lateEvery keeps a caller that polls with short deadlines from asking each time.
	lateEvery = time.Second

	// minAsk is the least time from an answer to the next question.
	minAsk = 100 * time.Millisecond
)

// longAgo is a deadline that wakes whoever is blocked.
var longAgo = time.Unix(1, 0)

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.raw.Read(p)
	if n > 0 && !c.first.Load() {
		c.Arrived()
	}
	if err != nil && n == 0 {
		err = c.Explain(err)
	}
	return n, err
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (int, error) {
	c.Begin()
	n, err := c.raw.Write(p)
	if err != nil {
		err = c.Explain(err)
	}
	return n, err
}

// Begin notes that something is written, if it is the first time.
func (c *Conn) Begin() {
	if c.written.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written.Swap(true) || c.over {
		return
	}
	c.wrote = time.Now()
	c.timer = time.AfterFunc(c.broker.Def.HangAfter, c.ask)
}

// Arrived notes that the first byte is there.
func (c *Conn) Arrived() {
	c.first.Store(true)
	c.end()
}

// First reports whether a byte was read.
func (c *Conn) First() bool { return c.first.Load() }

// Close closes the connection. A second one gets the connection's error.
func (c *Conn) Close() error {
	c.end()
	return c.raw.Close()
}

// end ends the watch. A question under way is not waited for: what it has begun,
// goes on within its own bounds.
func (c *Conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are the connection's, but
// that none lets anybody block on a daemon that is known to be hung.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(c.raw.SetDeadline, t) }

// SetReadDeadline is like SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(c.raw.SetReadDeadline, t) }

// SetWriteDeadline is like SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(c.raw.SetWriteDeadline, t) }

func (c *Conn) setDeadline(set func(time.Time) error, t time.Time) error {
	if c.first.Load() {
		return set(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hung != nil {
		t = longAgo
	}
	return set(t)
}

// ask asks, in the timer's goroutine, whether the daemon is hung.
func (c *Conn) ask() {
	s, ok := c.silence()
	c.mu.Lock()
	if c.over || c.hung != nil {
		c.mu.Unlock()
		return
	}
	if !ok { // it was closed behind our back
		c.over = true
		c.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.cancel = cancel
	c.mu.Unlock()

	f := c.questions().Hang(ctx, s)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = nil
	switch {
	case c.over || c.hung != nil:
	case f == nil:
		c.timer.Reset(max(c.broker.Def.HangAfter, minAsk))
	default:
		c.hungLocked(f)
	}
}

func (c *Conn) hungLocked(f *Fault) {
	c.hung = f
	_ = c.raw.SetDeadline(longAgo)
}

// silence describes the unanswered connection; false if it is closed.
func (c *Conn) silence() (Silence, bool) {
	pid, err := c.peer()
	c.mu.Lock()
	defer c.mu.Unlock()
	return Silence{Peer: pid, For: time.Since(c.wrote)}, !errors.Is(err, net.ErrClosed)
}

// peer is the pid of who listened when the connection was made, 0 if unknown.
func (c *Conn) peer() (int, error) {
	return endpoint.PeerPID(c.raw)
}

func (c *Conn) questions() asking {
	if c.asking != nil {
		return c.asking
	}
	return c.broker
}

// Explain returns the *Fault behind an error of the connection, or the error
// itself.
func (c *Conn) Explain(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return c.late(err)
	}
	if c.first.Load() {
		return err
	}
	pid, _ := c.peer()
	f := c.questions().Verdict(Lost{
		Since: proc.BootTime() - time.Since(c.began), Peer: pid, Reset: !errors.Is(err, io.EOF)})
	if f == nil {
		return err
	}
	if f.Class == Hung {
		// It was killed a moment ago, perhaps from this process, which then
		// launches the next one: a caller that ends on this error is not to end that.
		ctx, cancel := context.WithTimeout(context.Background(), lateWithin)
		defer cancel()
		c.questions().Hang(ctx, Silence{Peer: pid})
	}
	return f
}

// late returns what an error at a deadline means: that the daemon is hung, if it
// is known by now or can be known within lateWithin, else that it is late.
func (c *Conn) late(err error) error {
	c.mu.Lock()
	f := c.hung
	if f != nil || c.over || c.timer == nil || time.Since(c.asked) < lateEvery {
		c.mu.Unlock()
		if f != nil {
			return f
		}
		return err
	}
	c.asked = time.Now()
	c.mu.Unlock()
	s, ok := c.silence()
	if !ok {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lateWithin)
	defer cancel()
	f = c.questions().Hang(ctx, s)
	if f == nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hung == nil && !c.over {
		late := *f
		late.Err = &lateCause{f.Err, err}
		c.hungLocked(&late)
	}
	if c.hung == nil {
		return err
	}
	return c.hung
}

// A lateCause is why a daemon is hung, as told at a caller's deadline: who asks
// whether that is over is told so.
type lateCause struct{ cause, deadline error }

func (e *lateCause) Error() string   { return e.cause.Error() }
func (e *lateCause) Unwrap() []error { return []error{e.cause, e.deadline} }
