package cli

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/sharing"
)

// owner: an access list says who owns a file, and its owner has no number.
func owner(fs.FileInfo) (int, bool) { return 0, false }

// shellCommand takes a command line apart as programs do here: of the shell, arguments
// cannot be told what they will be.
func shellCommand(text string) ([]string, error) {
	argv, err := windows.DecomposeCommandLine(text)
	if err == nil && len(argv) == 0 {
		err = errors.New("a command is empty")
	}
	return argv, err
}

// openForReading opens a file or directory that others may move aside meanwhile, as a log
// and a journal are under whoever follows them.
func openForReading(path string) (*os.File, error) {
	return sharing.Open(path, windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS)
}

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

var resize os.Signal // there is none: the size is looked at when something is drawn

// terminalSize is 0 if the handle is not a console's output.
func terminalSize(f *os.File) (width, height int) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = conn.Control(func(h uintptr) {
		var info windows.ConsoleScreenBufferInfo
		if windows.GetConsoleScreenBufferInfo(windows.Handle(h), &info) == nil {
			width, height = int(info.Window.Right-info.Window.Left)+1, int(info.Window.Bottom-info.Window.Top)+1
		}
	})
	return width, height
}

// byKeys makes the console hand over each key, unseen; Ctrl-C still interrupts
// (SetConsoleMode). The function it returns undoes that.
func byKeys(f *os.File) (restore func()) {
	conn, err := f.SyscallConn()
	if err != nil {
		return func() {}
	}
	var was uint32
	_ = conn.Control(func(h uintptr) {
		if err = windows.GetConsoleMode(windows.Handle(h), &was); err == nil {
			err = windows.SetConsoleMode(windows.Handle(h), was&^(windows.ENABLE_LINE_INPUT|windows.ENABLE_ECHO_INPUT))
		}
	})
	return func() {
		if err == nil {
			_ = conn.Control(func(h uintptr) { _ = windows.SetConsoleMode(windows.Handle(h), was) })
		}
	}
}
