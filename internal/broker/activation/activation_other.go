//go:build !unix

package activation

import (
	"errors"
	"net"
	"os"
)

func (Socket) listener() (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

func write(*net.UnixConn, string, *os.File) error { return errors.ErrUnsupported }

// take finds nothing: no manager here hands sockets down.
func take(_, _ []string) ([]Socket, error) { return nil, nil }
