//go:build linux || darwin || freebsd

package lock

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func try(f *os.File) (bool, error) {
	err := control(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

func unlock(f *os.File) error {
	return control(f, unix.LOCK_UN)
}

// held works on a bare descriptor: os.Open would first offer it to the poller,
// system calls that a probe has no use for. O_NONBLOCK is for a FIFO left at
// the path, whose open would otherwise wait for a writer.
func held(path string) (bool, error) {
	var fd int
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		if err == unix.ENOENT {
			return false, nil
		}
		return false, pathError("open", path, err)
	}
	defer unix.Close(fd)
	switch err := flock(fd, unix.LOCK_SH|unix.LOCK_NB); err {
	case nil:
		// Unlock before the close, for the same reason as Release: a copy in a
		// concurrent fork must not keep owners out.
		flock(fd, unix.LOCK_UN)
		return false, nil
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, pathError("probe lock", path, err)
	}
}

// control calls flock on f's descriptor, which stays open meanwhile.
func control(f *os.File, how int) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := c.Control(func(fd uintptr) { ferr = flock(int(fd), how) }); err != nil {
		// The raw connection reports a closed file with an error of its own.
		if _, serr := f.Stat(); errors.Is(serr, fs.ErrClosed) {
			return fs.ErrClosed
		}
		return err
	}
	return ferr
}

func flock(fd, how int) error {
	return ignoringEINTR(func() error { return unix.Flock(fd, how) })
}

// ignoringEINTR repeats f while it is interrupted: with LOCK_NB that is rare
// but network and FUSE file systems do it, and the runtime's preemption
// signals come often.
func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
