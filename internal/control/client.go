package control

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// A Client asks the daemon at the other end of one connection. It is safe for
// concurrent use; calls wait for each other.
//
// Every call ends with its context and then returns ctx.Err. It returns
// net.ErrClosed after Close, io.ErrUnexpectedEOF if the peer ended the
// connection before its reply, which a server does to whom it has no slot for,
// *RemoteError for an error the peer replied with, *FormatError if the two sides
// speak different formats, and ErrNonce for the answer to someone else's
// question. After any error but *RemoteError, and but for a context that had
// ended before the call's turn or a nonce that was refused unsent, the connection
// is closed: what comes next on it belongs to nobody.
type Client struct {
	conn   net.Conn
	frames frameReader
	turn   chan struct{} // holds one token while a call uses conn and frames
	closed atomic.Bool
	format int // what the client asks for; Format but in tests
}

// NewClient returns a client that owns conn. The caller has dialled it and has
// checked who its peer is.
func NewClient(conn net.Conn) *Client {
	return &Client{
		conn:   conn,
		frames: frameReader{r: conn},
		turn:   make(chan struct{}, 1),
		format: Format,
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

// Identify returns what the daemon says of itself now. A nonce of at most
// MaxNonce bytes of UTF-8, fresh for each call, makes sure that the reply was
// written for it; without one, the empty string, nothing does. Identify blocks
// until the reply is there: a daemon that is stopped accepts connections and
// never answers.
func (c *Client) Identify(ctx context.Context, nonce string) (Identity, error) {
	var id Identity
	err := c.identify(ctx, nonce, false, func(got Identity) bool {
		id = got
		return false
	})
	if err != nil {
		return Identity{}, err
	}
	return id, nil
}

// Watch calls each with what the daemon says of itself, at once and then at
// every change of phase or progress, until the phase is settled, the daemon has
// no more to say, or each returns true. Then it returns nil; the last identity
// tells which it was. A daemon that dies leaves its watchers with
// io.ErrUnexpectedEOF.
//
// Changes that come while each runs are merged, but each should return within
// seconds: the daemon closes the connection of a watcher that does not read. If
// each returns true before the daemon's last reply, the client is closed, which
// is how one stops a Varlink stream.
func (c *Client) Watch(ctx context.Context, nonce string, each func(Identity) (stop bool)) error {
	return c.identify(ctx, nonce, true, each)
}

func (c *Client) identify(ctx context.Context, nonce string, more bool, each func(Identity) bool) error {
	if len(nonce) > MaxNonce || !utf8.ValidString(nonce) {
		return errors.New("nonce " + strconv.Quote(cut(nonce, MaxNonce)) + " is too long or not UTF-8")
	}
	parameters := jsonlite.Object(jsonlite.Member{Name: "format", Value: jsonlite.Int(int64(c.format))})
	if nonce != "" {
		parameters = jsonlite.Object(
			jsonlite.Member{Name: "nonce", Value: jsonlite.String(nonce)},
			jsonlite.Member{Name: "format", Value: jsonlite.Int(int64(c.format))})
	}
	return c.ask(ctx, call{method: "io.fastbind.Daemon.Identify", parameters: parameters, more: more}, false,
		func(v jsonlite.Value) (stop bool, err error) {
			id, err := parseIdentity(v)
			if err == nil && id.Nonce != nonce {
				err = ErrNonce
			}
			if err != nil {
				return false, err
			}
			return each(id), nil
		})
}

// ask makes a call and passes the parameters of each reply on, until the last
// one, an error or stop. With keep a peer that has more to say stays connected.
func (c *Client) ask(ctx context.Context, request call, keep bool, each func(jsonlite.Value) (stop bool, err error)) error {
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
func (c *Client) exchange(ctx context.Context, request call, each func(jsonlite.Value) (stop bool, err error)) (done bool, err error) {
	if _, err := c.conn.Write(request.appendFrame(nil)); err != nil {
		return false, c.broken(ctx, err)
	}
	for {
		r, err := c.next(ctx)
		if err != nil {
			return false, err
		}
		if r.err != "" {
			err := remoteError(r)
			_, usable := err.(*RemoteError)
			return usable && !r.continues, err
		}
		if r.continues && !request.more {
			return false, errors.New("malformed reply: more to come, though only one was asked for")
		}
		stop, err := each(r.parameters)
		if err != nil {
			return false, err
		}
		if stop || !r.continues {
			return !r.continues, nil
		}
	}
}

func (c *Client) next(ctx context.Context) (reply, error) {
	frame, err := c.frames.next(func() error { return nil })
	if err != nil {
		return reply{}, c.broken(ctx, err)
	}
	r, err := parseReply(frame)
	if err != nil {
		return reply{}, errors.New("malformed reply: " + err.Error())
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

func remoteError(r reply) error {
	if r.err == errUnsupportedFormat {
		f := fields{object: r.parameters}
		wanted, supported := f.integerOr("wanted", 0), f.integerOr("supported", 0)
		if f.err == nil && wanted > 0 && supported > 0 {
			return &FormatError{Peer: supported, Ours: wanted}
		}
	}
	return &RemoteError{Name: r.err, Parameters: r.parameters}
}
