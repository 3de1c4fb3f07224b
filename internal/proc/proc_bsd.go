//go:build darwin || freebsd

package proc

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func pidNamespace() string { return "" }

// handle: these systems have no descriptor for a process that is not a child.
type handle struct {
	reaped bool // guarded by Handle.mu
}

func of(pid int) (ID, error) {
	start, _, err := kinfo(pid)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: start, BootID: BootID()}, nil
}

func open(id ID) (*Handle, error) {
	start, zombie, err := kinfo(id.PID)
	if err != nil {
		return nil, err
	}
	if zombie || start != id.Start {
		return nil, ErrGone
	}
	return newHandle(id.PID, id.Start, handle{}), nil
}

func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clockMonotonic, &ts); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ts.Nano())
}

func setName(string) {}

func (h *Handle) isDead() bool {
	start, zombie, err := kinfo(h.pid)
	return err == ErrGone || err == nil && (zombie || start != h.start)
}

// await: no event, so watch polls.
func (h *Handle) await() bool { return false }

func (h *Handle) signal(sig syscall.Signal) error {
	if h.isClosed() {
		return os.ErrClosed
	}
	err := syscall.Kill(h.pid, sig)
	if err == syscall.ESRCH {
		return ErrGone
	}
	return os.NewSyscallError("kill", err)
}

// peek: there is no asking without reaping.
func (h *Handle) peek() Exit { return Exit{} }

func (h *Handle) reap() (Exit, bool, error) {
	if h.isClosed() {
		return Exit{}, false, os.ErrClosed
	}
	// Somebody else's status is not taken: a pid that is our child's by
	// now but was not when the handle was opened has another start time.
	if start, _, err := kinfo(h.pid); err == nil && start != h.start {
		return Exit{}, false, os.NewSyscallError("wait4", syscall.ECHILD)
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(h.pid, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return Exit{}, false, os.NewSyscallError("wait4", err)
		case pid == 0:
			return Exit{}, false, nil
		default:
			return exitOf(ws), true, nil
		}
	}
}

func (h *Handle) release() error { return nil }
