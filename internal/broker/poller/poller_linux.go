package poller

import (
	"errors"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// queue is the kernel's (epoll(7)).
type queue struct {
	f   *os.File // which is itself waited for
	raw syscall.RawConn
}

func open() (queue, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return queue{}, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives a descriptor that does not block to the runtime's own queue,
	// and an epoll descriptor can be waited for like any other.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return queue{}, os.NewSyscallError("fcntl", err)
	}
	q := queue{f: os.NewFile(uintptr(fd), "poller")}
	if q.raw, err = q.f.SyscallConn(); err != nil {
		_ = q.f.Close()
		return queue{}, err
	}
	return q, nil
}

func (q queue) watch(s *endpoint.Socket, key uint64) error {
	return q.control(func(queue int) error { return watch(queue, s.FD(), key) })
}

func (q queue) forget(s *endpoint.Socket) error {
	return q.control(func(queue int) error { return forget(queue, s.FD()) })
}

func (q queue) control(do func(queue int) error) error {
	var err error
	if q.raw.Control(func(queue uintptr) { err = do(int(queue)) }) != nil {
		return net.ErrClosed // nothing else ends the use of an open file
	}
	return err
}

func (q queue) wait(keys []uint64) ([]uint64, error) {
	var err error
	rerr := q.raw.Read(func(queue uintptr) bool {
		n := len(keys)
		keys, err = collect(int(queue), keys)
		return err != nil || len(keys) > n
	})
	if rerr != nil {
		return keys, net.ErrClosed // as in control
	}
	return keys, err
}

func (q queue) close() error { return q.f.Close() }

func watch(queue, fd int, key uint64) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	*(*uint64)(unsafe.Pointer(&e.Fd)) = key // the union epoll_data: Fd and Pad
	err := unix.EpollCtl(queue, unix.EPOLL_CTL_MOD, fd, &e)
	if errors.Is(err, unix.ENOENT) {
		err = unix.EpollCtl(queue, unix.EPOLL_CTL_ADD, fd, &e)
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func forget(queue, fd int) error {
	err := unix.EpollCtl(queue, unix.EPOLL_CTL_DEL, fd, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return os.NewSyscallError("epoll_ctl", err)
}

func collect(queue int, keys []uint64) ([]uint64, error) {
	var events [mostKeys]unix.EpollEvent
	for {
		n, err := unix.EpollWait(queue, events[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return keys, os.NewSyscallError("epoll_wait", err)
		}
		for i := range events[:n] {
			keys = append(keys, *(*uint64)(unsafe.Pointer(&events[i].Fd)))
		}
		return keys, nil
	}
}
