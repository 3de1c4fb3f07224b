//go:build !unix && !windows

package cli

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

func owner(fs.FileInfo) (int, bool)                  { return 0, false }
func shellCommand(string) ([]string, error)          { return nil, errors.ErrUnsupported }
func openForReading(path string) (*os.File, error)   { return os.Open(path) }
func errnoName(e syscall.Errno) string               { return e.Error() }
func signalName(description string) string           { return description }
func hangup(*net.UnixConn) (<-chan struct{}, func()) { return nil, func() {} }
func closeWrite(*net.UnixConn)                       {}
func isTerminal(*os.File) bool                       { return false }
func fileSystem(string) string                       { return "" }
func terminalSize(*os.File) (int, int)               { return 0, 0 }
func byKeys(*os.File) func()                         { return func() {} }

var resize os.Signal // there is none
