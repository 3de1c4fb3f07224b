package fastbind

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/proc"
)

// An Option changes one call.
type Option func(*options)

type options struct {
	ready    bool
	progress func(Progress)
	leases   []Lease
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
	return func(o *options) { o.ready, o.progress = true, progress }
}

// wait waits for readiness if that was asked for.
func (o options) wait(ctx context.Context, b *launch.Broker) error {
	if !o.ready {
		return nil
	}
	return b.AwaitReady(ctx, func(message string, fraction float64) {
		if o.progress != nil {
			o.progress(Progress{message, fraction})
		}
	})
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
	b, err := s.broker()
	if err != nil {
		return nil, publicError(err)
	}
	if err := b.CheckSelf(); err != nil {
		return nil, ErrSelfDial
	}
	uc, err := b.Dial(ctx, began)
	if err != nil {
		return nil, publicError(err)
	}
	c := &Conn{UnixConn: uc, broker: b, began: began}
	if len(opts) > 0 {
		o := apply(opts)
		if c.held, err = o.take(ctx, b); err == nil {
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

// A Conn is a connection to a service's daemon. It is the *net.UnixConn it
// embeds, deadlines, half-close, SyscallConn and all, with one addition: if it
// ends before its first byte because the daemon died, Read, Write and WriteTo
// return the *Error that says why. Methods are as safe for concurrent use as those of
// *net.UnixConn. The caller closes it.
type Conn struct {
	*net.UnixConn
	broker *launch.Broker
	began  time.Time
	first  atomic.Bool // a byte was read: errors are the connection's own

	held []*control.Client // the leases of this connection
}

// Close closes the connection and ends its leases.
func (c *Conn) Close() error {
	closeAll(c.held)
	return c.UnixConn.Close()
}

// Read reads from the connection.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n > 0 && !c.first.Load() {
		c.first.Store(true)
	}
	if err != nil && n == 0 && !c.first.Load() {
		err = c.explain(err)
	}
	return n, err
}

// Write writes to the connection.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	if err != nil && !c.first.Load() {
		err = c.explain(err)
	}
	return n, err
}

// WriteTo copies the connection's data to w until it ends, with the system's
// fast path if w has one for a *net.UnixConn. It hides the packet-oriented
// method of that name, which a stream has no use for.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.first.Load() {
		return io.Copy(w, c.UnixConn)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if n == 0 {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return 0, err
	}
	if n, err = w.Write(buf[:n]); err != nil {
		return int64(n), err
	}
	rest, err := io.Copy(w, c.UnixConn)
	return int64(n) + rest, err
}

// explain returns the launch failure behind an error before the first byte, or
// the error itself.
func (c *Conn) explain(err error) error {
	var ne net.Error
	if errors.Is(err, net.ErrClosed) || errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	pid, _ := peer.PID(c.UnixConn)
	f := c.broker.Verdict(launch.Lost{
		Since: proc.BootTime() - time.Since(c.began), Peer: pid, Reset: !errors.Is(err, io.EOF)})
	if f == nil {
		return err
	}
	return publicError(f)
}
