// Package endpoint connects to, binds and names the sockets or pipes that clients dial,
// one system call at a time, and tells apart what a failed connect means.
//
// Only two answers say that nobody can accept at a name: there is none, or it
// is refused. A full queue is an answer of somebody who lives (REQUIREMENT R8),
// and a denied one says nothing about the daemon at all.
//
// On Windows an endpoint is a named pipe (package pipe). What differs:
//
//   - Binding and listening is one act: who claims the name has clients from then on.
//   - The name is gone when the last process that holds an instance of it is, and not
//     before: nobody can delete it, and no stale one is left. So there is no second
//     link to it, and no inode by which a listener knows its name.
//   - A listener that was shut looks like one whose queue is full, as long as it has
//     connections.
//   - A connection has no half: who closes it closes both directions.
package endpoint

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"

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

// Connect connects to the endpoint at path, on Windows the name of a pipe, and checks
// the peer. It makes one attempt and does not block: a local connect succeeds, or
// fails, at once. The error is that of the attempt, nil only with Reached.
func Connect(ctx context.Context, path string) (*Conn, Reach, error) {
	return connect(ctx, AddressOf(path))
}

// ConnectTo is Connect for who has the address already. It does not change it.
func ConnectTo(ctx context.Context, a *Address) (*Conn, Reach, error) { return connect(ctx, a) }

// AddressOf returns the address of the endpoint at path.
func AddressOf(path string) *Address { return addressOf(path) }

// Check returns nil if the peer of a connection that was accepted is of our own uid. On
// Windows it always does: package pipe checks before it hands out the first byte.
func Check(c *Conn) error { return check(c) }

// PeerPID returns the process id of a connection's peer, as the system noted it: of who
// listened last, and on Windows of who made the instance of the pipe. 0 is unknown; the
// error is net.ErrClosed of a closed connection.
func PeerPID(c net.Conn) (int, error) { return peerPID(c) }

// Inode returns the inode at path, without following a link there. On Windows it is the
// volume's serial number and the file's index.
func Inode(path string) (record.Inode, error) { return inodeAt(path) }

// FileID returns the inode of a file that os.Stat of path has found, zero where there
// is none.
func FileID(path string, fi fs.FileInfo) record.Inode { return fileID(path, fi) }

// InodeOf returns the inode of an open file.
func InodeOf(f *os.File) (record.Inode, error) { return inodeOfFile(f) }

// Identity returns what tells the listener at an endpoint's name from one that has the
// name later: the inode of the socket. A pipe needs none, and has zero: its name can
// be nobody else's as long as somebody holds an instance of it.
func Identity(path string) (record.Inode, error) { return identity(path) }

// Close closes the socket.
func (s *Socket) Close() error { return s.close() }

func sysError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// IsLack reports whether the system has no descriptor or memory for a connection now: a
// later try may succeed.
func IsLack(err error) bool {
	for _, lack := range lacks {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}
