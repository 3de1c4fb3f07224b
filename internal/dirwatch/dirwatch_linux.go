package dirwatch

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// namesMask is what changes the set of names, or the directory's own name.
	// No IN_ATTRIB: it comes with every chmod and link count, and deletions are
	// IN_DELETE in any case.
	namesMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

	// filesMask adds writes as they happen. IN_CLOSE_WRITE would only repeat the
	// last IN_MODIFY. IN_EXCL_UNLINK: what is written to a deleted file is
	// nobody's news, and a daemon may go on with a deleted log for days.
	filesMask = namesMask | unix.IN_MODIFY | unix.IN_EXCL_UNLINK

	fileMask = unix.IN_MODIFY | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
)

func open(paths []string, what subject, tick time.Duration) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return poll(paths, what, tick)
	}
	mask := [...]uint32{names: namesMask, files: filesMask, file: fileMask}[what]
	for _, path := range paths {
		err := addWatch(fd, path, mask)
		if err == unix.ENOSPC || err == unix.ENOMEM {
			unix.Close(fd)
			return poll(paths, what, tick)
		}
		if err != nil {
			unix.Close(fd)
			return nil, &fs.PathError{Op: "watch", Path: path, Err: err}
		}
	}
	// Nonblocking, so that NewFile gives it to Go's poller: a waiting Read is a
	// parked goroutine, and Close wakes it.
	return start(inotify{os.NewFile(uintptr(fd), "inotify")}, tick), nil
}

func addWatch(fd int, path string, mask uint32) error {
	for {
		if _, err := unix.InotifyAddWatch(fd, path, mask); err != unix.EINTR {
			return err
		}
	}
}

// inotify is a source. Events are not parsed: every one of them, IN_Q_OVERFLOW
// and IN_IGNORED included, means the same.
type inotify struct{ f *os.File }

func (i inotify) run(changed func()) error {
	// Room for some events in one read, and always for one with the longest name, or
	// read(2) fails with EINVAL. It is on the stack of a goroutine that a daemon has two
	// of for as long as it lives: 4 kB of stack are enough for this much.
	buf := make([]byte, 1024)
	for {
		n, err := i.f.Read(buf)
		if n > 0 {
			changed()
		}
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (i inotify) close() { i.f.Close() }
