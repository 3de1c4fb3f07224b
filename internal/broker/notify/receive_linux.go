package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/proc"
)

// maxDescriptors is how many of a message's descriptors are taken. The kernel
// drops the others itself.
const maxDescriptors = 4

// oobLen has room for those and the credentials, which the kernel puts first
// (scm_recv in net/core/scm.c).
var oobLen = unix.CmsgSpace(unix.SizeofUcred) + unix.CmsgSpace(4*maxDescriptors)

// maxPath is the length of the longest path in a socket address, without the NUL
// byte that many daemons' libraries want.
const maxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// bind: the mode that a Unix socket has as a file is that of its name from the
// first moment on (unix_bind in af_unix.c), and credentials come with every
// message that is sent after SO_PASSCRED.
func bind(path string) (*net.UnixConn, error) {
	if len(path) > maxPath {
		return nil, syscall.ENAMETOOLONG
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return controlled(raw, func(fd int) error {
			if err := unix.Fchmod(fd, 0o600); err != nil {
				return os.NewSyscallError("fchmod", err)
			}
			return setPassCred(fd)
		})
	}}
	c, err := lc.ListenPacket(context.Background(), "unixgram", path)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return controlled(raw, setPassCred)
}

func setPassCred(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
}

func controlled(raw syscall.RawConn, f func(fd int) error) error {
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// A receiver turns datagrams into events. It belongs to one goroutine.
type receiver struct {
	socket *Socket
	queue  *queue
	judge  judge
}

// A datagram is a message as the kernel gives it.
type datagram struct {
	text []byte
	cut  bool // there was more text
	cred *unix.Ucred
	fds  []int
}

// run receives until the socket is closed, or, if it is finishing, until nothing
// is left. The error is nil in these cases.
func (r *receiver) run() error {
	text, oob := make([]byte, MaxMessage), make([]byte, oobLen)
	euid := os.Geteuid()
	for r.queue.waitRoom(r.socket.stop) {
		d, err := r.receive(text, oob)
		switch {
		case err == unix.EAGAIN || errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return os.NewSyscallError("recvmsg", err)
		}
		r.handle(d, euid)
	}
	return nil
}

// receive waits for a datagram. When the socket is finishing it does not wait,
// EAGAIN says that there is none.
func (r *receiver) receive(text, oob []byte) (d datagram, err error) {
	attempt := func(fd uintptr) bool {
		for {
			var n, oobn, flags int
			n, oobn, flags, _, err = unix.Recvmsg(int(fd), text, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if err == unix.EINTR {
				continue
			}
			if err == nil {
				d = datagram{text: text[:n], cut: flags&unix.MSG_TRUNC != 0}
				d.cred, d.fds = ancillary(oob[:oobn])
			}
			return err != unix.EAGAIN
		}
	}
	if !r.socket.isFinishing() {
		// A deadline that wakes the read, or is there before it, is Finish's.
		rerr := r.socket.raw.Read(attempt)
		if !errors.Is(rerr, os.ErrDeadlineExceeded) {
			return d, errors.Join(rerr, err)
		}
	}
	if cerr := r.socket.raw.Control(func(fd uintptr) { attempt(fd) }); cerr != nil {
		return d, cerr
	}
	return d, err
}

// ancillary takes credentials and descriptors out of control messages.
func ancillary(oob []byte) (cred *unix.Ucred, fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, nil
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if c, err := unix.ParseUnixCredentials(m); err == nil {
				cred = c
			}
		case unix.SCM_RIGHTS:
			if list, err := unix.ParseUnixRights(m); err == nil {
				fds = append(fds, list...)
			}
		}
	}
	return cred, fds
}

// handle makes an event, or a barrier, of a datagram and closes its descriptors.
func (r *receiver) handle(d datagram, euid int) {
	keep := -1
	defer func() {
		for _, fd := range d.fds {
			if fd != keep {
				_ = unix.Close(fd)
			}
		}
	}()
	e := Event{At: proc.BootTime()}
	if d.cred != nil {
		e.From = int(d.cred.Pid)
	}
	refuse := func(reason string) { e.Refused = reason }
	var m Message
	var err error
	if d.cut {
		err = ErrTooLong
	} else {
		m, err = Parse(d.text)
	}
	switch {
	case e.From <= 0:
		refuse("the sender has no pid here")
	case int(d.cred.Uid) != euid:
		refuse("the sender runs as another uid")
	case err != nil:
		refuse(err.Error())
	case m.Barrier:
		// Whoever may dial the socket may wait for it: nothing is told or learned.
		if len(d.fds) == 1 {
			keep = d.fds[0]
			r.queue.add(item{release: func() { _ = unix.Close(keep) }})
			return
		}
		refuse("BARRIER=1 needs one descriptor")
	default:
		if reason := r.judge.sender(e.From); reason != "" {
			refuse(reason)
			break
		}
		if m == (Message{}) {
			return // nothing that we know
		}
		e.Message = m
		if m.MainPID == 0 {
			break
		}
		var reason string
		if e.Main, reason = r.judge.follow(m.MainPID, euid); reason != "" && e.Problem == "" {
			e.Problem = "MAINPID: " + reason
		}
	}
	r.queue.add(item{event: e})
}
