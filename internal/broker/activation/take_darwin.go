package activation

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// take asks launchd for the sockets of each name. The announcement is systemd's
// and not for here.
func take(_, names []string) ([]Socket, error) {
	var sockets []Socket
	for _, name := range names {
		fds, err := activate(name)
		if errors.Is(err, unix.ESRCH) {
			return nil, nil // not started by launchd
		}
		if err != nil {
			return nil, fmt.Errorf("launchd does not hand down the sockets %q: %w", name, err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(int(fd))
			sockets = append(sockets, Socket{name, os.NewFile(uintptr(fd), "descriptor "+strconv.Itoa(int(fd))+" of the service manager")})
		}
	}
	return sockets, nil
}

// activate is launch_activate_socket(3). The array that it allocates, of a few
// bytes once in a process, is left to it. It is called as package
// golang.org/x/sys/unix calls the system's library, so that no C compiler is needed.
func activate(name string) ([]int32, error) {
	cname, err := unix.BytePtrFromString(name)
	if err != nil {
		return nil, err
	}
	var fds *int32
	var count uintptr
	errno, _, _ := syscall_syscall(launch_activate_socket_trampoline_addr,
		uintptr(unsafe.Pointer(cname)), uintptr(unsafe.Pointer(&fds)), uintptr(unsafe.Pointer(&count)))
	if int32(errno) != 0 {
		return nil, unix.Errno(int32(errno))
	}
	if count > MaxSockets {
		return nil, fmt.Errorf("%d sockets, of which %d are taken at most", count, MaxSockets)
	}
	return unsafe.Slice(fds, count), nil
}

//go:cgo_import_dynamic libc_launch_activate_socket launch_activate_socket "/usr/lib/libSystem.B.dylib"

var launch_activate_socket_trampoline_addr uintptr

//go:linkname syscall_syscall syscall.syscall
func syscall_syscall(fn, a1, a2, a3 uintptr) (r1, r2 uintptr, err syscall.Errno)
