package ahead

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

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

// maxFiles bounds the descriptors of a daemon.
const maxFiles = 16

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
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		p.pid, p.pidfd, err = launch.Fork("/proc/self/exe", []string{name}, []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(pair[1])})
	}
	if err != nil {
		_ = unix.Close(p.sock)
		return nil, err
	}
	return p, nil
}

// send gives the order, and closes our end: nothing comes back.
func (p *process) send(order []byte, files []int) error {
	err := unix.Sendmsg(p.sock, order, unix.UnixRights(files...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if err == nil {
		_ = unix.Close(p.sock)
		p.sock = -1
	}
	return err
}

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
	order, rights, err := receive()
	if err != nil || len(order) == 0 {
		return 0 // the broker is gone, or has no use for us
	}
	b, ok := decode(order)
	if !ok {
		return broken
	}
	if err := arrange(rights); err != nil {
		return broken
	}
	_, _ = os.Stderr.WriteString("fastbind: " + become(b, self).Error() + "\n") // the daemon's log
	return broken
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

// receive waits for an order, which is empty at the end of the socket.
func receive() (order, rights []byte, err error) {
	order, rights = make([]byte, maxOrder), make([]byte, unix.CmsgSpace(4*maxFiles))
	for {
		n, oobn, flags, _, err := unix.Recvmsg(end, order, rights, unix.MSG_CMSG_CLOEXEC)
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
