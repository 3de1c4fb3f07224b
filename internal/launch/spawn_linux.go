package launch

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/proc"
)

// selfExe spawns this very program even after its file was replaced or deleted
// (proc(5)): after an upgrade in place, and under go run.
const selfExe = "/proc/self/exe"

const fdDir = "/proc/self/fd"

func sysProcAttr(pidfd *int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, PidFD: pidfd}
}

// bornIn has the child born in a cgroup, where the system can do that.
func bornIn(attr *syscall.SysProcAttr, cgroup int) bool {
	attr.UseCgroupFD, attr.CgroupFD = true, cgroup
	return true
}

func inheritable(fd int) bool {
	// It never blocks, so that the scheduler need not know.
	flags, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFD, 0)
	return errno == 0 && flags&unix.FD_CLOEXEC == 0
}

func tableSize() int { return proc.DescriptorTable() }

func ignoredMask() uint64 { return proc.IgnoredSignals() }

// withEmptyMask runs f with no signal blocked. The runtime's fork gives the child the
// mask of the forking thread. All threads of a Go program have the mask that it was started
// with, which is empty as a rule; else f gets a thread that nobody else runs on, which for
// the runtime is two more threads and 0.2 ms.
func withEmptyMask(f func()) {
	var now unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_BLOCK, nil, &now) == nil && now == (unix.Sigset_t{}) {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var empty, old unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_SETMASK, &empty, &old) == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	}
	f()
}

// childHandle: a kernel that gives no pidfd (before 5.4) gives no handle.
func childHandle(pid, pidfd int) *proc.Handle {
	if pidfd < 0 {
		return nil
	}
	return proc.FromPidfd(pidfd, pid)
}
