//go:build unix && !linux

package endpoint

import (
	"errors"
	"net"
)

func shut(*net.UnixListener) error { return errors.ErrUnsupported }
