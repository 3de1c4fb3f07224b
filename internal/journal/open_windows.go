package journal

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// openAppend and openRead let others rename and delete what they have opened, as every
// open does elsewhere and package os's here does not: a log is moved aside under the
// daemon that writes it, and under whoever follows it.
//
// The right to append and no other right to write makes every write an append, whoever
// else writes meanwhile. FILE_FLAG_OPEN_REPARSE_POINT opens a link itself.
func openAppend(path string, access int) (*os.File, error) {
	rights := uint32(windows.FILE_APPEND_DATA | windows.FILE_READ_ATTRIBUTES | windows.FILE_WRITE_ATTRIBUTES | windows.SYNCHRONIZE)
	if access == os.O_RDWR {
		rights |= windows.FILE_GENERIC_READ
	}
	return openShared(path, rights, windows.OPEN_ALWAYS, windows.FILE_FLAG_OPEN_REPARSE_POINT)
}

func openRead(path string) (*os.File, error) {
	return openShared(path, windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, 0)
}

func openShared(path string, rights, disposition, flags uint32) (*os.File, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(p, rights, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		disposition, windows.FILE_ATTRIBUTE_NORMAL|flags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// rename replaces what is at to even while somebody has it open. MoveFileEx renames such a
// file but does not replace it, and a deleted one may keep its name until it is
// closed: so it goes under another name.
func rename(from, to string) error {
	err := os.Rename(from, to)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	gone := to + "." + strconv.FormatInt(time.Now().UnixNano(), 36)
	if os.Rename(to, gone) != nil {
		return err
	}
	_ = os.Remove(gone)
	return os.Rename(from, to)
}
