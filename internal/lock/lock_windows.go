package lock

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// Windows has two kinds of locks where flock(2) is one, and each use gets the one that
// it needs:
//
//   - [Try] is LockFileEx. The lock belongs to the process that took it, through one
//     opened file: no copy in another process can free it, and it is gone when the
//     process ends, however it does. Windows does not count such copies, Wine does
//     until the process that locked ends: [Release] it. That suits the launch lock. A
//     directory cannot be locked so: the launch lock is a file of its own.
//   - [Create] is a share mode. The lock belongs to the opened file itself, and every
//     copy of the handle carries it, in whatever process, as with flock. That suits the
//     life lock. There is nothing to unlock: it is gone with the last handle.
//
// [Held] sees both.

// The bytes that LockFileEx locks: beyond any content, since a lock keeps others from
// reading and writing what it covers. Nothing has to be there.
const (
	lockByte = 1 << 62
	markByte = lockByte + 1 // locked, shared, by whoever has locked lockByte
)

// Create creates the file at path, which must not exist yet, and holds its lock: from
// before the file can be seen until the last copy of the handle is closed, in this
// process and in every child that inherits one. The file can be read and renamed
// meanwhile, but nobody else can open it for writing, which is how [Held] knows.
//
// It never blocks. Errors are *[fs.PathError] with the operation "create". On Unix
// systems that is [os.OpenFile] and [Try].
func Create(path string) (*os.File, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, pathError("create", path, err)
	}
	h, err := windows.CreateFile(p, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_DELETE,
		nil, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, pathError("create", path, err)
	}
	return os.NewFile(uintptr(h), path), nil
}

// try marks what it has locked, because LockFileEx says no also to who holds the lock
// through the same handle: only such a one can unlock the mark.
func try(f *os.File) (ok bool, err error) {
	err = control(f, func(h windows.Handle) error {
		err := lockFile(h, lockByte, windows.LOCKFILE_EXCLUSIVE_LOCK)
		if err == windows.ERROR_LOCK_VIOLATION {
			if err = unlockFile(h, markByte); isNotLocked(err) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		ok = true
		return lockFile(h, markByte, 0)
	})
	return ok && err == nil, err
}

// unlock: as with flock, unlocking what is not locked is no error.
func unlock(f *os.File) error {
	return control(f, func(h windows.Handle) error {
		for _, b := range []int64{markByte, lockByte} {
			if err := unlockFile(h, b); err != nil && !isNotLocked(err) {
				return err
			}
		}
		return nil
	})
}

// held asks for what a lock of either kind excludes, and for no more: other probes do
// the same at the same time.
func held(path string) (bool, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return false, pathError("open", path, err)
	}
	h, err := windows.CreateFile(p, windows.GENERIC_READ|windows.FILE_WRITE_DATA,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_EXISTING, 0, 0)
	switch {
	case err == windows.ERROR_SHARING_VIOLATION:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, pathError("open", path, err)
	}
	defer windows.CloseHandle(h) // and the lock with it
	switch err := lockFile(h, lockByte, 0); err {
	case nil:
		return false, nil
	case windows.ERROR_LOCK_VIOLATION:
		return true, nil
	default:
		return false, pathError("probe lock", path, err)
	}
}

func lockFile(h windows.Handle, at int64, how uint32) error {
	o := windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
	return windows.LockFileEx(h, how|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &o)
}

func unlockFile(h windows.Handle, at int64) error {
	o := windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)}
	return windows.UnlockFileEx(h, 0, 1, 0, &o)
}

// isNotLocked: an unlock that found nothing. The second is Wine's answer.
func isNotLocked(err error) bool {
	return err == windows.ERROR_NOT_LOCKED || err == windows.ERROR_LOCK_VIOLATION
}

// control runs g on f's handle, which stays open meanwhile.
func control(f *os.File, g func(windows.Handle) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var gerr error
	if err := c.Control(func(fd uintptr) { gerr = g(windows.Handle(fd)) }); err != nil {
		// The raw connection reports a closed file with an error of its own.
		if _, serr := f.Seek(0, io.SeekCurrent); errors.Is(serr, fs.ErrClosed) {
			return fs.ErrClosed
		}
		return err
	}
	return gerr
}
