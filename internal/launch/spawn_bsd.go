//go:build unix && !linux

package launch

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/proc"
)

// selfExe: no link of the kernel's leads to the running program here; the
// command's own path is used.
const selfExe = ""

const fdDir = "/dev/fd"

func sysProcAttr(*int) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func bornIn(*syscall.SysProcAttr, int) bool { return false }

func inheritable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// tableSize: no system here tells it.
func tableSize() int { return 0 }

// ignoredMask: x/sys has no sigaction here.
func ignoredMask() uint64 { return 0 }

// withEmptyMask: x/sys has no thread mask here; the host's is inherited.
func withEmptyMask(f func()) { f() }

// childHandle: it is our child and not reaped, so its pid is not another's yet.
func childHandle(pid, _ int) *proc.Handle {
	id, err := proc.Of(pid)
	if err != nil {
		return nil
	}
	h, err := proc.Open(id)
	if err != nil {
		return nil
	}
	return h
}
