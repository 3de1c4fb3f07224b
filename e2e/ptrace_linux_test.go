//go:build amd64

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A role is one program in the tree of processes that a traced command starts:
// how many forks below the command, and after how many execs. The command itself
// is {0, 1}, its child before the exec {1, 0}, the daemon that this becomes {1, 1}.
type role struct{ depth, execs int }

// A call is a system call of the target that is about to be made.
type call struct {
	tid, tgid int
	nr        uint64
	args      [6]uint64

	dials map[uint64]string // of the process: where its descriptors were connected to
}

// What is done to a call.
type deed struct {
	kill  bool
	errno syscall.Errno
	after bool // the call is made, and reported as failed
}

// A tracer runs a command under ptrace(2) and is asked about every system call
// that one process of its makes, all threads of that together, in the order in
// which the calls are made. strace counts each thread for itself, so that "the
// third openat" would be several.
//
// It does something to one call at most. Processes below the target run free. All of ptrace happens on a thread of its
// own, as the kernel demands; when that ends, whoever is still traced runs free.
type tracer struct {
	target role
	decide func(call) deed // called on the tracer's thread, while the caller stands still

	ending atomic.Bool
	exited chan struct{} // closed when the command has ended
	gone   chan struct{} // closed when the target has
	done   chan struct{} // closed when nothing is traced any more

	// Set when exited is closed.
	status unix.WaitStatus

	mu    sync.Mutex // guards procs, of which the tracer's thread alone is the writer
	procs map[int]*tracee

	deciding sync.Mutex // held while decide runs; guards armed
	armed    bool

	// Of the tracer's thread alone.
	threads map[int]*thread
	early   map[int]bool // seen before their parent has told of them
	over    bool         // something was done to a call: the others are of no interest
	err     error
}

type tracee struct {
	role  role
	tgid  int
	dials map[uint64]string
}

type thread struct {
	proc    *tracee
	fresh   bool // its first stop is that of being attached
	pending deed // of the call that it is in
}

// forbidden skips a test where the system does not let a process trace its children.
func forbidden(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system forbids tracing one's own children:", err)
	}
}

// startTrace starts the command, with nothing for its stdin and its output in a
// file, whose name it returns. Unless later, every call of the target counts; else
// those from arm on.
func startTrace(cmd *exec.Cmd, dir string, target role, later bool, decide func(call) deed) (*tracer, string, error) {
	tr := &tracer{target: target, decide: decide,
		exited: make(chan struct{}), gone: make(chan struct{}), done: make(chan struct{}),
		procs: map[int]*tracee{}, threads: map[int]*thread{}, early: map[int]bool{}}
	tr.armed = !later
	out, err := os.CreateTemp(dir, "output")
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, "", err
	}
	defer null.Close()
	started := make(chan error)
	go onOwnThread(func() {
		defer close(tr.done)
		pid, err := syscall.ForkExec(cmd.Path, cmd.Args, &syscall.ProcAttr{Dir: cmd.Dir, Env: cmd.Env,
			Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true}})
		if err == nil {
			err = tr.first(pid)
		}
		started <- err
		if err == nil {
			tr.loop(pid)
		}
	})
	return tr, out.Name(), <-started
}

// onOwnThread calls f on a thread that ends with it. The process's main thread
// never ends, and is passed over; so is one that has children already, for which
// some other goroutine waits: a tracer's thread waits for all of its own.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	children, err := os.ReadFile("/proc/thread-self/children")
	if unix.Gettid() != unix.Getpid() && (err != nil || len(children) == 0) {
		f()
		return // without unlocking
	}
	other := make(chan struct{})
	go func() {
		defer close(other)
		onOwnThread(f)
	}()
	<-other
	runtime.UnlockOSThread()
}

// first waits for the stop that follows the command's exec.
func (tr *tracer) first(pid int) error {
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return os.NewSyscallError("wait4", err)
	}
	if !ws.Stopped() {
		return fmt.Errorf("process %d does not stop to be traced: %#x", pid, ws)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK |
		unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return os.NewSyscallError("ptrace", err)
	}
	p := &tracee{role: role{0, 1}, tgid: pid, dials: map[uint64]string{}}
	tr.procs[pid] = p
	th := &thread{proc: p}
	tr.threads[pid] = th
	return tr.resume(pid, th, 0)
}

// arm makes the target's calls count from now on, disarm no longer: when that has
// returned nothing more is decided.
func (tr *tracer) arm()    { tr.setArmed(true) }
func (tr *tracer) disarm() { tr.setArmed(false) }

func (tr *tracer) setArmed(armed bool) {
	tr.deciding.Lock()
	defer tr.deciding.Unlock()
	tr.armed = armed
}

// end lets whoever is still traced run free. Whoever does not stop for that is
// killed after a minute, and given up a minute later.
func (tr *tracer) end() error {
	tr.disarm()
	tr.ending.Store(true)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sig := time.Now(), unix.SIGURG
	for {
		// Any stop wakes the tracer's thread; a Go program ignores this signal.
		tr.mu.Lock()
		for pid := range tr.procs {
			_ = unix.Kill(pid, sig)
		}
		tr.mu.Unlock()
		switch late := time.Since(began); {
		case late > 2*time.Minute:
			return errors.New("a process could not be let go")
		case late > time.Minute:
			sig = unix.SIGKILL
		}
		select {
		case <-tr.done:
			// The stop of a thread that had just been made is no longer ours to end.
			tr.mu.Lock()
			defer tr.mu.Unlock()
			for pid := range tr.procs {
				_ = unix.Kill(pid, unix.SIGCONT)
			}
			return tr.err
		case <-tick.C:
		}
	}
}

// kill kills the command, if it has not ended.
func (tr *tracer) kill() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for pid, p := range tr.procs {
		if p.role.depth == 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// loop is the tracer's thread.
func (tr *tracer) loop(program int) {
	for !tr.ending.Load() || tr.failing() {
		var ws unix.WaitStatus
		tid, err := unix.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return // ECHILD: nobody is left
		}
		if ws.Stopped() {
			tr.stopped(tid, ws)
			continue
		}
		th := tr.threads[tid]
		delete(tr.threads, tid)
		delete(tr.early, tid)
		if th == nil || tid != th.proc.tgid {
			continue
		}
		tr.mu.Lock()
		delete(tr.procs, tid)
		tr.mu.Unlock()
		if th.proc.role == tr.target {
			tr.closeGone()
		}
		if tid == program {
			tr.status = ws
			close(tr.exited)
		}
	}
}

// failing reports whether a call has been cut that has not yet said so: left alone
// now, it would say that there is no such call.
func (tr *tracer) failing() bool {
	for _, th := range tr.threads {
		if th.pending.errno != 0 {
			return true
		}
	}
	return false
}

func (tr *tracer) closeGone() {
	select {
	case <-tr.gone:
	default:
		close(tr.gone)
	}
}

func (tr *tracer) stopped(tid int, ws unix.WaitStatus) {
	th := tr.threads[tid]
	if th == nil {
		tr.meet(tid)
		return
	}
	sig := ws.StopSignal()
	deliver := 0
	switch {
	case sig == unix.SIGTRAP|0x80:
		tr.syscallStop(tid, th)
	case sig == unix.SIGTRAP && ws.TrapCause() > 0:
		tr.event(tid, th, ws.TrapCause())
	case th.fresh && sig == unix.SIGSTOP:
		th.fresh = false
	default:
		deliver = int(sig)
	}
	_ = tr.resume(tid, th, deliver) // ESRCH: it was killed meanwhile
}

// event notes new threads, new processes and execs.
func (tr *tracer) event(tid int, th *thread, cause int) {
	if cause == unix.PTRACE_EVENT_EXEC {
		th.proc.role.execs++
		th.pending = deed{}
		return
	}
	msg, err := unix.PtraceGetEventMsg(tid)
	if err != nil {
		return
	}
	child := int(msg)
	if tr.early[child] {
		delete(tr.early, child)
		return
	}
	tr.born(child, th.proc, cause == unix.PTRACE_EVENT_CLONE).fresh = true
}

// born notes a new thread of a process, or a new process of its.
func (tr *tracer) born(tid int, p *tracee, joins bool) *thread {
	if !joins {
		p = &tracee{role: role{depth: p.role.depth + 1}, tgid: tid, dials: map[uint64]string{}}
		tr.mu.Lock()
		tr.procs[tid] = p
		tr.mu.Unlock()
	}
	th := &thread{proc: p}
	tr.threads[tid] = th
	return th
}

// meet lets a thread go on that stands still before its parent has told of it. The
// parent may never tell: the process that it was in may have ended at that moment.
func (tr *tracer) meet(tid int) {
	tgid, parent := family(tid)
	of, parentOf := tr.procs[tgid], tr.procs[parent]
	var th *thread
	switch {
	case of != nil:
		th = tr.born(tid, of, true)
	case parentOf != nil:
		th = tr.born(tid, parentOf, false)
	default:
		_ = ptraceDetach(tid, 0)
		return
	}
	tr.early[tid] = true
	_ = tr.resume(tid, th, 0)
}

// family is the process that a thread is in, and that one's parent.
func family(tid int) (tgid, parent int) {
	b, _ := os.ReadFile(filepath.Join("/proc", itoa(tid), "status"))
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSpace(value))
		switch key {
		case "Tgid":
			tgid = n
		case "PPid":
			parent = n
		}
	}
	return tgid, parent
}

// resume lets a stopped thread go on: to its next call if it is the target's,
// free if its process is past what is of interest.
func (tr *tracer) resume(tid int, th *thread, sig int) error {
	r, t := th.proc.role, tr.target
	switch {
	case r == t && (!tr.over || th.pending != deed{}):
		return unix.PtraceSyscall(tid, sig)
	case !th.fresh && (r.depth > t.depth || r.depth == t.depth && r.execs > t.execs):
		// Alone: threads come after the exec.
		delete(tr.threads, tid)
		tr.mu.Lock()
		delete(tr.procs, tid)
		tr.mu.Unlock()
		if r.depth == t.depth {
			tr.closeGone()
		}
		return ptraceDetach(tid, sig)
	default:
		return unix.PtraceCont(tid, sig)
	}
}

// ptraceDetach lets a stopped thread run free, and delivers the signal if there is
// one.
func ptraceDetach(tid, sig int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(tid), 0, uintptr(sig), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// syscallInfo is PTRACE_GET_SYSCALL_INFO, which fills a struct ptrace_syscall_info.
func syscallInfo(tid int, info *[88]byte) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		uintptr(len(info)), uintptr(unsafe.Pointer(info)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// Operations of PTRACE_GET_SYSCALL_INFO, ptrace(2).
const (
	syscallEntry = 1
	syscallExit  = 2
)

func (tr *tracer) syscallStop(tid int, th *thread) {
	var info [88]byte
	if err := syscallInfo(tid, &info); err != nil {
		tr.fault(err)
		return
	}
	switch info[0] {
	case syscallEntry:
		c := call{tid: tid, tgid: th.proc.tgid, nr: binary.NativeEndian.Uint64(info[24:]), dials: th.proc.dials}
		for i := range c.args {
			c.args[i] = binary.NativeEndian.Uint64(info[32+8*i:])
		}
		c.follow()
		th.pending = deed{}
		d := tr.ask(c)
		tr.over = tr.over || d != deed{}
		switch {
		case d.kill:
			_ = unix.Kill(th.proc.tgid, unix.SIGKILL)
		case d.errno != 0 && !d.after:
			tr.patch(tid, func(r *unix.PtraceRegs) { r.Orig_rax = ^uint64(0) }) // no call
		}
		th.pending = d
	case syscallExit:
		if d := th.pending; d.errno != 0 {
			tr.patch(tid, func(r *unix.PtraceRegs) { r.Rax = -uint64(d.errno) })
		}
		th.pending = deed{}
	}
}

// ask asks what to do, if calls count now.
func (tr *tracer) ask(c call) deed {
	tr.deciding.Lock()
	defer tr.deciding.Unlock()
	if !tr.armed {
		return deed{}
	}
	return tr.decide(c)
}

func (tr *tracer) patch(tid int, f func(*unix.PtraceRegs)) {
	var regs unix.PtraceRegs
	err := unix.PtraceGetRegs(tid, &regs)
	if err == nil {
		f(&regs)
		err = unix.PtraceSetRegs(tid, &regs)
	}
	tr.fault(err)
}

// fault notes an error, but that of a thread that was killed while it stood still.
func (tr *tracer) fault(err error) {
	if err != nil && err != unix.ESRCH {
		tr.err = errors.Join(tr.err, err)
	}
}

// follow keeps where descriptors were connected to.
func (c call) follow() {
	switch c.nr {
	case unix.SYS_CONNECT:
		c.dials[c.args[0]] = c.address(1, 2)
	case unix.SYS_CLOSE:
		delete(c.dials, c.args[0])
	}
}

// text reads a string from the target's memory.
func (c call) text(addr uint64) string {
	var b []byte
	for len(b) < 4096 && addr != 0 {
		// To the end of a page: the next one may not be there.
		part := make([]byte, 256-addr%256)
		n, err := unix.ProcessVMReadv(c.tid, []unix.Iovec{{Base: &part[0], Len: uint64(len(part))}},
			[]unix.RemoteIovec{{Base: uintptr(addr), Len: len(part)}}, 0)
		if err != nil || n <= 0 {
			break
		}
		b, addr = append(b, part[:n]...), addr+uint64(n)
		if i := strings.IndexByte(string(b), 0); i >= 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// address reads the path of a Unix socket's address.
func (c call) address(arg, size int) string {
	if c.args[size] <= 2 {
		return ""
	}
	s := c.text(c.args[arg] + 2) // behind sa_family
	return s[:min(len(s), int(c.args[size])-2)]
}

// descriptor says what one of the target's descriptors is.
func (c call) descriptor(fd uint64) string {
	if to, ok := c.dials[fd]; ok {
		return "socket to " + to
	}
	s, err := os.Readlink(filepath.Join("/proc", itoa(c.tid), "fd", itoa(int(int32(fd)))))
	if err != nil {
		return "none"
	}
	return s
}

// TestTracer: the tracer counts what strace counts, kills before the call that it
// was told, and fails the call that it was told.
func TestTracer(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "there")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	cat := func(decide func(call) deed) (string, unix.WaitStatus) {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", "/bin/cat "+file+"; echo status $?")
		tr, out, err := startTrace(cmd, dir, role{1, 1}, false, decide)
		if err != nil {
			forbidden(t, err)
			t.Fatal(err)
		}
		<-tr.exited
		if err := tr.end(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(b), tr.status
	}
	opens := 0
	text, _ := cat(func(c call) deed {
		if c.nr == unix.SYS_OPENAT && c.text(c.args[1]) == file {
			opens++
		}
		return deed{}
	})
	if opens != 1 || text != "textstatus 0\n" {
		t.Errorf("%d opens of the file, %q", opens, text)
	}
	text, _ = cat(func(c call) deed {
		if c.nr == unix.SYS_OPENAT && c.text(c.args[1]) == file {
			return deed{errno: syscall.EMFILE}
		}
		return deed{}
	})
	if !strings.Contains(text, "Too many open files") || !strings.HasSuffix(text, "status 1\n") {
		t.Errorf("a failed open gave %q", text)
	}
	text, _ = cat(func(c call) deed { return deed{kill: c.nr == unix.SYS_OPENAT && c.text(c.args[1]) == file} })
	if !strings.HasSuffix(text, "status 137\n") || strings.Contains(text, "texts") {
		t.Errorf("killed before its open it gave %q", text)
	}
}
