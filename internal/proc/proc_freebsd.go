package proc

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const clockMonotonic = unix.CLOCK_MONOTONIC

// Offsets into struct kinfo_proc of <sys/user.h> on 64-bit systems, whose size
// FreeBSD keeps for compatibility.
const (
	kiSize       = 1088
	kiPID        = 72
	kiStart      = 336 // struct timeval
	kiStat       = 388
	zombieState  = 5 // SZOMB of <sys/proc.h>
	is64Bit      = ^uintptr(0)>>32 != 0
	kiStructSize = 0
)

// bootID: kern.boottime moves with the clock, and kern.boot_id is too new to
// rely on. Start is a wall-clock time here, which tells boots apart.
func bootID() string { return "" }

// kinfo asks sysctl(3) kern.proc.pid.
func kinfo(pid int) (start uint64, zombie bool, err error) {
	if pid <= 0 {
		return 0, false, ErrGone
	}
	if !is64Bit {
		return 0, false, errors.ErrUnsupported
	}
	b, err := unix.SysctlRaw("kern.proc.pid", pid)
	if err == syscall.ESRCH || err == nil && len(b) == 0 {
		return 0, false, ErrGone
	}
	if err != nil {
		return 0, false, os.NewSyscallError("sysctl", err)
	}
	le := binary.NativeEndian
	if len(b) < kiSize || le.Uint32(b[kiStructSize:]) != kiSize || le.Uint32(b[kiPID:]) != uint32(pid) {
		return 0, false, errors.ErrUnsupported
	}
	start = le.Uint64(b[kiStart:])*1e6 + le.Uint64(b[kiStart+8:])
	return start, b[kiStat] == zombieState, nil
}
