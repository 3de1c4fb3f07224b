//go:build !linux && !darwin && !freebsd

package peer

import (
	"errors"
	"syscall"
)

func uidOf(syscall.Conn) (int, error) { return 0, errors.ErrUnsupported }

func pidOf(syscall.Conn) (int, error) { return 0, errors.ErrUnsupported }
