//go:build !windows

package record

import (
	"os"
	"syscall"
)

func openFile(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, flags|syscall.O_NONBLOCK, 0o600)
}

// alone: the kernel appends whole writes (O_APPEND in open(2)).
func alone(*os.File) (done func()) { return func() {} }

// makePrivate: a strange umask would keep its own daemon out.
func makePrivate(f *os.File) error { return f.Chmod(0o600) }
