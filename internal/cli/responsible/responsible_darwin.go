package responsible

import (
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// of asks libquarantine, which launchctl procinfo asks too; Apple documents neither. It is
// called as package golang.org/x/sys/unix calls the system's library, so that no C
// compiler is needed.
func of(pid int) (int, string, error) {
	r, _, _ := syscall_syscall(responsibility_get_pid_responsible_for_pid_trampoline_addr, uintptr(pid), 0, 0)
	owner := int(int32(r))
	if owner <= 0 {
		return 0, "", errors.ErrUnsupported
	}
	var path [4096]byte // PROC_PIDPATHINFO_MAXSIZE
	n, _, errno := syscall_syscall(proc_pidpath_trampoline_addr, uintptr(owner), uintptr(unsafe.Pointer(&path[0])), uintptr(len(path)))
	if int32(n) <= 0 {
		return 0, "", errno
	}
	return owner, unix.ByteSliceToString(path[:]), nil
}

//go:cgo_import_dynamic libc_responsibility_get_pid_responsible_for_pid responsibility_get_pid_responsible_for_pid "/usr/lib/libSystem.B.dylib"
//go:cgo_import_dynamic libc_proc_pidpath proc_pidpath "/usr/lib/libSystem.B.dylib"

var responsibility_get_pid_responsible_for_pid_trampoline_addr uintptr
var proc_pidpath_trampoline_addr uintptr

//go:linkname syscall_syscall syscall.syscall
func syscall_syscall(fn, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno)
