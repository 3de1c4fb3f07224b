// Package endpoint connects to, binds and names Unix sockets, one system call
// at a time, and tells apart what a failed connect means.
//
// Only two answers say that nobody can accept at a name: there is none, or it
// is refused. A full queue is an answer of somebody who lives (REQUIREMENT R8),
// and a denied one says nothing about the daemon at all.
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

// A Reach is what a connect found.
type Reach uint8

// What a connect can find.
const (
	Reached Reach = iota // connected to a process of our own uid
	Absent               // no such name
	Refused              // the name is there, nobody can accept
	Busy                 // somebody listens, the queue is full
	Foreign              // somebody of another uid answered
	Denied               // the system forbids connecting
	Broken               // any other fault, descriptors or memory exhausted
)

// Connect connects to the socket at path and checks the peer. It makes one
// attempt and does not block: a local connect succeeds, or fails, at once.
// The error is that of the attempt, nil only with Reached.
func Connect(ctx context.Context, path string) (*net.UnixConn, Reach, error) {
	var d net.Dialer
	conn, err := d.DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
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

// MaxBacklog asks for the longest accept queue the system grants; the kernel
// lowers it to its own limit (net.core.somaxconn).
const MaxBacklog = 1 << 15

// Inode returns the inode at path, without following a link there.
func Inode(path string) (record.Inode, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return record.Inode{}, err
	}
	i, ok := inodeOf(fi)
	if !ok {
		return i, &fs.PathError{Op: "inode", Path: path, Err: errors.ErrUnsupported}
	}
	return i, nil
}

// InodeIn returns the inode that a Stat or Lstat found.
func InodeIn(fi fs.FileInfo) (i record.Inode, ok bool) { return inodeOf(fi) }

// InodeOf returns the inode of an open file.
func InodeOf(f *os.File) (record.Inode, error) {
	fi, err := f.Stat()
	if err != nil {
		return record.Inode{}, err
	}
	i, ok := inodeOf(fi)
	if !ok {
		return i, &fs.PathError{Op: "inode", Path: f.Name(), Err: errors.ErrUnsupported}
	}
	return i, nil
}

// A Socket is a bound Unix socket, owned by who bound it. It is not safe for
// concurrent use. Nothing here ever unlinks its name.
type Socket struct{ fd int }

// FD returns the descriptor, close-on-exec, valid until Close or Listener.
func (s *Socket) FD() int { return s.fd }

func sysError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func fileName(fd int) string { return "socket " + strconv.Itoa(fd) }
