package control

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
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
	wire   *varlink.Client
	format int // what the client asks for; Format but in tests
}

// NewClient returns a client that owns conn. The caller has dialled it and has
// checked who its peer is.
func NewClient(conn net.Conn) *Client {
	return &Client{wire: varlink.NewClient(conn), format: Format}
}

// Close closes the connection and ends a call that is under way. It does not
// wait. A second Close does nothing.
func (c *Client) Close() error { return c.wire.Close() }

// File returns a copy of the connection's descriptor, close-on-exec, for another
// NewClient: what the connection stands for lives on with it.
func (c *Client) File() (*os.File, error) {
	conn, ok := c.wire.Conn().(interface{ File() (*os.File, error) })
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return conn.File()
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
		return errors.New("nonce " + strconv.Quote(varlink.Cut(nonce, MaxNonce)) + " is too long or not UTF-8")
	}
	parameters := jsonlite.Object(jsonlite.Member{Name: "format", Value: jsonlite.Int(int64(c.format))})
	if nonce != "" {
		parameters = jsonlite.Object(
			jsonlite.Member{Name: "nonce", Value: jsonlite.String(nonce)},
			jsonlite.Member{Name: "format", Value: jsonlite.Int(int64(c.format))})
	}
	return c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Identify", Parameters: parameters, More: more}, false,
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
func (c *Client) ask(ctx context.Context, request varlink.Call, keep bool, each func(jsonlite.Value) (stop bool, err error)) error {
	return c.of(c.wire.Ask(ctx, request, keep, each))
}

// of returns what an error of the wire means. After another format nothing that the
// peer says is understood.
func (c *Client) of(err error) error {
	r, ok := err.(*varlink.RemoteError)
	if !ok || r.Name != errUnsupportedFormat {
		return err
	}
	f := varlink.FieldsOf(r.Parameters)
	wanted, supported := f.IntegerOr("wanted", 0), f.IntegerOr("supported", 0)
	if f.Err != nil || wanted <= 0 || supported <= 0 {
		return err
	}
	_ = c.Close()
	return &FormatError{Peer: supported, Ours: wanted}
}
