//go:build !unix

package daemon

import (
	"errors"
	"io/fs"
	"net"
	"os"
)

func runningFile(path string) string { return path }

func fileID(fs.FileInfo) (dev, ino uint64) { return 0, 0 }

func acceptQueued(*net.UnixListener) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func watchHangup(*net.UnixConn, func()) func() { return func() {} }

func lead(int, *os.File) error { return errors.ErrUnsupported }
