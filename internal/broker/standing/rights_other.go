//go:build !unix

package standing

import (
	"errors"
	"net"
	"os"
)

func sendFile(*net.UnixConn, string, *os.File) error { return errors.ErrUnsupported }

func receiveFiles(*net.UnixConn, func(string, *os.File)) error { return errors.ErrUnsupported }
