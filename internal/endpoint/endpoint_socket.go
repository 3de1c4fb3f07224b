//go:build !windows

package endpoint

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/record"
)

// Conn is a connection to an endpoint, or one that its listener accepted.
type Conn = net.UnixConn

// Listener is an endpoint's.
type Listener = net.UnixListener

// Address is where an endpoint is dialled.
type Address = net.UnixAddr

func addressOf(path string) *Address { return &Address{Name: path, Net: "unix"} }

func connect(ctx context.Context, a *Address) (*Conn, Reach, error) {
	var d net.Dialer
	conn, err := d.DialUnix(ctx, "unix", nil, a)
	if err != nil {
		return nil, Classify(err), err
	}
	if err := peer.Check(conn); err != nil {
		_ = conn.Close()
		if errors.Is(err, fs.ErrPermission) {
			return nil, Foreign, err
		}
		return nil, Broken, err
	}
	return conn, Reached, nil
}

func check(c *Conn) error { return peer.Check(c) }

func peerPID(c net.Conn) (int, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	return peer.PID(sc)
}

// Classify says what a failed connect found (connect(2), unix(7)).
func Classify(err error) Reach {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return Broken
	}
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		return Absent
	case syscall.ECONNREFUSED, syscall.ENOTSOCK, syscall.EPROTOTYPE:
		// A file that is no stream socket accepts as little as a dead one.
		return Refused
	case syscall.EAGAIN, syscall.EINPROGRESS, syscall.EALREADY:
		return Busy
	case syscall.EACCES, syscall.EPERM:
		return Denied
	}
	return Broken
}

// Yield: the queue is that of whoever has the listener, and both have.
func Yield(*Listener) error { return nil }

// BusyWhenShut says that a listener that was shut looks to clients like one whose queue
// is full.
const BusyWhenShut = false

// QueueMoves says that who waits to be accepted is accepted by whoever listens next.
const QueueMoves = true

// MaxBacklog asks for the longest accept queue the system grants; the kernel
// lowers it to its own limit (net.core.somaxconn).
const MaxBacklog = 1 << 15

func inodeAt(path string) (record.Inode, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return record.Inode{}, err
	}
	return inodeNamed(fi, path)
}

func identity(path string) (record.Inode, error) { return inodeAt(path) }

func fileID(_ string, fi fs.FileInfo) record.Inode {
	i, _ := inodeOf(fi)
	return i
}

func inodeOfFile(f *os.File) (record.Inode, error) {
	fi, err := f.Stat()
	if err != nil {
		return record.Inode{}, err
	}
	return inodeNamed(fi, f.Name())
}

func inodeNamed(fi fs.FileInfo, path string) (record.Inode, error) {
	i, ok := inodeOf(fi)
	if !ok {
		return i, &fs.PathError{Op: "inode", Path: path, Err: errors.ErrUnsupported}
	}
	return i, nil
}

// A Socket is a bound Unix socket, owned by who bound it. It is not safe for
// concurrent use. Nothing here ever unlinks its name.
type Socket struct{ fd int }

// FD returns the descriptor, close-on-exec, valid until Close or Listener.
func (s *Socket) FD() int { return s.fd }

// IsClosed reports whether it is closed.
func (s *Socket) IsClosed() bool { return s.fd < 0 }

func fileName(fd int) string { return "socket " + strconv.Itoa(fd) }

// lacks are errors of accept(2) that Go does not itself retry.
var lacks = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}
