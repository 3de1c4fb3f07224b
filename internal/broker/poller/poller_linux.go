package poller

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func open() (int, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives a descriptor that does not block to the runtime's own queue,
	// and an epoll descriptor can be waited for like any other.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}

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
	var events [64]unix.EpollEvent
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
