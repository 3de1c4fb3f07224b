package proc

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/waitable"
)

// A handle of the system's keeps the number of its process from being given to
// another, so what is done through it never reaches one. A process that has ended is
// signalled. Its exit code is 32 bits, is known to everybody who has a handle, and is
// no secret of the parent's: Exit is known after every end, and Reap needs no child of
// ours and takes nothing away.
//
// ID.Start is the creation time in 100 ns since 1601 by the wall clock. No two
// processes with one number have the same, of whatever boot, so an ID has no BootID.
//
// Signal sends SIGKILL, which is TerminateProcess with exit code 1, as that of package
// os is; 0 asks only. Others are [errors.ErrUnsupported].
type handle struct {
	*object
	reaped bool // guarded by Handle.mu
}

// An object is a handle of the system's that others can use until it is closed.
type object struct {
	mu     sync.RWMutex // closing, against use
	h      windows.Handle
	closed bool
}

// FromHandle makes a Handle of one of the system's to the process with this pid, such
// as [os.Process.WithHandle] shows, of which the caller has made a copy: proof enough,
// nothing is compared. It must allow SYNCHRONIZE and
// PROCESS_QUERY_LIMITED_INFORMATION, and PROCESS_TERMINATE for Signal. The Handle
// owns h from here on, and its Close closes it. Windows only.
func FromHandle(h windows.Handle, pid int) *Handle {
	return newHandle(pid, 0, handle{object: &object{h: h}})
}

const (
	mayLook = windows.SYNCHRONIZE | windows.PROCESS_QUERY_LIMITED_INFORMATION
	mayKill = mayLook | windows.PROCESS_TERMINATE
)

func pidNamespace() string { return "" }

func open(id ID) (*Handle, error) {
	p, err := openProcess(id.PID, mayKill)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		// Somebody else's, or one that runs with more rights.
		p, err = openProcess(id.PID, mayLook)
	}
	if err != nil {
		return nil, err
	}
	start, err := startOf(p)
	h := FromHandle(p, id.PID)
	h.start = id.Start
	if err == nil && (start != id.Start || h.isDead()) {
		err = ErrGone
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func of(pid int) (ID, error) {
	p, err := openProcess(pid, windows.PROCESS_QUERY_LIMITED_INFORMATION)
	if err != nil {
		return ID{}, err
	}
	defer windows.CloseHandle(p)
	start, err := startOf(p)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: start}, nil
}

func openProcess(pid int, access uint32) (windows.Handle, error) {
	if pid <= 0 || int64(pid) > 1<<32-1 {
		return 0, ErrGone
	}
	p, err := windows.OpenProcess(access, false, uint32(pid))
	if err == windows.ERROR_INVALID_PARAMETER {
		return 0, ErrGone
	}
	if err != nil {
		return 0, os.NewSyscallError("OpenProcess", err)
	}
	// Windows ignores the two lowest bits of what it is asked for.
	if got, err := windows.GetProcessId(p); err != nil || got != uint32(pid) {
		_ = windows.CloseHandle(p)
		return 0, ErrGone
	}
	return p, nil
}

func startOf(p windows.Handle) (uint64, error) {
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(p, &created, &exited, &kernel, &user); err != nil {
		return 0, os.NewSyscallError("GetProcessTimes", err)
	}
	return uint64(created.HighDateTime)<<32 | uint64(created.LowDateTime), nil
}

// bootID is when the kernel began to count, in 100 ns since 1601. Setting the clock moves
// that time and its bias alike.
var bootID = sync.OnceValue(func() string {
	var now struct { // SYSTEM_TIMEOFDAY_INFORMATION
		boot, current, zone int64
		zoneID, _           uint32
		bootBias, sleepBias int64
	}
	var n uint32
	err := windows.NtQuerySystemInformation(windows.SystemTimeOfDayInformation, unsafe.Pointer(&now), uint32(unsafe.Sizeof(now)), &n)
	if err != nil || now.boot == 0 {
		return ""
	}
	return strconv.FormatInt(now.boot-now.bootBias, 10)
})

func setName(string) {}

// use runs f on the handle, which stays open meanwhile.
func (o *object) use(f func(windows.Handle) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return os.ErrClosed
	}
	return f(o.h)
}

func (h *Handle) isDead() (dead bool) {
	_ = h.sys.use(func(p windows.Handle) error {
		e, err := windows.WaitForSingleObject(p, 0)
		dead = err == nil && e == windows.WAIT_OBJECT_0
		return nil
	})
	return dead
}

// await: the system's thread pool waits, no thread of ours. False: the handle was
// closed, or the pool has no room.
func (h *Handle) await() bool {
	dead := make(chan struct{})
	var w *waitable.Watch
	err := h.sys.use(func(p windows.Handle) (err error) {
		w, err = waitable.On(p, func() { close(dead) })
		return err
	})
	if err != nil {
		return false
	}
	defer w.Stop() // before the handle is closed: see release
	select {
	case <-dead:
		return true
	case <-h.closed:
		return false
	}
}

func (h *Handle) signal(sig syscall.Signal) error {
	return h.sys.use(func(p windows.Handle) error {
		switch sig {
		case 0:
			return nil
		case syscall.SIGKILL:
			err := windows.TerminateProcess(p, 1)
			if e, werr := windows.WaitForSingleObject(p, 0); err != nil && werr == nil && e == windows.WAIT_OBJECT_0 {
				return ErrGone // it ended by itself, and is not to be terminated any more
			}
			var code uint32
			if werr := windows.GetExitCodeProcess(p, &code); werr == nil && alreadyEnding(err, code) {
				return ErrGone
			}
			return os.NewSyscallError("TerminateProcess", err)
		}
		return os.NewSyscallError("signal", windows.ERROR_NOT_SUPPORTED)
	})
}

// alreadyEnding reports whether a process could not be terminated because that has begun:
// its exit code is set then, and it is signalled when its threads and handles are gone. To
// who may not terminate it at all the answer is the same, but not the code.
func alreadyEnding(terminate error, code uint32) bool {
	return terminate == windows.ERROR_ACCESS_DENIED && code != stillActive
}

func (h *Handle) peek() (e Exit) {
	_ = h.sys.use(func(p windows.Handle) error {
		var code uint32
		if err := windows.GetExitCodeProcess(p, &code); err == nil {
			e = Exit{Known: true, Code: int(code)}
		}
		return nil
	})
	return e
}

func (h *Handle) reap() (Exit, bool, error) {
	if h.isClosed() {
		return Exit{}, false, os.ErrClosed
	}
	// Not the code, which is one that a process can also end with: 259 while it lives.
	if !h.isDead() {
		return Exit{}, false, nil
	}
	e := h.peek()
	return e, e.Known, nil
}

// release closes the handle when nobody waits for it any more.
func (h *Handle) release() error {
	h.watcher.Wait()
	h.sys.mu.Lock()
	defer h.sys.mu.Unlock()
	h.sys.closed = true
	return os.NewSyscallError("CloseHandle", windows.CloseHandle(h.sys.h))
}
