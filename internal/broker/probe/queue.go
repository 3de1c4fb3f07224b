package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/endpoint"
)

// A queue is a connection of ours among those that wait to be accepted. It shows
// that the daemon accepts when it has been accepted, which the kernel tells while it is
// open and reading tells when the daemon has closed it; or when it has come nearer to
// the front.
type queue struct {
	target Target
	conn   *net.UnixConn // nil between two
	inode  backlog.Inode // of conn
	place  int           // how many were before it when it came, -1 if unknown
}

func openQueue(target Target) (*queue, error) {
	if target.Network != "unix" {
		return nil, fmt.Errorf("whether a %s connection was accepted: %w", target.Network, errors.ErrUnsupported)
	}
	return &queue{target: target}, nil
}

func (q *queue) changed() <-chan struct{} { return nil }

func (q *queue) close() {
	if q.conn != nil {
		q.target.leave(q.conn)
		q.conn = nil
	}
}

func (q *queue) look(ctx context.Context) (bool, string, error) {
	if q.conn == nil {
		if seen, err := q.join(ctx); seen != "" || err != nil {
			return false, seen, err
		}
	}
	switch heard, err := hear(q.conn); {
	case heard:
		return true, "", nil
	case err != nil:
		// Who is reset was not accepted: nothing was sent that a daemon which
		// accepts and closes could have left unread.
		_ = q.conn.Close()
		q.conn = nil
		return false, "the listener was closed: " + errno(err), nil
	}
	accepted, err := backlog.Accepted(q.conn)
	if accepted || err != nil {
		return accepted, "", err
	}
	place := q.placed()
	if place >= 0 && q.place >= 0 && place < q.place {
		return true, "", nil
	}
	if q.place < 0 {
		q.place = place
	}
	switch {
	case place > 0:
		return false, fmt.Sprintf("a connection waits to be accepted, %d before it", place), nil
	default:
		return false, "a connection waits to be accepted", nil
	}
}

// join connects. It returns what kept it from that, if anything did.
func (q *queue) join(ctx context.Context) (seen string, err error) {
	conn, reach, err := endpoint.Connect(ctx, q.target.Address)
	switch reach {
	case endpoint.Reached:
	case endpoint.Busy:
		return "its accept queue is full", nil
	default:
		return "connect: " + errno(err), nil
	}
	uc, ok := any(conn).(*net.UnixConn)
	if !ok { // a pipe has no queue that could be looked at
		_ = conn.Close()
		return "", errors.ErrUnsupported
	}
	inode, err := backlog.InodeOf(uc)
	if err != nil {
		_ = conn.Close()
		return "", err
	}
	q.conn, q.inode = uc, inode
	q.place = q.placed()
	return "", nil
}

// placed returns how many wait before our connection, -1 if the kernel does not
// say: who is not listed any more is known otherwise.
func (q *queue) placed() int {
	if q.target.Listener == nil {
		return -1
	}
	waiting, err := backlog.Waiting(q.target.Listener)
	if err != nil {
		return -1
	}
	return slices.Index(waiting, q.inode)
}

// hear reports whether the peer has written or closed. It does not wait; nil, false
// says that there is nothing yet.
func hear(conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var rerr error
	if err := raw.Read(func(fd uintptr) bool {
		rerr = peek(int(fd))
		return true
	}); err != nil {
		return false, err
	}
	if errors.Is(rerr, syscall.EAGAIN) {
		return false, nil
	}
	return rerr == nil, rerr
}

// errno is the system's word for an error, without where it happened.
func errno(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e.Error()
	}
	return clean(err.Error(), maxSeen)
}
