//go:build unix && !linux

package daemon

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func runningFile(path string) string { return path }

// acceptQueued takes what is queued. The deadline that woke Accept is moved
// into the near future: an empty queue lets it pass.
func acceptQueued(ul *net.UnixListener) (*net.UnixConn, error) {
	_ = ul.SetDeadline(time.Now().Add(time.Millisecond))
	c, err := ul.AcceptUnix()
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return nil, syscall.EAGAIN
	}
	return c, err
}

// hangupInterval keeps a context's end within 100 ms of the hang-up.
const hangupInterval = 50 * time.Millisecond

// watchHangup polls: kqueue's EV_EOF does not tell a half-close from a hang-up.
func watchHangup(c *net.UnixConn, f func()) (unwatch func()) {
	rc, err := c.SyscallConn()
	if err != nil {
		return func() {}
	}
	t := time.NewTicker(hangupInterval)
	done := make(chan struct{})
	go func() {
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			hung := false
			err := rc.Control(func(fd uintptr) {
				fds := []unix.PollFd{{Fd: int32(fd)}}
				n, _ := unix.Poll(fds, 0)
				hung = n > 0 && fds[0].Revents&unix.POLLHUP != 0
			})
			if hung {
				f()
			}
			if hung || err != nil {
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}

// lead makes the descriptor lead to f, at once for every writer (dup2(2)).
func lead(fd int, f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var derr error
	if err := rc.Control(func(to uintptr) { derr = unix.Dup2(int(to), fd) }); err != nil {
		return err
	}
	return derr
}
