//go:build unix

package probe

import "golang.org/x/sys/unix"

// peek is nil if there is something to be read, the end included, and EAGAIN if
// there is not yet. It takes nothing.
func peek(fd int) error {
	for {
		_, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return err
		}
	}
}
