package record

import (
	"os"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/sharing"
)

// openFile: others may delete a record that somebody reads, with its directory.
func openFile(path string, flags int) (*os.File, error) {
	rights, disposition := uint32(windows.FILE_GENERIC_READ), uint32(windows.OPEN_EXISTING)
	if flags&os.O_APPEND != 0 {
		rights |= windows.FILE_APPEND_DATA
	}
	if flags&os.O_EXCL != 0 {
		disposition = windows.CREATE_NEW
	}
	return sharing.Open(path, rights, disposition, 0)
}

const (
	// writeLock is the byte that who appends locks: far beyond any content, since what a
	// lock covers others can neither read nor write. Nothing has to be there.
	writeLock = 1 << 62

	// aloneWithin bounds the wait for it. Who is terminated has it no more; who is
	// suspended may have it for ever, and then nobody's words are to be kept back.
	aloneWithin = 500 * time.Millisecond
)

// alone waits until no other writer appends, up to a bound. Every append finds the end of
// the file anew, but whether two at once may find the same is not documented; in Wine, on
// a file of another system, they do.
func alone(f *os.File) (done func()) {
	h := windows.Handle(f.Fd())
	at := windows.Overlapped{OffsetHigh: writeLock >> 32}
	const how = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	for end := time.Now().Add(aloneWithin); ; time.Sleep(time.Millisecond) {
		err := windows.LockFileEx(h, how, 0, 1, 0, &at)
		switch {
		case err == nil:
			return func() { _ = windows.UnlockFileEx(h, 0, 1, 0, &at) }
		case err != windows.ERROR_LOCK_VIOLATION || time.Now().After(end):
			return func() {}
		}
	}
}

// makePrivate: the directory's access list holds for what is made in it.
func makePrivate(*os.File) error { return nil }
