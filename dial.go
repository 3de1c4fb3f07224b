package fastbind

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
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
	b, err := s.broker()
	if err != nil {
		return nil, publicError(err)
	}
	if err := b.CheckSelf(); err != nil {
		return nil, ErrSelfDial
	}
	var o options
	if len(opts) > 0 {
		o = apply(opts)
		b.Want = o.want
	}
	uc, err := b.Dial(ctx, began)
	if err != nil {
		return nil, publicError(err)
	}
	c := &Conn{UnixConn: uc}
	b.Watch(&c.watched, uc, began)
	if len(opts) > 0 {
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

// A Conn is a connection to a service's daemon. It is the *net.UnixConn it
// embeds, deadlines, half-close, SyscallConn and all, with one addition: until
// its first byte, Read, Write and WriteTo return the *Error that says why none
// comes.
//
// If the daemon dies before that, it is the failure, ErrLaunchFailed. If nothing
// has come within Service.HangAfter of the first write, the daemon is asked at its
// control endpoint whether it lives, in the background and again after every
// further HangAfter. One that answers is busy, and the connection waits on. One that
// does not is hung: whoever is blocked is woken with ErrHung, after what
// Service.OnHang says was done. The same is asked when a deadline is over, which
// delays the error by at most 100 ms. ErrHung is then also
// os.ErrDeadlineExceeded; a daemon that merely is silent, without proof that it
// is hung, leaves the deadline's error as it is. Once hung, a connection is of no
// further use: dial again.
//
// Methods are as safe for concurrent use as those of *net.UnixConn. The caller
// closes it, which ends the watch.
type Conn struct {
	*net.UnixConn
	watched launch.Conn
	held    []*control.Client // the leases of this connection
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

// WriteTo copies the connection's data to w until it ends, with the system's
// fast path if w has one for a *net.UnixConn. It hides the packet-oriented
// method of that name, which a stream has no use for.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.watched.First() {
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

// ReadMsgUnix reads a message with its out-of-band data, such as descriptors.
func (c *Conn) ReadMsgUnix(p, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error) {
	n, oobn, flags, addr, err = c.UnixConn.ReadMsgUnix(p, oob)
	if n > 0 || oobn > 0 {
		c.watched.Arrived()
	}
	if err != nil && n == 0 {
		err = publicError(c.watched.Explain(err))
	}
	return n, oobn, flags, addr, err
}

// WriteMsgUnix writes a message with out-of-band data, such as descriptors.
func (c *Conn) WriteMsgUnix(p, oob []byte, addr *net.UnixAddr) (n, oobn int, err error) {
	c.watched.Begin()
	n, oobn, err = c.UnixConn.WriteMsgUnix(p, oob, addr)
	if err != nil {
		err = publicError(c.watched.Explain(err))
	}
	return n, oobn, err
}

// SyscallConn returns the raw connection. io.Copy from an *os.File writes by it,
// so it counts as the first write.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	c.watched.Begin()
	return c.UnixConn.SyscallConn()
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
