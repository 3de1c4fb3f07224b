package daemon

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// runningFile is the file this process runs, whatever is at its path by now.
func runningFile(string) string { return "/proc/self/exe" }

// acceptQueued accepts without waiting; syscall.EAGAIN is an empty queue. The
// net package's own Accept looks at its deadline first.
func acceptQueued(ul *net.UnixListener) (*net.UnixConn, error) {
	rc, err := ul.SyscallConn()
	if err != nil {
		return nil, err
	}
	var nfd int
	var aerr error
	if err := rc.Control(func(fd uintptr) {
		for {
			nfd, _, aerr = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if aerr != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return nil, err
	}
	// EINVAL: shut down and nothing queued (unix_accept in af_unix.c).
	if aerr == unix.EINVAL {
		aerr = unix.EAGAIN
	}
	if aerr != nil {
		return nil, os.NewSyscallError("accept4", aerr)
	}
	return fileConn(nfd)
}

// fileConn makes a connection of an accepted descriptor. It needs another one
// for a moment: a lack of them is waited out, for who was accepted is served.
func fileConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // FileConn has a copy
	c, err := net.FileConn(f)
	for isLack(err) {
		time.Sleep(minLack)
		c, err = net.FileConn(f)
	}
	if err != nil {
		return nil, err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, syscall.EAFNOSUPPORT
	}
	return uc, nil
}

// hangups watches for peers that hang up, all connections with one goroutine
// that waits in Go's poller: an epoll descriptor is itself pollable (epoll(7)).
// Only EPOLLHUP is asked for, which comes when both directions are over: a peer
// that half-closes still wants its answer.
type hangups struct {
	mu    sync.Mutex // guards calls and next
	calls map[uint64]func()
	next  uint64

	epfd int
	file *os.File // epfd, in Go's poller
}

var startHangups = sync.OnceValues(func() (*hangups, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	h := &hangups{calls: map[uint64]func(){}, epfd: epfd, file: os.NewFile(uintptr(epfd), "hangups")}
	rc, err := h.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	// It runs as long as the process: daemons watch connections all their life.
	go func() { _ = rc.Read(h.collect) }()
	return h, nil
})

// collect calls back everyone whose peer has hung up, then waits again.
func (h *hangups) collect(epfd uintptr) bool {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(int(epfd), events, 0)
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return false
		}
		for _, e := range events[:n] {
			id := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
			h.mu.Lock()
			call := h.calls[id]
			delete(h.calls, id)
			h.mu.Unlock()
			if call != nil {
				call()
			}
		}
	}
}

// watchHangup calls f once when the connection's peer has hung up, at once if it
// has already, unless the returned function was called before. The kernel
// forgets a closed descriptor by itself.
func watchHangup(c *net.UnixConn, f func()) (unwatch func()) {
	h, err := startHangups()
	if err != nil {
		return func() {}
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return func() {}
	}
	h.mu.Lock()
	h.next++
	id := h.next
	h.calls[id] = f
	h.mu.Unlock()
	// Edge-triggered and never anything but HUP and ERR, which are always
	// reported.
	ev := unix.EpollEvent{Events: unix.EPOLLET, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	var aerr error
	unwatch = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.calls, id)
	}
	if rc.Control(func(fd uintptr) { aerr = unix.EpollCtl(h.epfd, unix.EPOLL_CTL_ADD, int(fd), &ev) }) != nil || aerr != nil {
		unwatch()
	}
	return unwatch
}

// lead makes the descriptor lead to f, at once for every writer (dup3(2)).
func lead(fd int, f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var derr error
	if err := rc.Control(func(to uintptr) { derr = unix.Dup3(int(to), fd, 0) }); err != nil {
		return err
	}
	return derr
}
