//go:build !windows

package fastbind

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
)

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

func newConn(uc *net.UnixConn) *Conn { return &Conn{UnixConn: uc} }

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
