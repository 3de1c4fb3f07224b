//go:build unix

package cli

import (
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// owner returns the uid that a file belongs to.
func owner(fi fs.FileInfo) (int, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// shellCommand is the command that runs what a person has written.
func shellCommand(text string) ([]string, error) { return []string{"/bin/sh", "-c", text}, nil }

// openForReading opens a file that may be anything, a FIFO included, without
// waiting for it.
func openForReading(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// hangup returns a channel that is closed when the connection's other side is
// closed, not only one direction of it. The function ends the watch.
func hangup(c *net.UnixConn) (hung <-chan struct{}, unwatch func()) {
	up, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(up)
		for !hungUp(c, pollFor) {
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	return up, func() { close(done) }
}

// pollFor bounds how long a watch goes on that nobody wants any more.
const pollFor = 50 * time.Millisecond

// hungUp waits for a hang-up, not longer than within. POLLHUP, which comes when
// both directions are over, is reported without being asked for (poll(2)).
func hungUp(c *net.UnixConn, within time.Duration) bool {
	conn, err := c.SyscallConn()
	if err != nil {
		return true
	}
	hung := false
	err = conn.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		n, _ := unix.Poll(fds, int(within.Milliseconds()))
		hung = n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return hung || err != nil
}

// closeWrite says that nothing more will be sent.
func closeWrite(c *net.UnixConn) { _ = c.CloseWrite() }

func errnoName(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return "errno " + strconv.Itoa(int(e))
}

// signalName returns the name of a signal that is known by its description.
func signalName(description string) string {
	for s := syscall.Signal(1); s < 32; s++ {
		if s.String() == description {
			return unix.SignalName(s)
		}
	}
	return description
}

func isTerminal(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	_ = conn.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), getTermios)
		terminal = err == nil
	})
	return terminal
}

// resize is the signal that says that the terminal has another size.
var resize os.Signal = syscall.SIGWINCH

// terminalSize is 0 if the terminal does not tell (ioctl_tty(2), TIOCGWINSZ).
func terminalSize(f *os.File) (width, height int) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = conn.Control(func(fd uintptr) {
		if size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ); err == nil {
			width, height = int(size.Col), int(size.Row)
		}
	})
	return width, height
}

// byKeys makes the terminal hand over each key, unseen; Ctrl-C still interrupts
// (termios(3), ICANON and ECHO). The function it returns undoes that.
func byKeys(f *os.File) (restore func()) {
	conn, err := f.SyscallConn()
	if err != nil {
		return func() {}
	}
	var was *unix.Termios
	_ = conn.Control(func(fd uintptr) {
		if was, err = unix.IoctlGetTermios(int(fd), getTermios); err != nil {
			return
		}
		now := *was
		now.Lflag &^= unix.ICANON | unix.ECHO
		now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
		err = unix.IoctlSetTermios(int(fd), setTermios, &now)
	})
	return func() {
		if err == nil {
			_ = conn.Control(func(fd uintptr) { _ = unix.IoctlSetTermios(int(fd), setTermios, was) })
		}
	}
}
