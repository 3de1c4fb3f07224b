//go:build !windows

package journal

import (
	"os"
	"syscall"
)

func openAppend(path string, access int) (*os.File, error) {
	return os.OpenFile(path, access|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK|noFollow, 0o600)
}

func openRead(path string) (*os.File, error) { return os.Open(path) }

func rename(from, to string) error { return os.Rename(from, to) }
