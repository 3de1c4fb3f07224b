//go:build amd64

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var scenes = []scene{
	{name: "launching client", whole: true, target: role{0, 1}, command: dialCommand},
	{name: "launching client after a death", target: role{0, 1}, reach: stale, command: dialCommand},
	{name: "child before its exec", whole: true, target: role{1, 0}, command: dialCommand},
	{name: "daemon until it serves", whole: true, target: role{1, 1}, command: dialCommand},
	{name: "client of a living daemon", target: role{0, 1}, reach: living, command: dialCommand, keeps: true},
	{name: "client that lets the daemon bind", target: role{0, 1}, command: dialBinder, next: nextBinder, keepless: true},
	{name: "daemon that binds", target: role{1, 1}, command: dialBinder, next: nextBinder, keepless: true},
	{name: "upgrading client", target: role{0, 1}, reach: outdated, command: dialTool, next: nextBuild, keeps: true},
	{name: "client that waits for an upgrade", target: role{0, 1}, reach: outdated, command: restartTool, next: nextBuild, keeps: true},
	{name: "successor", target: role{1, 1}, reach: outdated, command: restartTool, next: nextBuild, keeps: true},
	{name: "daemon that is succeeded", target: role{1, 1}, reach: firstBuild, command: dialTool, act: upgradeTool, next: nextBuild, keeps: true},
	{name: "fastbind stop", whole: true, target: role{0, 1}, reach: living, command: stopCommand, keeps: true},
	{name: "daemon that is stopped", target: role{1, 1}, command: dialCommand, act: stopCommand, keeps: true},
	{name: "fastbind start of a foreign", target: role{0, 1}, command: startForeign, next: nextForeign},
	{name: "trampoline", whole: true, target: role{1, 1}, command: startForeign, next: nextForeign, follow: true},
}

func dialCommand(w *world) *exec.Cmd {
	return w.command("testprog", "dial", "-adopt=5s", "-timeout=30s")
}

func dialBinder(w *world) *exec.Cmd {
	return w.command("testprog", "dial", "-bind=daemon", "-bound=5s", "-adopt=5s", "-timeout=30s")
}

// dialLateBinder has a daemon that takes a while to say anything.
func dialLateBinder(w *world) *exec.Cmd {
	return w.command("testprog", "dial", "-bind=daemon", "-bound=5s", "-adopt=5s", "-timeout=30s", "-run-late=300ms")
}

func stopCommand(w *world) *exec.Cmd { return w.command("fastbind", "stop", "t", "--timeout=30s") }

func startForeign(w *world) *exec.Cmd {
	return w.command("fastbind", "start", "t", "--timeout=30s", "--", w.plaind())
}

// toolCommand is the tool of the world, which is upgraded.
func toolCommand(w *world, args ...string) *exec.Cmd {
	cmd := w.command("testprog", append(args, "-on-version=replace", "-adopt=5s", "-timeout=30s")...)
	cmd.Path = filepath.Join(w.dir, "tool")
	cmd.Args[0] = cmd.Path
	return cmd
}

func dialTool(w *world) *exec.Cmd    { return toolCommand(w, "dial") }
func restartTool(w *world) *exec.Cmd { return toolCommand(w, "restart") }

func upgradeTool(w *world) *exec.Cmd {
	w.upgrade(filepath.Join(w.dir, "tool"), 2, false)
	return restartTool(w)
}

func living(_ *testing.T, w *world) { w.dial() }

func firstBuild(_ *testing.T, w *world) { w.upgrade(filepath.Join(w.dir, "tool"), 1, true) }

func nextBinder(w *world) { w.dial("-bind=daemon") }

// nextBuild is served by whichever build serves, and in the end by the new one.
func nextBuild(w *world) {
	w.dial()
	w.untilBuild(filepath.Join(w.dir, "tool"), 2)
}

func nextForeign(w *world) {
	w.said(w.fastbind("start", "t", "--", w.plaind()), "/t/sock", "exit 0")
	conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	_, _ = io.WriteString(conn, "7\n")
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		w.t.Error("the daemon does not answer:", err)
	}
}

// found are the cuts that have shown a fault.
var found = []struct {
	name, scene string
	cut         cut
	fine        bool // the command succeeds
}{
	{"who was queued learns why a daemon could not adopt", "daemon until it serves",
		cut{nr: unix.SYS_LISTEN, errno: unix.ENOMEM, nth: 1, about: "/sock"}, false},
	{"a journal that cannot be moved aside fails no launch", "launching client",
		cut{nr: unix.SYS_NEWFSTATAT, errno: unix.EIO, nth: 1, about: "t.journal"}, true},
	{"a log is moved aside for being none, and for nothing else", "launching client",
		cut{nr: unix.SYS_FSTAT, errno: unix.EIO, nth: 1, about: "t.log"}, true},
	{"a log that cannot be opened fails no launch", "launching client",
		cut{nr: unix.SYS_OPENAT, errno: unix.ENOSPC, nth: 1, about: "t.log"}, true},
	{"a service that cannot be looked for is not said to be none", "fastbind stop",
		cut{nr: unix.SYS_NEWFSTATAT, errno: unix.EIO, nth: 1, about: "(ROOT/default/t)"}, false},
	{"a foreign daemon that cannot see its start time can be stopped", "trampoline",
		cut{nr: unix.SYS_OPENAT, errno: unix.ENFILE, nth: 1, about: "/proc/self/stat"}, true},
	{"a daemon that cannot see its start time can be stopped", "daemon until it serves",
		cut{nr: unix.SYS_OPENAT, errno: unix.EMFILE, nth: 1, about: "/stat)"}, true},
	{"a daemon whose launcher does not know its pid namespace can be stopped", "launching client",
		cut{nr: unix.SYS_READLINKAT, errno: unix.EACCES, nth: 1, about: "/ns/pid"}, true},
	{"a fault is no proof that a successor has failed", "daemon that is succeeded",
		cut{nr: unix.SYS_READLINKAT, errno: unix.EIO, nth: 1, about: "/current"}, true},
}

// A row says how a system call is known, and in which ways it fails.
type row struct {
	name  string
	fd    int // which argument is a descriptor, -1 none
	path  int // which argument is a path, -1 none
	errs  []syscall.Errno
	after bool // it is done, and reported as failed: close(2) frees the descriptor whatever it says
}

// rows are the calls that this module's packages make, and that can fail, with
// the errors of their manual pages that do not mean a mistake of the caller's.
// An error that would be a false answer about others is left out: that a process
// does not exist, or that nobody listens. The kernel does not say such things of
// who lives.
var rows = map[uint64]row{
	unix.SYS_OPENAT:      {"openat", -1, 1, []syscall.Errno{unix.EACCES, unix.EINTR, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOENT, unix.ENOMEM, unix.ENOSPC}, false},
	unix.SYS_READ:        {"read", 0, -1, []syscall.Errno{unix.EINTR, unix.EIO}, false},
	unix.SYS_PREAD64:     {"pread64", 0, -1, []syscall.Errno{unix.EINTR, unix.EIO}, false},
	unix.SYS_WRITE:       {"write", 0, -1, []syscall.Errno{unix.EDQUOT, unix.EINTR, unix.EIO, unix.ENOSPC}, false},
	unix.SYS_CLOSE:       {"close", 0, -1, []syscall.Errno{unix.EINTR, unix.EIO}, true},
	unix.SYS_GETDENTS64:  {"getdents64", 0, -1, []syscall.Errno{unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_FSTAT:       {"fstat", 0, -1, []syscall.Errno{unix.EIO, unix.ENOMEM}, false},
	unix.SYS_NEWFSTATAT:  {"newfstatat", -1, 1, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_STATFS:      {"statfs", -1, 0, []syscall.Errno{unix.EACCES, unix.EINTR, unix.EIO, unix.ENOMEM, unix.ENOSYS}, false},
	unix.SYS_FACCESSAT:   {"faccessat", -1, 1, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_FACCESSAT2:  {"faccessat2", -1, 1, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_READLINKAT:  {"readlinkat", -1, 1, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_MKDIRAT:     {"mkdirat", -1, 1, []syscall.Errno{unix.EACCES, unix.EDQUOT, unix.EEXIST, unix.EMLINK, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EROFS}, false},
	unix.SYS_FCHMOD:      {"fchmod", 0, -1, []syscall.Errno{unix.EIO, unix.ENOMEM, unix.EPERM, unix.EROFS}, false},
	unix.SYS_FCHMODAT:    {"fchmodat", -1, 1, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM, unix.EPERM, unix.EROFS}, false},
	unix.SYS_UNLINKAT:    {"unlinkat", -1, 1, []syscall.Errno{unix.EACCES, unix.EBUSY, unix.EIO, unix.ENOENT, unix.ENOMEM, unix.EPERM, unix.EROFS}, false},
	unix.SYS_LINKAT:      {"linkat", -1, 1, []syscall.Errno{unix.EACCES, unix.EDQUOT, unix.EEXIST, unix.EIO, unix.EMLINK, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EPERM, unix.EROFS}, false},
	unix.SYS_SYMLINKAT:   {"symlinkat", -1, 2, []syscall.Errno{unix.EACCES, unix.EDQUOT, unix.EEXIST, unix.EIO, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EROFS}, false},
	unix.SYS_RENAMEAT:    {"renameat", -1, 1, []syscall.Errno{unix.EACCES, unix.EBUSY, unix.EDQUOT, unix.EIO, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EROFS}, false},
	unix.SYS_FLOCK:       {"flock", 0, -1, []syscall.Errno{unix.EINTR, unix.ENOLCK, unix.EWOULDBLOCK}, false},
	unix.SYS_SOCKET:      {"socket", -1, -1, []syscall.Errno{unix.EACCES, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM}, false},
	unix.SYS_BIND:        {"bind", 0, -1, []syscall.Errno{unix.EACCES, unix.EADDRINUSE, unix.EIO, unix.ENOENT, unix.ENOMEM, unix.ENOSPC, unix.EROFS}, false},
	unix.SYS_LISTEN:      {"listen", 0, -1, []syscall.Errno{unix.EADDRINUSE, unix.ENOMEM}, false},
	unix.SYS_CONNECT:     {"connect", 0, -1, []syscall.Errno{unix.EACCES, unix.EAGAIN, unix.ENOENT, unix.ENOMEM, unix.EPERM}, false},
	unix.SYS_ACCEPT4:     {"accept4", 0, -1, []syscall.Errno{unix.ECONNABORTED, unix.EINTR, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM}, false},
	unix.SYS_SHUTDOWN:    {"shutdown", 0, -1, []syscall.Errno{unix.ENOBUFS}, false},
	unix.SYS_GETSOCKNAME: {"getsockname", 0, -1, []syscall.Errno{unix.ENOBUFS}, false},
	unix.SYS_GETPEERNAME: {"getpeername", 0, -1, []syscall.Errno{unix.ENOBUFS, unix.ENOTCONN}, false},
	unix.SYS_SENDMSG:     {"sendmsg", 0, -1, []syscall.Errno{unix.EINTR, unix.ENOBUFS, unix.ENOMEM, unix.ETOOMANYREFS}, false},
	unix.SYS_RECVMSG:     {"recvmsg", 0, -1, []syscall.Errno{unix.EINTR, unix.ENOMEM}, false},
	unix.SYS_PIPE2:       {"pipe2", -1, -1, []syscall.Errno{unix.EMFILE, unix.ENFILE}, false},
	unix.SYS_CLONE:       {"clone", -1, -1, []syscall.Errno{unix.EAGAIN, unix.ENOMEM}, false},
	unix.SYS_EXECVE:      {"execve", -1, 0, []syscall.Errno{unix.E2BIG, unix.EACCES, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOENT, unix.ENOEXEC, unix.ENOMEM, unix.EPERM, unix.ETXTBSY}, false},
	unix.SYS_DUP3:        {"dup3", -1, -1, []syscall.Errno{unix.EBUSY, unix.EINTR, unix.EMFILE}, false},
	unix.SYS_FCNTL:       {"fcntl", 0, -1, []syscall.Errno{unix.EMFILE}, false},
	unix.SYS_SETSID:      {"setsid", -1, -1, []syscall.Errno{unix.EPERM}, false},
	unix.SYS_CHDIR:       {"chdir", -1, 0, []syscall.Errno{unix.EACCES, unix.EIO, unix.ENOENT, unix.ENOMEM}, false},
	unix.SYS_PRLIMIT64:   {"prlimit64", -1, -1, []syscall.Errno{unix.EPERM}, false},
	unix.SYS_GETRLIMIT:   {"getrlimit", -1, -1, []syscall.Errno{unix.EINVAL}, false},
	unix.SYS_SETRLIMIT:   {"setrlimit", -1, -1, []syscall.Errno{unix.EPERM}, false},
	unix.SYS_WAITID:      {"waitid", -1, -1, []syscall.Errno{unix.ECHILD, unix.EINTR}, false},
	unix.SYS_POLL:        {"poll", -1, -1, []syscall.Errno{unix.EINTR, unix.ENOMEM}, false},
	unix.SYS_PPOLL:       {"ppoll", -1, -1, []syscall.Errno{unix.EINTR, unix.ENOMEM}, false},
	unix.SYS_PIDFD_OPEN:  {"pidfd_open", -1, -1, []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENODEV, unix.ENOMEM}, false},
	unix.SYS_PIDFD_SEND_SIGNAL: {"pidfd_send_signal", -1, -1,
		[]syscall.Errno{unix.EPERM}, false},
	unix.SYS_IOCTL:             {"ioctl", 0, -1, []syscall.Errno{unix.ENOTTY}, false},
	unix.SYS_INOTIFY_INIT1:     {"inotify_init1", -1, -1, []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM}, false},
	unix.SYS_INOTIFY_ADD_WATCH: {"inotify_add_watch", -1, 1, []syscall.Errno{unix.EACCES, unix.ENOENT, unix.ENOMEM, unix.ENOSPC}, false},
	unix.SYS_TIMERFD_CREATE:    {"timerfd_create", -1, -1, []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENODEV, unix.ENOMEM}, false},
}

// killOnly are the calls that are the runtime's own, or a shell's, or that cannot
// fail.
var killOnly = map[uint64]bool{
	unix.SYS_ARCH_PRCTL: true, unix.SYS_BRK: true, unix.SYS_CLOCK_GETTIME: true, unix.SYS_CLONE3: true,
	unix.SYS_EPOLL_CREATE1: true, unix.SYS_EPOLL_CTL: true, unix.SYS_EPOLL_PWAIT: true, unix.SYS_EPOLL_WAIT: true,
	unix.SYS_EVENTFD2: true, unix.SYS_EXIT: true, unix.SYS_EXIT_GROUP: true, unix.SYS_FUTEX: true,
	unix.SYS_GETEUID: true, unix.SYS_GETPID: true, unix.SYS_GETRANDOM: true, unix.SYS_GETTID: true,
	unix.SYS_GETSOCKOPT: true, unix.SYS_GETUID: true, unix.SYS_INOTIFY_RM_WATCH: true, unix.SYS_MADVISE: true, unix.SYS_MINCORE: true,
	unix.SYS_MMAP: true, unix.SYS_MPROTECT: true, unix.SYS_MUNMAP: true, unix.SYS_NANOSLEEP: true,
	unix.SYS_PRCTL: true, unix.SYS_RT_SIGACTION: true, unix.SYS_RT_SIGPROCMASK: true, unix.SYS_RT_SIGRETURN: true,
	unix.SYS_SCHED_GETAFFINITY: true, unix.SYS_SCHED_YIELD: true, unix.SYS_SETSOCKOPT: true, unix.SYS_SIGALTSTACK: true,
	unix.SYS_TGKILL: true,
	unix.SYS_ACCESS: true, unix.SYS_DUP2: true, unix.SYS_GETCWD: true, unix.SYS_GETEGID: true, unix.SYS_GETGID: true,
	unix.SYS_GETPPID: true, unix.SYS_LSEEK: true, unix.SYS_RESTART_SYSCALL: true, unix.SYS_RSEQ: true, unix.SYS_SET_ROBUST_LIST: true,
	unix.SYS_SET_TID_ADDRESS: true, unix.SYS_STAT: true, unix.SYS_WAIT4: true, unix.SYS_WRITEV: true, unix.SYS_TIMERFD_SETTIME: true, unix.SYS_UMASK: true, unix.SYS_UNAME: true,
}

// ways are the errors that a call can be made to fail with: none if it is the
// runtime's or the test program's.
func (w *world) ways(c call, r row) []syscall.Errno {
	switch c.nr {
	case unix.SYS_CLONE:
		if c.args[0]&unix.CLONE_THREAD != 0 {
			return nil
		}
	case unix.SYS_FCNTL:
		if c.args[1] != unix.F_DUPFD && c.args[1] != unix.F_DUPFD_CLOEXEC {
			return nil
		}
	case unix.SYS_PRLIMIT64, unix.SYS_GETRLIMIT:
		if c.args[0] == unix.RLIMIT_NOFILE || c.nr == unix.SYS_PRLIMIT64 && c.args[1] == unix.RLIMIT_NOFILE {
			return nil
		}
	}
	if r.path >= 0 {
		path := c.text(c.args[r.path])
		if w.strange(path) || c.nr == unix.SYS_OPENAT && path == "/proc/self/exe" {
			return nil
		}
		if c.nr == unix.SYS_OPENAT && c.args[2]&unix.O_CREAT == 0 {
			return r.errs[:len(r.errs)-1] // no space is needed
		}
	}
	if r.fd < 0 {
		return r.errs
	}
	fd := c.args[r.fd]
	to := c.descriptor(fd)
	if w.strange(to) || to == "none" || fd <= 2 && c.nr != unix.SYS_DUP3 {
		return nil
	}
	if c.nr != unix.SYS_READ && c.nr != unix.SYS_WRITE {
		return r.errs
	}
	switch {
	case strings.HasPrefix(to, "/"):
		return r.errs
	case strings.HasPrefix(to, "socket") && !strings.HasSuffix(w.socket(to), "/sock"):
		if c.nr == unix.SYS_READ {
			return []syscall.Errno{unix.ECONNRESET, unix.EINTR, unix.ENOMEM}
		}
		return []syscall.Errno{unix.EINTR, unix.ENOBUFS, unix.ENOMEM, unix.EPIPE}
	}
	// The errors of the service's own connections are its user's. A pipe or an
	// event has none.
	return []syscall.Errno{unix.EINTR}
}

// strange reports whether a file is none of the SDK's.
func (w *world) strange(path string) bool {
	return strings.HasPrefix(path, "/sys/") || strings.HasSuffix(path, "/cgroup") || strings.HasSuffix(path, "/mountinfo") ||
		path == w.execsFile() || strings.HasPrefix(path, w.bin) || path == filepath.Join(w.dir, "tool") ||
		path == "anon_inode:[eventfd]" || path == "anon_inode:[eventpoll]"
}

// socket completes what is known of a descriptor by the name that the socket has.
func (w *world) socket(to string) string {
	inode, ok := strings.CutPrefix(to, "socket:[")
	if !ok {
		return to
	}
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		w.t.Error(err)
	}
	inode = strings.TrimSuffix(inode, "]")
	for l := range strings.Lines(string(table)) {
		if f := strings.Fields(l); len(f) == 8 && f[6] == inode {
			return "socket at " + f[7]
		}
	}
	return to
}

// describe names a call and what it is about.
func (w *world) describe(c call) string {
	r, ok := rows[c.nr]
	if !ok {
		return fmt.Sprintf("system call %d", c.nr)
	}
	what := ""
	switch {
	case c.nr == unix.SYS_CONNECT || c.nr == unix.SYS_BIND:
		what = c.address(1, 2)
	case r.path >= 0:
		what = c.text(c.args[r.path])
	case r.fd >= 0:
		what = w.socket(c.descriptor(c.args[r.fd]))
	}
	return r.name + "(" + strings.ReplaceAll(what, w.root, "ROOT") + ")"
}
