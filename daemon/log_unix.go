//go:build !windows

package daemon

import (
	"os"
	"strconv"

	"github.com/fastbind/fastbind/internal/journal"
)

// A boundedLog is the log and those of stdout and stderr that lead there; what
// the program has led elsewhere is its own affair.
type boundedLog struct {
	path string
	fds  []int
	file os.FileInfo // what they lead to
}

// here looks which of stdout and stderr lead to the file at the path.
func (l *boundedLog) here() {
	at, err := os.Stat(l.path)
	if err != nil {
		return
	}
	l.file, l.fds = at, nil
	for _, fd := range []int{1, 2} {
		if fi, err := os.Stat("/dev/fd/" + strconv.Itoa(fd)); err == nil && os.SameFile(fi, at) {
			l.fds = append(l.fds, fd)
		}
	}
}

// turn moves the log aside if it is too large and leads the output to the one
// at the path. It returns false when that is another file than before. Another
// generation may have moved the shared log; then only the output follows.
func (l *boundedLog) turn() (same bool) {
	at, err := os.Stat(l.path)
	if err == nil && os.SameFile(l.file, at) {
		if at.Size() < journal.MaxSize || journal.Rotate(l.path) != nil {
			return true
		}
	}
	f, err := journal.Open(l.path, os.O_WRONLY)
	if err != nil {
		return true
	}
	defer f.Close()
	for _, fd := range l.fds {
		if fi, err := os.Stat("/dev/fd/" + strconv.Itoa(fd)); err == nil && os.SameFile(fi, l.file) {
			_ = lead(fd, f)
		}
	}
	l.here()
	return false
}

// ours reports whether the process's output leads to the log.
func (l *boundedLog) ours() bool { return len(l.fds) > 0 }
