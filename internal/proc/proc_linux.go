package proc

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is a pidfd that Go's poller watches.
type handle struct {
	file   *os.File
	raw    syscall.RawConn
	reaped bool // guarded by Handle.mu
}

// FromPidfd makes a Handle of a pidfd of the process with this pid, such as the
// one that [syscall.SysProcAttr.PidFD] returns for a new child: proof enough, nothing
// is compared. The Handle owns fd from here on, makes it nonblocking, and
// its Close closes it. Linux only, as pidfds are.
func FromPidfd(fd, pid int) *Handle {
	// NewFile offers only a nonblocking descriptor to the poller. waitid(2)
	// behaves the same, as it is always called with WNOHANG.
	unix.SetNonblock(fd, true)
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err != nil {
		panic(err) // only for a nil File
	}
	return newHandle(pid, 0, handle{file: f, raw: raw})
}

func open(id ID) (*Handle, error) {
	if id.PIDNS == "" {
		return nil, ErrUnproven
	}
	here, err := pidNS()
	if err != nil {
		return nil, err
	}
	if id.PIDNS != here {
		return nil, ErrElsewhere
	}
	fd, err := pidfdOpen(id.PID)
	if err != nil {
		return nil, err
	}
	h := FromPidfd(fd, id.PID)
	h.start = id.Start
	start, err := startOf(id.PID)
	// Asked after /proc was read: if our process still lives, nobody else can
	// have had the number meanwhile, and what was read was its own.
	if h.isDead() {
		err = ErrGone
	} else if err == nil && start != id.Start {
		err = ErrGone
	} else if err == ErrGone {
		// Alive but not in /proc: hidepid. Unproven is not gone.
		err = &fs.PathError{Op: "read", Path: statPath(id.PID), Err: fs.ErrPermission}
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// pidfdOpen is pidfd_open(2) with PIDFD_NONBLOCK, or without where the kernel
// has no such flag (before 5.10). EINVAL, in newer kernels ENOENT, that is not
// about the flag says that the pid is a thread's: the process is gone.
func pidfdOpen(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err == unix.EINVAL {
		fd, err = unix.PidfdOpen(pid, 0)
	}
	switch err {
	case nil:
		return fd, nil
	case unix.ESRCH, unix.EINVAL, unix.ENOENT:
		return -1, ErrGone
	default:
		return -1, os.NewSyscallError("pidfd_open", err)
	}
}

func of(pid int) (ID, error) {
	ns, err := pidNS()
	if err != nil {
		return ID{}, err
	}
	start, err := startOf(pid)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: start, BootID: BootID(), PIDNS: ns}, nil
}

func statPath(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/stat" }

// startOf reads a process's start time; ErrGone if there is no such pid.
func startOf(pid int) (uint64, error) {
	if pid <= 0 {
		return 0, ErrGone
	}
	path := statPath(pid)
	// 52 fields of at most 20 digits and a name of at most 64 bytes fit.
	b, err := readSmall(path, 2048)
	if err != nil {
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
			return 0, ErrGone // ESRCH: it ended between open and read
		}
		return 0, err
	}
	got, start, err := parseStat(b)
	if err == nil && got != pid {
		err = errStat
	}
	if err != nil {
		return 0, &fs.PathError{Op: "parse", Path: path, Err: err}
	}
	return start, nil
}

// readSmall reads the first max bytes of a file of the kernel's. Bare system
// calls, because [os.ReadFile] would first offer the file to the poller.
func readSmall(path string, max int) ([]byte, error) {
	var fd int
	err := ignoringEINTR(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	buf := make([]byte, max)
	n := 0
	for n < max {
		var m int
		err := ignoringEINTR(func() (err error) {
			m, err = unix.Read(fd, buf[n:])
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return buf[:n], nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

var bootID = sync.OnceValue(func() string {
	b, err := readSmall("/proc/sys/kernel/random/boot_id", 128)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// pidNS names the pid namespace, which a process keeps for life (setns(2) and
// unshare(2) change it for children only). It also makes sure that /proc
// counts pids as the kernel does for us: in a new pid namespace under the old
// /proc, /proc/7 is somebody else than the process that kill(7) reaches.
var pidNS = sync.OnceValues(func() (string, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return "", err
	}
	if self != strconv.Itoa(os.Getpid()) {
		return "", &fs.PathError{Op: "use", Path: "/proc", Err: errOtherProc}
	}
	return os.Readlink("/proc/self/ns/pid")
})

func pidNamespace() string {
	ns, err := pidNS()
	if err != nil {
		return ""
	}
	return ns
}

var errOtherProc = otherProcError{}

type otherProcError struct{}

func (otherProcError) Error() string        { return "it shows another pid namespace" }
func (otherProcError) Is(target error) bool { return target == errors.ErrUnsupported }

func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ts.Nano())
}

// setName writes /proc/self/comm: proc_pid_comm(5) lets any thread of a
// process name any other, and /proc/self is the main one.
func setName(name string) {
	fd, err := unix.Open("/proc/self/comm", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Write(fd, []byte(name))
	unix.Close(fd)
}

// isDead is true when the pidfd polls readable, see the package comment.
func (h *Handle) isDead() bool {
	dead := false
	h.sys.raw.Control(func(fd uintptr) { dead = readable(int(fd)) })
	return dead
}

func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var n int
	err := ignoringEINTR(func() (err error) {
		n, err = unix.Poll(p, 0)
		return err
	})
	return err == nil && n == 1 && p[0].Revents&unix.POLLIN != 0
}

// await parks in the poller until the process is dead (true), or until the
// handle is closed or the poller has no room for the descriptor (false).
func (h *Handle) await() bool {
	return h.sys.raw.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil
}

func (h *Handle) signal(sig syscall.Signal) error {
	return h.control(func(fd int) error {
		err := unix.PidfdSendSignal(fd, sig, nil, 0)
		if err == unix.ESRCH {
			return ErrGone
		}
		return os.NewSyscallError("pidfd_send_signal", err)
	})
}

// peek learns the exit of a dead process without reaping it.
func (h *Handle) peek() (e Exit) {
	h.control(func(fd int) error {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			e = exitOf(syscall.WaitStatus(uint32(info.Exit_code)))
			return nil
		}
		// The kernel notes the exit when the process is reaped. Until then
		// only its parent may ask.
		e, _, _ = waitid(fd, unix.WNOWAIT)
		return nil
	})
	return e
}

func (h *Handle) reap() (e Exit, ok bool, err error) {
	err = h.control(func(fd int) (err error) {
		e, ok, err = waitid(fd, 0)
		return err
	})
	return e, ok, err
}

// waitid is waitid(2) on a pidfd without blocking.
func waitid(fd, flags int) (Exit, bool, error) {
	var info unix.Siginfo
	err := ignoringEINTR(func() error {
		return unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOHANG|flags, nil)
	})
	if err != nil {
		return Exit{}, false, os.NewSyscallError("waitid", err)
	}
	if info.Signo == 0 {
		return Exit{}, false, nil // still living
	}
	// x/sys leaves the union of siginfo_t unnamed. It follows three ints,
	// aligned for a pointer; in it come si_pid, si_uid and si_status, 4 bytes each.
	const (
		word   = unsafe.Sizeof(uintptr(0))
		status = (3*4+word-1)&^(word-1) + 2*4
	)
	s := *(*int32)(unsafe.Add(unsafe.Pointer(&info), status))
	switch info.Code {
	case cldKilled, cldDumped:
		return Exit{Known: true, Signal: syscall.Signal(s), Core: info.Code == cldDumped}, true, nil
	default:
		return Exit{Known: true, Code: int(s)}, true, nil
	}
}

// si_code values for SIGCHLD, sigaction(2).
const (
	cldKilled = 2
	cldDumped = 3
)

// control runs f on the pidfd, which stays open meanwhile.
func (h *Handle) control(f func(fd int) error) error {
	var ferr error
	if err := h.sys.raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		if h.isClosed() {
			return os.ErrClosed
		}
		return err
	}
	return ferr
}

func (h *Handle) release() error { return h.sys.file.Close() }
