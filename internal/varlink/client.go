package varlink

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// A Client asks the service at the other end of one connection. It is safe for
// concurrent use; calls wait for each other.
//
// Every call ends with its context and then returns ctx.Err. It returns
// net.ErrClosed after Close, io.ErrUnexpectedEOF if the peer ended the
// connection before its reply, which a server does to whom it has no slot for, and
// *RemoteError for an error the peer replied with. After any error but *RemoteError,
// and but for a context that had ended before the call's turn, the connection is
// closed: what comes next on it belongs to nobody.
type Client struct {
	conn   net.Conn
	frames FrameReader
	turn   chan struct{} // holds one token while a call uses conn and frames
	closed atomic.Bool
}

// NewClient returns a client that owns conn. The caller has dialled it and has
// checked who its peer is.
func NewClient(conn net.Conn) *Client {
	return &Client{
		conn:   conn,
		frames: FrameReader{r: conn},
		turn:   make(chan struct{}, 1),
	}
}

// Close closes the connection and ends a call that is under way. It does not
// wait. A second Close does nothing.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.conn.Close()
}

// Conn is the connection. It stays the client's.
func (c *Client) Conn() net.Conn { return c.conn }

// Ask makes a call and passes the parameters of each reply on, until the last
// one, an error or stop; a nil function hears one reply and stops. If the peer has
// more to say then, the client is closed, which is how one stops a Varlink stream;
// with keep it stays connected.
func (c *Client) Ask(ctx context.Context, request Call, keep bool, each func(jsonlite.Value) (stop bool, err error)) error {
	return c.AskThrough(ctx, c.conn, request, keep, each)
}

// AskThrough is Ask that reads the replies from r, which reads the connection and
// takes what comes along.
func (c *Client) AskThrough(ctx context.Context, r io.Reader, request Call, keep bool, each func(jsonlite.Value) (stop bool, err error)) error {
	if each == nil {
		each = func(jsonlite.Value) (bool, error) { return true, nil }
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err // both were ready, and select chooses either
	}
	if c.closed.Load() {
		return net.ErrClosed
	}
	c.frames.r = r
	defer func() { c.frames.r = c.conn }()
	defer c.interruptible(ctx)()
	done, err := c.exchange(ctx, request, each)
	if !done && (err != nil || !keep) {
		c.Close()
	}
	return err
}

// interruptible makes the end of ctx end what blocks on the connection, until
// the function it returns is called.
func (c *Client) interruptible(ctx context.Context) (stop func()) {
	fired := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(fired)
		c.conn.SetDeadline(longAgo)
	})
	return func() {
		if !cancel() {
			<-fired
			c.conn.SetDeadline(time.Time{}) // the call was faster; the next one may block again
		}
	}
}

// exchange writes a request and passes the parameters of each reply on, until
// the last reply, an error or stop. It reports whether the peer has no more to
// say to this request, so that the connection can be used for another one.
func (c *Client) exchange(ctx context.Context, request Call, each func(jsonlite.Value) (stop bool, err error)) (done bool, err error) {
	if _, err := c.conn.Write(request.AppendFrame(nil)); err != nil {
		return false, c.broken(ctx, err)
	}
	for {
		r, err := c.next(ctx)
		if err != nil {
			return false, err
		}
		if r.Err != "" {
			return !r.Continues, &RemoteError{Name: r.Err, Parameters: r.Parameters}
		}
		if r.Continues && !request.More {
			return false, errors.New("malformed reply: more to come, though only one was asked for")
		}
		stop, err := each(r.Parameters)
		if err != nil {
			return false, err
		}
		if stop || !r.Continues {
			return !r.Continues, nil
		}
	}
}

func (c *Client) next(ctx context.Context) (Reply, error) {
	frame, err := c.frames.Next(nil)
	if err != nil {
		return Reply{}, c.broken(ctx, err)
	}
	r, err := ParseReply(frame)
	if err != nil {
		return Reply{}, errors.New("malformed reply: " + err.Error())
	}
	return r, nil
}

// broken returns the reason for an error of the connection: what this side has
// done to it comes first.
func (c *Client) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.closed.Load():
		return net.ErrClosed
	case err == io.EOF, errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return io.ErrUnexpectedEOF // which of them depends on what lay unread
	}
	return err
}
