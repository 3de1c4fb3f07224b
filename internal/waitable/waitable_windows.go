package waitable

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	kernel32                    = windows.NewLazySystemDLL("kernel32.dll")
	registerWaitForSingleObject = kernel32.NewProc("RegisterWaitForSingleObject")
	unregisterWaitEx            = kernel32.NewProc("UnregisterWaitEx")
)

// Flags of RegisterWaitForSingleObject (winnt.h). Being called in the waiting
// thread itself saves a thread and a switch; it is meant for calls that are short.
const (
	executeInWaitThread = 0x4
	executeOnlyOnce     = 0x8
)

// A Watch is one wait for one object. It is safe for concurrent use.
type Watch struct {
	wait uintptr // the system's handle of the wait
	key  uintptr
	stop sync.Once
}

// calls are the functions of the waits that have neither ended nor been stopped, by
// key. The system is given a key and not a Go pointer.
var (
	calls   sync.Map
	lastKey atomic.Uintptr
)

// The runtime has a small number of callbacks that are never freed, so that there is
// one for all waits.
var called = sync.OnceValue(func() uintptr {
	return syscall.NewCallback(func(key uintptr, _ uintptr) uintptr {
		if f, ok := calls.LoadAndDelete(key); ok {
			f.(func())()
		}
		return 0
	})
})

// On calls f once, when h is signalled, and at once if it is already. h must stay open
// until Stop has returned, and must allow SYNCHRONIZE. A manual-reset event
// stays signalled; an auto-reset one is consumed.
//
// f is called on a thread of the system's on which the program's other waits
// depend: it must not block, nor call Stop. Errors are *[os.SyscallError].
func On(h windows.Handle, f func()) (*Watch, error) {
	w := &Watch{key: lastKey.Add(1)}
	calls.Store(w.key, f)
	ok, _, err := registerWaitForSingleObject.Call(uintptr(unsafe.Pointer(&w.wait)), uintptr(h), called(), w.key,
		windows.INFINITE, executeInWaitThread|executeOnlyOnce)
	if ok == 0 {
		calls.Delete(w.key)
		return nil, os.NewSyscallError("RegisterWaitForSingleObject", err)
	}
	return w, nil
}

// Stop ends the wait. When it returns, f has returned or will never be called.
// It waits for an f that runs, which does not block. It must be called also
// after f was, and may be called again.
func (w *Watch) Stop() {
	w.stop.Do(func() {
		// An invalid handle for the completion event: wait for a callback that
		// runs. A wait that does not end so is not one of ours.
		_, _, _ = unregisterWaitEx.Call(w.wait, uintptr(windows.InvalidHandle))
		calls.Delete(w.key)
	})
}
