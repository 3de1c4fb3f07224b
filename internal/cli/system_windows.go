package cli

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// owner: an access list says who owns a file, and its owner has no number.
func owner(fs.FileInfo) (int, bool) { return 0, false }

func openForReading(path string) (*os.File, error) { return os.Open(path) }

func errnoName(e syscall.Errno) string { return e.Error() }

// signalName: those that Go knows here and a record may have.
func signalName(description string) string {
	for s, name := range map[syscall.Signal]string{syscall.SIGKILL: "SIGKILL", syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"} {
		if s.String() == description {
			return name
		}
	}
	return description
}

// hangup: a pipe has no half that could still be open when the other has ended.
func hangup(*endpoint.Conn) (hung <-chan struct{}, unwatch func()) {
	up := make(chan struct{})
	close(up)
	return up, func() {}
}

// closeWrite: a pipe cannot say that nothing more will be sent, but by closing it, which
// would also end the reply.
func closeWrite(*endpoint.Conn) {}

func isTerminal(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	_ = conn.Control(func(h uintptr) {
		var mode uint32
		terminal = windows.GetConsoleMode(windows.Handle(h), &mode) == nil
	})
	return terminal
}

func fileSystem(string) string { return "" }
