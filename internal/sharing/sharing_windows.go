package sharing

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Open opens a file with these rights, disposition and flags of CreateFile, all of
// its sharing allowed. The right to append and no other right to write makes every write an
// append, whoever else writes meanwhile. Errors are *[fs.PathError].
func Open(path string, rights, disposition, flags uint32) (*os.File, error) {
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

// Rename replaces what is at to, even while somebody has it open. It does not block.
func Rename(from, to string) error {
	err := renamePOSIX(from, to)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return renameAside(from, to)
}

// renamePOSIX is a rename as rename(2) has it (FILE_RENAME_POSIX_SEMANTICS).
func renamePOSIX(from, to string) error {
	f, err := Open(from, windows.DELETE|windows.SYNCHRONIZE, windows.OPEN_EXISTING, windows.FILE_FLAG_OPEN_REPARSE_POINT)
	if err != nil {
		return err
	}
	defer f.Close()
	name, err := windows.UTF16FromString(to)
	if err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: err}
	}
	// FILE_RENAME_INFO: flags, the handle of a directory, the length in bytes, the name.
	const root = unsafe.Sizeof(uintptr(0))
	b := make([]byte, 2*root+4+2*uintptr(len(name)))
	binary.LittleEndian.PutUint32(b, windows.FILE_RENAME_REPLACE_IF_EXISTS|windows.FILE_RENAME_POSIX_SEMANTICS)
	binary.LittleEndian.PutUint32(b[2*root:], uint32(2*(len(name)-1)))
	for i, u := range name {
		binary.LittleEndian.PutUint16(b[2*root+4+2*uintptr(i):], u)
	}
	err = windows.SetFileInformationByHandle(windows.Handle(f.Fd()), windows.FileRenameInfoEx, &b[0], uint32(len(b)))
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// renameAside: MoveFileEx renames a file that is open but does not replace one, and a
// deleted one may keep its name until it is closed: so it goes under another name.
func renameAside(from, to string) error {
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
