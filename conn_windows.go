package fastbind

import (
	"net"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

// A Conn is a connection to a service's daemon: a named pipe, with deadlines and
// without a half-close. Until its first byte, Read and Write return the *Error that says
// why none comes.
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
// Methods are as safe for concurrent use as those of a net.Conn. The caller closes it,
// which ends the watch.
type Conn struct {
	net.Conn
	watched launch.Conn
	held    []*control.Client // the leases of this connection
}

func newConn(c *endpoint.Conn) *Conn { return &Conn{Conn: c} }
