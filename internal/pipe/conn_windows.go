package pipe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// ErrBusy is the cause of a Connect when no instance is free: somebody serves the
// name, or held it a moment ago.
var ErrBusy error = windows.ERROR_PIPE_BUSY

// A Conn is one connection, a [net.Conn] with deadlines that Go's poller keeps. It is
// safe for concurrent use, as a socket's is.
//
// The stream has no half: who closes it ends both directions, and the other end
// can still read what was written before. A write of no bytes may look like an end of
// the stream to a reader of another make, and is not made.
type Conn struct {
	f    *os.File
	name Addr

	// An accepted connection's client, checked after the first byte was read.
	accepted bool
	checked  sync.Once
	refused  error
}

func newConn(h windows.Handle, name string, accepted bool) *Conn {
	// NewFile finds that the handle is for overlapped I/O and gives it to the poller.
	return &Conn{f: os.NewFile(uintptr(h), name), name: Addr(name), accepted: accepted}
}

// Dial connects to a pipe of this machine, and makes sure that it is served by the
// user that the calling process runs as: another's is *[owner.Error]. While every
// instance is taken it tries again, until ctx ends. It waits for nothing else:
// without a server it is [fs.ErrNotExist] at once.
//
// Errors are *[net.OpError].
func Dial(ctx context.Context, name string) (*Conn, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		c, err := Connect(name)
		if !errors.Is(err, ErrBusy) {
			return c, err
		}
		// Jitter, or a crowd that came together would come back together.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, dialError(name, fmt.Errorf("every instance is taken: %w", context.Cause(ctx)))
		}
	}
}

// Connect is Dial with one attempt: it does not block, and is [ErrBusy] when every
// instance is taken.
func Connect(name string) (*Conn, error) {
	if !validName(name) {
		return nil, dialError(name, syscall.EINVAL)
	}
	h, err := open(name)
	if err == nil {
		if err = checkOwner(h); err == nil {
			return newConn(h, name, false), nil
		}
		_ = windows.CloseHandle(h)
	}
	return nil, dialError(name, err)
}

func dialError(name string, err error) error {
	return &net.OpError{Op: "dial", Net: "pipe", Addr: Addr(name), Err: err}
}

// open opens a client's end. The server may learn who we are but not act in our name,
// whoever it is: what it is told of us is fixed now (SECURITY_IDENTIFICATION, static).
func open(name string) (windows.Handle, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return windows.CreateFile(p, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT|windows.SECURITY_IDENTIFICATION, 0)
}

// Read reads what there is, and blocks until there is any. It is [io.EOF] when the
// other end was closed and all is read.
//
// The first Read of an accepted connection also makes sure that the client is of the
// user that this process runs as: another's is *[owner.Error], now and ever after, and
// none of its bytes is handed out. Windows tells who a client is only when something
// of it was read (ImpersonateNamedPipeClient). Until then the pipe's access list
// alone has kept others away.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.f.Read(b)
	if n > 0 && c.accepted {
		c.checked.Do(func() { c.refused = c.checkClient() })
		if c.refused != nil {
			clear(b[:n])
			return 0, c.opError("read", c.refused)
		}
	}
	return n, c.wrap("read", err)
}

// Write writes all of b, and blocks until the other end has taken it or the system has
// room for it.
func (c *Conn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := c.f.Write(b)
	return n, c.wrap("write", err)
}

// Close ends the connection and whatever waits in Read or Write ([net.ErrClosed]). The
// other end still reads what was written.
func (c *Conn) Close() error { return c.wrap("close", c.f.Close()) }

// LocalAddr returns the pipe's name, which both ends share.
func (c *Conn) LocalAddr() net.Addr { return c.name }

// RemoteAddr returns the pipe's name.
func (c *Conn) RemoteAddr() net.Addr { return c.name }

// SetDeadline bounds Read and Write, also those that wait already.
func (c *Conn) SetDeadline(t time.Time) error { return c.wrap("set", c.f.SetDeadline(t)) }

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.wrap("set", c.f.SetReadDeadline(t)) }

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.wrap("set", c.f.SetWriteDeadline(t)) }

// PeerPID returns the process id that the system noted of the other end: of an accepted
// connection the process that opened it; of a dialled one the process that
// created the instance, which may have handed it on. Either may be dead and its
// number another's: it is for messages.
func (c *Conn) PeerPID() (pid int, err error) {
	cerr := c.control(func(h windows.Handle) {
		var id uint32
		if c.accepted {
			err = os.NewSyscallError("GetNamedPipeClientProcessId", windows.GetNamedPipeClientProcessId(h, &id))
		} else {
			err = os.NewSyscallError("GetNamedPipeServerProcessId", windows.GetNamedPipeServerProcessId(h, &id))
		}
		pid = int(id)
	})
	if cerr != nil {
		err = cerr
	}
	return pid, err
}

// checkClient compares the client's user with our own.
func (c *Conn) checkClient() (err error) {
	cerr := c.control(func(h windows.Handle) { err = checkClient(h) })
	if cerr != nil {
		return cerr
	}
	return err
}

// control runs f on the handle, which stays open meanwhile and in the poller.
func (c *Conn) control(f func(windows.Handle)) error {
	raw, err := c.f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { f(windows.Handle(fd)) })
	}
	runtime.KeepAlive(c)
	return err
}

// wrap gives a file's error the form of a connection's. io.EOF stays what it is.
func (c *Conn) wrap(op string, err error) error {
	var pe *os.PathError
	if !errors.As(err, &pe) {
		if errors.Is(err, os.ErrClosed) {
			return c.opError(op, net.ErrClosed)
		}
		return err
	}
	err = pe.Err
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return c.opError(op, err)
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Addr: c.name, Err: err}
}
