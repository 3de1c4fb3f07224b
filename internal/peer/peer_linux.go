package peer

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func uidOf(c syscall.Conn) (int, error) {
	q, err := ask(c)
	if err != nil {
		return 0, err
	}
	uid := int(q.cred.Uid)
	queries.Put(q)
	return uid, nil
}

func pidOf(c syscall.Conn) (int, error) {
	q, err := ask(c)
	if err != nil {
		return 0, err
	}
	pid := int(q.cred.Pid)
	queries.Put(q)
	if pid == 0 {
		return 0, os.NewSyscallError("getsockopt", syscall.ESRCH)
	}
	return pid, nil
}

// query is one getsockopt(2). Queries are recycled together with the function
// value that Control wants: a closure over a result would be allocated anew,
// and its result too, for every dial.
type query struct {
	cred unix.Ucred
	err  error
	run  func(fd uintptr)
}

var queries = sync.Pool{New: func() any {
	q := new(query)
	q.run = q.getsockopt
	return q
}}

// ask returns an answered query, for the caller to put back.
func ask(c syscall.Conn) (*query, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := queries.Get().(*query)
	err = raw.Control(q.run)
	if err == nil {
		err = q.err
	}
	if err != nil {
		q.err = nil
		queries.Put(q)
		return nil, err
	}
	return q, nil
}

// getsockopt is unix.GetsockoptUcred without its allocation, and without telling the
// scheduler: it never blocks.
func (q *query) getsockopt(fd uintptr) {
	size := uint32(unsafe.Sizeof(q.cred))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERCRED,
		uintptr(unsafe.Pointer(&q.cred)), uintptr(unsafe.Pointer(&size)), 0)
	q.err = nil
	if errno != 0 {
		q.err = os.NewSyscallError("getsockopt", errno)
	}
}
