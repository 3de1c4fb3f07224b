package handover

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// nameProcess names the process as proc.SetName does, without opening a file: init runs on
// the main thread, whose name is that of the process.
func nameProcess(name string) {
	if p, err := unix.BytePtrFromString(name); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(p)), 0, 0, 0)
	}
}
