package proc

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const clockMonotonic = unix.CLOCK_MONOTONIC

// zombieState is SZOMB of <sys/proc.h>.
const zombieState = 5

var bootID = sync.OnceValue(func() string {
	s, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return s
})

// kinfo asks sysctl(3) kern.proc.pid. A pid that nobody has gives an empty
// answer, which x/sys reports as EIO.
func kinfo(pid int) (start uint64, zombie bool, err error) {
	if pid <= 0 {
		return 0, false, ErrGone
	}
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err == syscall.EIO || err == syscall.ESRCH {
		return 0, false, ErrGone
	}
	if err != nil {
		return 0, false, os.NewSyscallError("sysctl", err)
	}
	if int(k.Proc.P_pid) != pid {
		return 0, false, ErrGone
	}
	t := k.Proc.P_starttime
	return uint64(t.Sec)*1e6 + uint64(t.Usec), k.Proc.P_stat == zombieState, nil
}
