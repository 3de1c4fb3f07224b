//go:build !unix && !windows

package daemon

import (
	"errors"
	"net"
	"os"
)

func runningFile(path string) string { return path }

func acceptQueued(*net.UnixListener) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func watchHangup(*net.UnixConn, func()) func() { return func() {} }

func lead(int, *os.File) error { return errors.ErrUnsupported }
