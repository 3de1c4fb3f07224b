package ahead

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// process is one that waits.
type process struct {
	pid, pidfd int
	sock       int
}

// end is the descriptor of the process's end of the pair of sockets.
const end = handover.FirstFD

// start makes a process that waits. It executes this very program, even after its file
// was replaced.
func start() (*process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[1])
	p := &process{sock: pair[0]}
	if p.pid, p.pidfd, err = fork(pair[1]); err == nil {
		limit := unix.NsecToTimeval(patience.Nanoseconds())
		if err = unix.SetsockoptTimeval(p.sock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			p.end()
			return nil, os.NewSyscallError("setsockopt", err)
		}
		return p, nil
	}
	_ = unix.Close(p.sock)
	return nil, err
}

func fork(sock int) (pid, pidfd int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, -1, err
	}
	defer null.Close()
	// The kernel ends its other threads before it executes the daemon: the fewer the better.
	pid, pidfd, err = launch.Fork("/proc/self/exe", []string{name}, []string{"GOMAXPROCS=1"}, []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(sock)})
	if err == nil && pidfd < 0 { // Linux before 5.4
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		err = errors.ErrUnsupported
	}
	return pid, pidfd, err
}

// The states of a process.
const (
	starting = iota
	resting
	dead
)

// state looks what the process does.
func (p *process) state() int {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PIDFD, p.pidfd, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT, nil)
	switch {
	case err == unix.EINTR, err == nil && info.Signo == 0:
		return starting
	case err == nil && info.Code == cldStopped:
		return resting
	}
	return dead
}

const cldStopped = 5 // CLD_STOPPED, asm-generic/siginfo.h

// send gives the order to a process that rests, and wakes it.
func (p *process) send(order []byte, files []int) error {
	err := unix.Sendmsg(p.sock, order, unix.UnixRights(files...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	return p.wake()
}

func (p *process) wake() error { return unix.PidfdSendSignal(p.pidfd, unix.SIGCONT, nil, 0) }

// settle closes our end. It returns when the other end is closed: from then on the process
// does not end with us.
func (p *process) settle() {
	time.Sleep(lead)
	for limit := time.Now().Add(within); time.Now().Before(limit); {
		_, _, err := unix.Recvfrom(p.sock, make([]byte, 1), 0)
		if err == unix.EAGAIN {
			_ = p.wake() // it was stopped before, by somebody else, and then stopped itself
		} else if err != unix.EINTR {
			break
		}
	}
	_ = unix.Close(p.sock)
	p.sock = -1
}

// lead is how long the process has the processor for itself. The kernel would have it wait
// for us: whoever sleeps on a processor is woken there, before who runs.
var lead = 5 * time.Millisecond

// within bounds the wait for a process that was woken, which is woken again from time to
// time.
const (
	within   = 5 * time.Second
	patience = 100 * time.Millisecond
)

// end ends the process and reaps it.
func (p *process) end() {
	_ = unix.Close(p.sock)
	h := proc.FromPidfd(p.pidfd, p.pid)
	defer h.Close()
	_ = h.Signal(syscall.SIGKILL) // one that is stopped does not see the end of its socket
	if h.Wait(context.Background()) == nil {
		_, _, _ = h.Reap()
	}
}

func init() {
	if len(os.Args) == 1 && os.Args[0] == name {
		os.Exit(wait())
	}
}

// broken is the exit status of a shell that could not execute a program.
const broken = 126

// wait is the process's whole life. It returns the exit status, if it does.
func wait() int {
	handover.Reset()
	signal.Ignore(syscall.SIGPIPE)
	lowerFiles()
	self, err := proc.Self()
	if err != nil || self.PID != os.Getpid() {
		self = proc.ID{PID: os.Getpid()} // /proc is of another pid namespace, or not there
	}
	unix.CloseOnExec(end)
	order, rights, err := receive() // somebody else may have stopped it
	for err == unix.EAGAIN {        // or have woken it
		if !rest() {
			return 0
		}
		order, rights, err = receive()
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	if err == nil && len(order) == 0 {
		return 0
	}
	b, ok := decode(order)
	if err != nil || !ok {
		return broken
	}
	if err := arrange(rights); err != nil {
		return broken
	}
	_, _ = os.Stderr.WriteString("fastbind: " + become(b, self).Error() + "\n") // the daemon's log
	return broken
}

// rest stops the process until it is woken. If it slept instead, the runtime of a Go
// program would wake it from time to time, for nothing. Who is stopped does not see that
// its socket ends, so the kernel is to kill it when its parent ends; false is that the
// parent has ended before. The kernel does it too when no more than the thread has ended
// that forked (PR_SET_PDEATHSIG in prctl(2)), which costs the broker the process.
func rest() bool {
	if unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) != nil {
		return false
	}
	broker, err := unix.GetsockoptUcred(end, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || int(broker.Pid) != os.Getppid() {
		return false
	}
	// Not unix.Kill, which does not tell the runtime that it may take long: that would
	// find a goroutine that has run for all the time, and interrupt it with signals.
	_, _, errno := unix.Syscall(unix.SYS_KILL, uintptr(os.Getpid()), uintptr(unix.SIGSTOP), 0)
	return errno == 0
}

// lowerFiles gives the daemon the soft limit of descriptors that the trampoline does.
func lowerFiles() {
	const soft = 1024
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return
	}
	// By package syscall: its Exec puts what the runtime has raised back to what it
	// was, unless it is told of another value (syscall.Setrlimit).
	l.Cur = min(soft, l.Max)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// receive returns the order that there is, which is empty at the end of the socket;
// EAGAIN if there is none.
func receive() (order, rights []byte, err error) {
	rights = make([]byte, unix.CmsgSpace(4*maxFiles))
	for {
		// Most are small, and the pages of a buffer for all would have to be cleared.
		length, _, err := unix.Recvfrom(end, nil, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		n, oobn, flags := 0, 0, 0
		if err == nil {
			order = make([]byte, min(length, maxOrder))
			n, oobn, flags, _, err = unix.Recvmsg(end, order, rights, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
		}
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, nil, err
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			return nil, nil, unix.EMSGSIZE
		default:
			return order[:n], rights[:oobn], nil
		}
	}
}

// arrange puts the daemon's descriptors in their places, from 0 on.
func arrange(rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	if len(messages) != 1 {
		return errors.New("no descriptors came with the order")
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	for i, fd := range files { // out of the way of the places first
		if files[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, maxFiles); err != nil {
			return err
		}
	}
	for i, fd := range files {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return err
		}
	}
	return nil
}

// become executes the daemon. It returns only if it cannot.
func become(b launch.Become, self proc.ID) error {
	lines := []record.Line{record.Int("pid", self.PID)}
	if self.Start != 0 {
		lines = append(lines, record.Int("start", self.Start))
	}
	lines = append(lines, b.Lines...)
	// Without it nobody could find the daemon afterwards.
	if err := record.Append(b.Record, lines...); err != nil {
		return err
	}
	if err := os.Chdir(b.Dir); err != nil {
		return err
	}
	return &os.PathError{Op: "exec", Path: b.Path, Err: syscall.Exec(b.Path, b.Argv, environ(b.Env, self.PID))}
}
