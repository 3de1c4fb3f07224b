package gocache

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
	"unsafe"
)

var (
	kernel32     = syscall.NewLazyDLL("kernel32.dll")
	lockFileEx   = kernel32.NewProc("LockFileEx")
	unlockFileEx = kernel32.NewProc("UnlockFileEx")
)

// Flags and errors of the system's (winbase.h, winerror.h).
const (
	lockExclusive       = 2
	lockFailImmediately = 1

	errorWriteProtect   = syscall.Errno(19)
	errorLockViolation  = syscall.Errno(33)
	errorHandleDiskFull = syscall.Errno(39)
	errorDiskFull       = syscall.Errno(112)
)

// haveLocks: LockFileEx is gone with the process that has it, as flock is. There is none on
// directories, so that the spill of a client that was killed stays.
const haveLocks = true

// lockByte is beyond any content: a lock keeps others from reading what it covers.
const lockByte = 1 << 62

func tryLock(f *os.File, exclusive bool) (bool, error) {
	how := uintptr(lockFailImmediately)
	if exclusive {
		how |= lockExclusive
	}
	ok, _, err := lockFileEx.Call(f.Fd(), how, 0, 1, 0, uintptr(unsafe.Pointer(at())))
	if ok != 0 {
		return true, nil
	}
	if err == errorLockViolation {
		err = nil
	}
	return false, err
}

// waitLock looks again and again: a wait in the system would keep other uses of the
// same handle waiting.
func waitLock(f *os.File, exclusive bool) error {
	for {
		if ok, err := tryLock(f, exclusive); ok || err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func unlock(f *os.File) {
	_, _, _ = unlockFileEx.Call(f.Fd(), 0, 1, 0, uintptr(unsafe.Pointer(at())))
}

func at() *syscall.Overlapped {
	return &syscall.Overlapped{Offset: uint32(lockByte & 0xffffffff), OffsetHigh: uint32(lockByte >> 32)}
}

// openShared opens a file that others may remove meanwhile, which package os's open does not
// let them.
func openShared(path string, flags int) (*os.File, error) {
	rights := uint32(syscall.GENERIC_READ)
	switch {
	case flags&os.O_APPEND != 0:
		rights |= syscall.FILE_APPEND_DATA | syscall.SYNCHRONIZE
	case flags&os.O_RDWR != 0:
		rights |= syscall.GENERIC_WRITE
	}
	disposition := uint32(syscall.OPEN_EXISTING)
	switch {
	case flags&os.O_EXCL != 0:
		disposition = syscall.CREATE_NEW
	case flags&os.O_CREATE != 0:
		disposition = syscall.OPEN_ALWAYS
	}
	p, err := syscall.UTF16PtrFromString(path)
	if err == nil {
		var h syscall.Handle
		h, err = syscall.CreateFile(p, rights, syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE|syscall.FILE_SHARE_DELETE, nil,
			disposition, syscall.FILE_ATTRIBUTE_NORMAL, 0)
		if err == nil {
			return os.NewFile(uintptr(h), path), nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: err}
}

// fileNumber: size and time have to tell.
func fileNumber(fs.FileInfo) (dev, ino uint64) { return 0, 0 }

func isReadOnly(err error) bool { return errors.Is(err, errorWriteProtect) }

func isFull(err error) bool {
	return errors.Is(err, errorDiskFull) || errors.Is(err, errorHandleDiskFull)
}

func readSmall(path string, limit int) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	return b, fi.ModTime(), err
}
