package handover

import (
	"strconv"
	"sync/atomic"
	"syscall"
)

// taken is what init found, before main.
var taken struct {
	handover atomic.Pointer[Handover] // handed to this process, not adopted yet
	err      error                    // announced, but unusable
}

func init() {
	value, announced := syscall.Getenv(Variable)
	if !announced {
		return
	}
	h, err := Decode(value)
	if err == nil && h.PID != 0 && h.PID != syscall.Getpid() {
		// Meant for our parent, a foreign daemon that could not clear it.
		clearVariables()
		return
	}
	if err != nil {
		taken.err = err
		clearVariables()
		return
	}
	taken.handover.Store(&h)
	for _, fd := range []int{h.Listen, h.Control, h.Life} {
		if fd != None {
			closeOnExec(fd)
		}
	}
	for _, f := range h.Further {
		closeOnExec(f.FD)
	}
	h.Pipes.closeOnExec()
	clearVariables()
	resetProcess()
	nameProcess(h.Service)
}

func clearVariables() {
	for _, v := range []string{Variable, "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} {
		_ = syscall.Unsetenv(v)
	}
}

// Pending returns what was handed to this process and is not adopted yet, nil
// if there is nothing. It is on the path of every dial.
func Pending() *Handover { return taken.handover.Load() }

// Take returns what was handed to this process, once; the caller owns the
// descriptors. It returns nil and no error for a process that nobody launched,
// and an error if something was announced that cannot be used: such a daemon
// must fail, never bind a second listener.
func Take() (*Handover, error) {
	return taken.handover.Swap(nil), taken.err
}

// TakeActivated returns the listening descriptors that were handed over by
// systemd's convention alone, made close-on-exec, and clears the variables. It
// returns nil if there are none for this process.
func TakeActivated() []int {
	pid, _ := syscall.Getenv("LISTEN_PID")
	count, _ := syscall.Getenv("LISTEN_FDS")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > 64 || pid != strconv.Itoa(syscall.Getpid()) {
		return nil
	}
	var fds []int
	for fd := FirstFD; fd < FirstFD+n; fd++ {
		closeOnExec(fd)
		fds = append(fds, fd)
	}
	clearVariables()
	return fds
}
