// Package peer tells who is at the other end of a connected Unix socket.
//
// The kernel's word is asked for on the opened connection itself, so a
// squatter at the endpoint's path cannot pass: checking the path's owner and
// then connecting could. What the kernel remembers is fixed: for the side that
// connected, the credentials of whoever called listen(2) last; for the side
// that accepted, those of the process at its connect(2); for a socketpair,
// those of its creator (unix(7), SO_PEERCRED). A process that has changed its
// uid since, or passed the socket on, is not noticed.
//
// Usual calls:
//
//	if err := peer.Check(conn); err != nil { … }
//	pid, err := peer.PID(conn)
package peer

import (
	"io/fs"
	"strconv"
	"syscall"
)

// Check returns nil if the effective uid of c's peer is the calling process's
// own effective uid, and *[Error] if it is another one. root is no exception,
// in either direction. A socket without a peer, unconnected or of another
// family than AF_UNIX, does not pass either.
//
// It is on the path of every dial: on Linux it is one getsockopt(2), never
// blocks and allocates once (for c.SyscallConn). Other errors are
// *[os.SyscallError], [net.ErrClosed] and the like, or [errors.ErrUnsupported]
// on systems without peer credentials. c stays the caller's and is left as it
// is. Safe for concurrent use.
func Check(c syscall.Conn) error {
	uid, err := uidOf(c)
	if err != nil {
		return err
	}
	if own := syscall.Geteuid(); uid != own {
		return &Error{UID: uid, Own: own}
	}
	return nil
}

// PID returns the process id of c's peer, as the kernel recorded it (see the
// package comment for when) and in the caller's pid namespace. That process
// may be dead and its number reused: a pid from here is for messages, or for
// proc.Open with the start time that the peer itself told.
//
// A peer that has no number in the caller's pid namespace is an error that is
// [syscall.ESRCH]. Linux and macOS only; [errors.ErrUnsupported] elsewhere.
// Never blocks. Safe for concurrent use.
func PID(c syscall.Conn) (int, error) {
	return pidOf(c)
}

// Error is a peer that runs as another user. It is [fs.ErrPermission] to
// [errors.Is].
type Error struct {
	UID int // the peer's effective uid
	Own int // the calling process's
}

// Error names both users.
func (e *Error) Error() string {
	return "peer runs as uid " + strconv.Itoa(e.UID) + ", this process as uid " + strconv.Itoa(e.Own)
}

// Is makes an Error [fs.ErrPermission].
func (e *Error) Is(target error) bool { return target == fs.ErrPermission }
