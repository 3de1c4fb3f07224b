//go:build unix && !solaris && !illumos && !aix

package gocache

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const haveLocks = true

// openShared opens a file that others may remove meanwhile.
func openShared(path string, flags int) (*os.File, error) { return os.OpenFile(path, flags, 0o600) }

func tryLock(f *os.File, exclusive bool) (bool, error) {
	err := flock(f, how(exclusive)|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func waitLock(f *os.File, exclusive bool) error { return flock(f, how(exclusive)) }

func unlock(f *os.File) { _ = flock(f, syscall.LOCK_UN) }

func how(exclusive bool) int {
	if exclusive {
		return syscall.LOCK_EX
	}
	return syscall.LOCK_SH
}

func flock(f *os.File, op int) error {
	for {
		err := syscall.Flock(int(f.Fd()), op)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func fileNumber(fi fs.FileInfo) (dev, ino uint64) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), uint64(st.Ino)
	}
	return 0, 0
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// readSmall reads at most limit bytes of a file and its modification time,
// without what an os.File costs: half a million of these are a load.
func readSmall(path string, limit int) ([]byte, time.Time, error) {
	var fd int
	var err error
	for {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, time.Time{}, err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, time.Time{}, errEntry
	}
	buf := make([]byte, limit)
	n := 0
	for n < limit {
		m, err := syscall.Read(fd, buf[n:])
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], mtime(&st), nil
}
