package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ErrBusy is the cause of a Connect when no instance is free: somebody serves the
// name, or held it a moment ago.
var ErrBusy error = windows.ERROR_PIPE_BUSY

// A Conn is one connection, a [net.Conn] with deadlines. It is safe for
// concurrent use, as a socket's is; whole Writes do not mix.
//
// The stream has no half: who closes it ends both directions, and the other end
// can still read what was written before.
type Conn struct {
	s    *stream
	name Addr

	// An accepted connection's client, checked after the first byte was read.
	accepted bool
	checked  sync.Once
	refused  error
}

// newConn owns h from here on, whatever comes of it.
func newConn(h windows.Handle, name string, accepted bool) (*Conn, error) {
	s, err := newStream(h)
	if err != nil {
		return nil, err
	}
	return &Conn{s: s, name: Addr(name), accepted: accepted}, nil
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
	if err != nil {
		return nil, dialError(name, err)
	}
	if err := checkOwner(h); err != nil {
		_ = windows.CloseHandle(h)
		return nil, dialError(name, err)
	}
	c, err := newConn(h, name, false)
	if err != nil {
		return nil, dialError(name, err)
	}
	return c, nil
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
	n, err := c.s.Read(b)
	if n > 0 && c.accepted {
		c.checked.Do(func() { c.refused = c.s.use(checkClient) })
		if c.refused != nil {
			clear(b[:n])
			return 0, c.opError("read", c.refused)
		}
	}
	return n, c.opError("read", err)
}

// Write writes all of b, and blocks until the other end has taken it or the system has
// room for it.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.s.Write(b)
	return n, c.opError("write", err)
}

// Close ends the connection and whatever waits in Read or Write ([net.ErrClosed]). The
// other end still reads what was written.
func (c *Conn) Close() error { return c.opError("close", c.s.close()) }

// LocalAddr returns the pipe's name, which both ends share.
func (c *Conn) LocalAddr() net.Addr { return c.name }

// RemoteAddr returns the pipe's name.
func (c *Conn) RemoteAddr() net.Addr { return c.name }

// SetDeadline bounds Read and Write, also those that wait already.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.opError("set", c.s.setDeadline(t, &c.s.read, &c.s.wrt))
}

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.opError("set", c.s.setDeadline(t, &c.s.read))
}

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.opError("set", c.s.setDeadline(t, &c.s.wrt))
}

// PeerPID returns the process id that the system noted of the other end: of an accepted
// connection the process that opened it; of a dialled one the process that
// created the instance, which may have handed it on. Either may be dead and its
// number another's: it is for messages.
func (c *Conn) PeerPID() (pid int, err error) {
	err = c.s.use(func(h windows.Handle) error {
		var id uint32
		ask, call := windows.GetNamedPipeServerProcessId, "GetNamedPipeServerProcessId"
		if c.accepted {
			ask, call = windows.GetNamedPipeClientProcessId, "GetNamedPipeClientProcessId"
		}
		err := ask(h, &id)
		pid = int(id)
		return os.NewSyscallError(call, err)
	})
	return pid, c.opError("ask", err)
}

// HungUp reports whether the other end is closed, also while something that it wrote is
// left to be read. It reads nothing and does not block. The error is that of a closed
// connection.
func (c *Conn) HungUp() (hung bool, err error) {
	err = c.s.use(func(h windows.Handle) error {
		// A look at what there is to read succeeds as long as there is any.
		var info pipeLocalInformation
		var iosb windows.IO_STATUS_BLOCK
		err := windows.NtQueryInformationFile(h, &iosb, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), filePipeLocalInformation)
		hung = err == nil && info.state != windows.FILE_PIPE_CONNECTED_STATE
		return nil
	})
	return hung, c.opError("ask", err)
}

// pipeLocalInformation is FILE_PIPE_LOCAL_INFORMATION, of which the class
// FilePipeLocalInformation is (ntifs.h).
type pipeLocalInformation struct {
	_     [8]uint32
	state uint32
	_     uint32
}

const filePipeLocalInformation = 24

// opError gives err the form of the package's errors; nil and io.EOF stay what they are.
func (c *Conn) opError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "pipe", Addr: c.name, Err: err}
}
