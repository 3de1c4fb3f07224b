package main

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// wedge makes every goroutine of the process stand still for ever, as native code
// that does not return does: a thread holds on to its processor of Go's, no signal
// can make it give that back, and the next garbage collection waits for it.
func wedge() {
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		println(err.Error())
		os.Exit(1)
	}
	go runtime.GC()
	for {
		// Raw: the runtime is not told that it blocks.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}
