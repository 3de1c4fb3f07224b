//go:build !unix

package standing

import (
	"errors"
	"net"
	"os"
)

func sendFile(*net.UnixConn, string, *os.File) error { return errors.ErrUnsupported }

func receiveFiles(*net.UnixConn, func(string, *os.File)) error { return errors.ErrUnsupported }

// listenHeir: nothing can be passed on over a socket.
func listenHeir(string) (*net.UnixListener, error) { return nil, errors.ErrUnsupported }
