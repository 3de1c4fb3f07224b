package notify

import (
	"context"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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

// receiveMessage is recvmsg(2) without waiting; EAGAIN says that there is nothing.
func receiveMessage(fd uintptr, text, oob []byte) (datagram, error) {
	for {
		n, oobn, flags, _, err := unix.Recvmsg(int(fd), text, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return datagram{}, err
		}
		d := datagram{text: text[:n], cut: flags&unix.MSG_TRUNC != 0}
		d.ancillary(oob[:oobn])
		return d, nil
	}
}

// ancillary takes credentials and descriptors out of control messages.
func (d *datagram) ancillary(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Level != unix.SOL_SOCKET {
			continue
		}
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if c, err := unix.ParseUnixCredentials(m); err == nil {
				d.pid, d.uid = int(c.Pid), int(c.Uid)
			}
		case unix.SCM_RIGHTS:
			if fds, err := unix.ParseUnixRights(m); err == nil {
				d.fds = append(d.fds, fds...)
			}
		}
	}
}

func closeFD(fd int) { _ = unix.Close(fd) }
