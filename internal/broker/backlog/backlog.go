// Package backlog tells what waits at listening Unix sockets: connections that
// were made, and that no process has accepted yet. The broker holds listeners
// that others accept on, so a connect proves nothing to it: this does. It is how
// a daemon is seen to accept for the first time, and how one that hangs is seen
// from outside.
//
// The kernel is asked by sock_diag(7), which needs no privilege, takes nothing out
// of a queue and disturbs nobody. Only Linux has it; elsewhere every call is
// [errors.ErrUnsupported]. A sandbox that forbids netlink sockets makes it the
// system's error. Only the sockets of the caller's own network namespace are
// known.
//
// Usual calls:
//
//	queues, err := backlog.Dump()              // all listeners, in one go
//	waiting, err := backlog.Waiting(listener)  // the few with queues[inode].Pending > 0
//	stall = stall.Look(proc.BootTime(), waiting)
//	if stall.For(proc.BootTime()) > limit { … }
//
// Nothing here blocks, and everything is safe for concurrent use, but for a
// [Stall], which is a value.
package backlog

import (
	"errors"
	"syscall"
)

// A Queue is the accept queue of one listening socket. A connection counts from
// its connect(2) until it is accepted, also if its client has left meanwhile.
type Queue struct {
	Pending int // connections that nobody has accepted

	// Limit is the backlog of the last listen(2), as far as the system grants it.
	// Linux lets one connection more than that wait.
	Limit int
}

// Full reports whether the next connect(2) finds no room (EAGAIN if it does not
// wait).
func (q Queue) Full() bool { return q.Pending > q.Limit }

// An Inode names a socket within the system, as in /proc/PID/fd and
// /proc/net/unix. It is not the inode of the name that the socket is bound to.
type Inode uint32

// ErrNotListening is the answer for a socket without a queue.
var ErrNotListening = errors.New("the socket does not listen")

// ErrTooLong is the answer of Waiting for a queue of several thousand
// connections, more than the kernel lists; Of still counts them.
var ErrTooLong = errors.New("the queue is too long to be listed")

// InodeOf returns the inode of an open socket.
func InodeOf(c syscall.Conn) (Inode, error) { return inodeOf(c) }

// Of returns the queue of one listening socket, ErrNotListening if it is none.
func Of(c syscall.Conn) (Queue, error) { return of(c) }

// Dump returns the queues of all listening Unix sockets of the network namespace,
// by inode: one question, however many there are.
func Dump() (map[Inode]Queue, error) { return dump() }

// Waiting returns the connections in the queue of a listening socket, the oldest
// first, as the inodes of their clients' sockets. A client that has closed its
// end is 0. Since only accepting takes connections out, and takes the oldest, one
// that has come nearer to the front shows that somebody accepts.
func Waiting(c syscall.Conn) ([]Inode, error) { return waiting(c) }

// Accepted reports whether somebody has accepted the connection, asked at the
// client's end. It is false also for one that was accepted and closed again at
// the other end, or reset: reading tells these.
func Accepted(c syscall.Conn) (bool, error) { return accepted(c) }
