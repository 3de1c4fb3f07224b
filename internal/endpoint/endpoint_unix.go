//go:build unix

package endpoint

import (
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/record"
)

func inodeOf(fi fs.FileInfo) (record.Inode, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return record.Inode{}, false
	}
	return record.Inode{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}, true //nolint:unconvert // the widths differ between systems
}

// Bind makes a stream socket and binds it at path, not yet listening. A name
// that exists is syscall.EADDRINUSE.
func Bind(path string) (*Socket, error) {
	// ForkLock: without SOCK_CLOEXEC (darwin) a concurrent fork would inherit.
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, sysError("socket", path, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return nil, sysError("bind", path, err)
	}
	return &Socket{fd: fd}, nil
}

// Listen makes the socket accept connections, from now on in the kernel's
// queue. Called on a socket that listens already it makes the caller the
// process that clients see as their peer (SO_PEERCRED is taken at listen).
func (s *Socket) Listen() error {
	return sysError("listen", fileName(s.fd), unix.Listen(s.fd, MaxBacklog))
}

// Copy returns another descriptor of the same socket, close-on-exec.
func (s *Socket) Copy() (*Socket, error) {
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, sysError("copy", fileName(s.fd), err)
	}
	return &Socket{fd: fd}, nil
}

// File returns another descriptor of the same socket, close-on-exec, as a file of that
// name. It is the caller's.
func (s *Socket) File(name string) (*os.File, error) {
	c, err := s.Copy()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(c.fd), name), nil
}

func (s *Socket) close() error {
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return sysError("close", "socket", err)
}

// Adopt makes a listener of an inherited socket, which it takes over whatever
// it returns. Closing the listener does not unlink the name: who was handed a
// name does not own it.
func Adopt(fd int) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(fd), fileName(fd))
	defer f.Close() // the listener has a copy
	return AdoptCopy(f)
}

// AdoptCopy is Adopt that leaves f open: whoever is queued sees the end of a
// listener when its last copy is closed, and a daemon that cannot adopt it has to
// say why before.
func AdoptCopy(f *os.File) (*net.UnixListener, error) {
	fd := int(f.Fd())
	accepting, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, sysError("adopt", fileName(fd), err)
	}
	if accepting == 0 {
		return nil, sysError("adopt", fileName(fd), unix.EINVAL)
	}
	if err := unix.Listen(fd, MaxBacklog); err != nil {
		return nil, sysError("listen", fileName(fd), err)
	}
	return adopt(f)
}

// AdoptFile makes a listener of another process's, which goes on accepting, and
// takes f over whatever it returns.
func AdoptFile(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	return adopt(f)
}

func adopt(f *os.File) (*net.UnixListener, error) {
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	ul, ok := ln.(*net.UnixListener)
	if !ok {
		_ = ln.Close()
		return nil, sysError("adopt", f.Name(), unix.EAFNOSUPPORT)
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}

// Relisten makes this process the one that the kernel names as the listener's to
// clients that connect from now on.
func Relisten(ln *net.UnixListener) error {
	rc, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := rc.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), MaxBacklog) }); err != nil {
		return err
	}
	return sysError("listen", ln.Addr().String(), lerr)
}

// Listener is Adopt for a socket of this process.
func (s *Socket) Listener() (*net.UnixListener, error) {
	fd := s.fd
	s.fd = -1
	return Adopt(fd)
}

// Shut refuses new connections; those that wait in the queue can still be
// accepted. It is errors.ErrUnsupported where the kernel resets them.
func Shut(ln *net.UnixListener) error { return shut(ln) }

// TakeFile makes a Socket of a listener's file, which it takes over whatever it
// returns.
func TakeFile(f *os.File) (*Socket, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, sysError("copy", f.Name(), err)
	}
	return &Socket{fd: fd}, nil
}

// Waits reports whether somebody is in the queue of a socket that listens, or nobody
// can come any more. It does not block.
func (s *Socket) Waits() bool {
	for {
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// Discard accepts the connection at the front of the queue and closes it. It waits for
// one for 10 ms at most.
func (s *Socket) Discard() error {
	// Accept takes no flag for that, and whoever shares the listener may count on its
	// being one that blocks (SO_RCVTIMEO in socket(7)).
	set := func(d time.Duration) error {
		tv := unix.NsecToTimeval(d.Nanoseconds())
		return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	}
	if err := set(10 * time.Millisecond); err != nil {
		return sysError("setsockopt", fileName(s.fd), err)
	}
	defer func() { _ = set(0) }()
	syscall.ForkLock.RLock() // no child is to inherit it
	defer syscall.ForkLock.RUnlock()
	fd, _, err := unix.Accept(s.fd)
	if err != nil {
		return sysError("accept", fileName(s.fd), err)
	}
	return sysError("close", fileName(fd), unix.Close(fd))
}

// IsShut reports whether the kernel refuses newcomers: somebody has shut the socket
// down, in whichever process.
func (s *Socket) IsShut() bool {
	for {
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: rdHup}}
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err == nil && n > 0 && fds[0].Revents&(rdHup|unix.POLLHUP) != 0
		}
	}
}

// Shut makes the kernel refuse newcomers; see the function of that name.
func (s *Socket) Shut() error {
	return sysError("shutdown", fileName(s.fd), unix.Shutdown(s.fd, unix.SHUT_RD))
}
