package daemon

import (
	"io"
	"os"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/sharing"
)

// A boundedLog is the log that stdout or stderr leads to. Nothing can make a handle
// that a process has for its output, and that its children have inherited, lead to
// another file. So the log is not moved aside but copied there, and emptied: everybody
// who writes to it appends. What comes between the two is lost.
type boundedLog struct {
	path  string
	leads bool
}

// here looks whether stdout or stderr leads to the file at the path.
func (l *boundedLog) here() {
	at, err := os.Stat(l.path)
	if err != nil {
		return
	}
	l.leads = false
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if fi, err := f.Stat(); err == nil && os.SameFile(fi, at) {
			l.leads = true
		}
	}
}

// ours reports whether the process's output leads to the log.
func (l *boundedLog) ours() bool { return l.leads }

// turn copies the log aside if it is too large, and empties it. It returns false when
// another file is at the path than before.
func (l *boundedLog) turn() (same bool) {
	if fi, err := os.Stat(l.path); err != nil || fi.Size() < journal.MaxSize {
		if l.here(); err != nil || !l.leads {
			return false
		}
		return true
	}
	f, err := sharing.Open(l.path, windows.FILE_GENERIC_READ|windows.FILE_GENERIC_WRITE, windows.OPEN_EXISTING, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	aside, err := sharing.Open(l.path+".1", windows.FILE_GENERIC_WRITE, windows.CREATE_ALWAYS, 0)
	if err != nil {
		return true
	}
	_, err = io.Copy(aside, io.LimitReader(f, maxAside))
	if cerr := aside.Close(); err == nil && cerr == nil {
		_ = f.Truncate(0)
	}
	return true
}

// maxAside bounds what is kept of a log that grew faster than it was looked at.
const maxAside = 4 * journal.MaxSize
