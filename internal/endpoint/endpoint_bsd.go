//go:build unix && !linux

package endpoint

import (
	"errors"
	"net"
)

const rdHup = 0 // no listener is ever shut down

func shut(*net.UnixListener) error { return errors.ErrUnsupported }
