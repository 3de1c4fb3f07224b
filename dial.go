package fastbind

import (
	"context"
	"net"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

// An Option changes one call.
type Option func(*options)

// Options hold what they ask for as functions, so that a tool links the code of
// those that it names and of no others.
type options struct {
	ready func(context.Context, *launch.Broker) error // waits for readiness, nil if not asked for
	take  []func(context.Context, *launch.Broker) (*control.Client, error)
	want  string
}

func apply(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WaitReady makes the call return only when the daemon is ready, instead of as
// soon as its endpoint is bound. progress, which may be nil, is called in the
// caller's goroutine with what the daemon reports meanwhile. A foreign daemon
// that does not announce its phase is refused.
func WaitReady(progress func(Progress)) Option {
	return func(o *options) {
		o.ready = func(ctx context.Context, b *launch.Broker) error {
			return b.AwaitReady(ctx, func(message string, fraction float64) {
				if progress != nil {
					progress(Progress{message, fraction})
				}
			})
		}
	}
}

// WithWant makes the call be served only by a daemon of a version that matches
// want, in the forms of Service.AllowVersions: under VersionReplace one that does
// not is replaced first, else the call is refused with the fields that differ.
func WithWant(want string) Option {
	return func(o *options) { o.want = want }
}

// wait waits for readiness if that was asked for.
func (o options) wait(ctx context.Context, b *launch.Broker) error {
	if o.ready == nil {
		return nil
	}
	return o.ready(ctx, b)
}

// Dial connects to the service's daemon, launching one if nobody can accept at
// its endpoint. It returns as soon as the endpoint is bound; what is written
// waits in the kernel until the daemon accepts.
//
// To a running daemon it costs a connect and the check of the peer's uid: no
// file, no lock, no other process. Otherwise it blocks until a launch, its own
// or another process's, has come that far, failed, or ctx has ended. Errors are
// *Error, or ErrSelfDial.
//
// Dial is safe for concurrent use: any number of goroutines share one launch.
// The daemon outlives this process.
func Dial(ctx context.Context, s Service, opts ...Option) (*Conn, error) {
	began := time.Now()
	var uc *endpoint.Conn
	b := s.remembered()
	if b != nil && len(opts) == 0 {
		uc = b.Reach(ctx)
	}
	var o options
	if uc == nil {
		var err error
		if b, err = s.broker(); err != nil {
			return nil, publicError(err)
		}
		if err = b.CheckSelf(); err != nil {
			return nil, ErrSelfDial
		}
		if len(opts) > 0 {
			o = apply(opts)
			b = b.Wanting(o.want)
		}
		if uc, err = b.Dial(ctx, began); err != nil {
			return nil, publicError(err)
		}
	}
	c := newConn(uc)
	b.Watch(&c.watched, uc, began)
	if len(opts) > 0 {
		var err error
		if c.held, err = o.lease(ctx, b); err == nil {
			err = o.wait(ctx, b)
		}
		if err != nil {
			_ = c.Close()
			return nil, publicError(err)
		}
	}
	return c, nil
}

// DialContext is Dial in the shape of net.Dialer.DialContext, for
// http.Transport and the like. The network and address are ignored: the service
// says where it is.
func (s Service) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return dialNet(ctx, s)
}

// ContextDialer is Dial in the shape that grpc.WithContextDialer takes. The
// address is ignored.
func (s Service) ContextDialer(ctx context.Context, _ string) (net.Conn, error) {
	return dialNet(ctx, s)
}

// dialNet keeps a nil *Conn out of the interface.
func dialNet(ctx context.Context, s Service) (net.Conn, error) {
	c, err := Dial(ctx, s)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.watched.Read(p)
	if err != nil {
		err = publicError(err)
	}
	return n, err
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.watched.Write(p)
	if err != nil {
		err = publicError(err)
	}
	return n, err
}

// SetDeadline sets the read and write deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.watched.SetDeadline(t) }

// SetReadDeadline sets the deadline of Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.watched.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.watched.SetWriteDeadline(t) }

// Close closes the connection, and ends the watch for its first reply and its
// leases.
func (c *Conn) Close() error {
	closeAll(c.held)
	return c.watched.Close()
}
