package backlog

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// From linux/unix_diag.h and linux/netlink.h; x/sys has no unix_diag.
const (
	showPeer  = 0x04 // UDIAG_SHOW_PEER
	showIcons = 0x08 // UDIAG_SHOW_ICONS: the pending connections
	showRqlen = 0x10 // UDIAG_SHOW_RQLEN

	attrPeer  = 2 // UNIX_DIAG_PEER: the peer's inode, 0 before it is accepted
	attrIcons = 3 // UNIX_DIAG_ICONS
	attrRqlen = 4 // UNIX_DIAG_RQLEN: of a listener, queue length and backlog

	attrMask = 0x3fff // NLA_TYPE_MASK: the rest are flags

	stateListen = 10         // TCP_LISTEN
	anyCookie   = ^uint32(0) // no cookie is compared

	requestLen = unix.SizeofNlMsghdr + 24 // struct unix_diag_req
	messageLen = 16                       // struct unix_diag_msg, attributes follow
	inodeAt    = 4
)

// bufferLen is what one part of an answer may have. The kernel makes parts as
// long as the longest buffer that it has filled before, but no longer than this
// (netlink_recvmsg in af_netlink.c).
const bufferLen = 32 << 10

// A found socket is one answer.
type found struct {
	inode Inode
	state uint8
	attrs []byte
}

func (f found) attr(kind uint16) ([]byte, bool) {
	for b := f.attrs; len(b) >= unix.SizeofNlAttr; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:])&attrMask == kind {
			return b[unix.SizeofNlAttr:n], true
		}
		b = b[min(len(b), align(n)):]
	}
	return nil, false
}

func (f found) queue() (Queue, error) {
	b, ok := f.attr(attrRqlen)
	if f.state != stateListen || !ok || len(b) < 8 {
		return Queue{}, ErrNotListening
	}
	return Queue{
		Pending: int(binary.NativeEndian.Uint32(b)),
		Limit:   int(binary.NativeEndian.Uint32(b[4:])),
	}, nil
}

func (f found) waiting() ([]Inode, error) {
	if f.state != stateListen {
		return nil, ErrNotListening
	}
	b, _ := f.attr(attrIcons) // an empty queue has none
	list := make([]Inode, 0, len(b)/4)
	for ; len(b) >= 4; b = b[4:] {
		list = append(list, Inode(binary.NativeEndian.Uint32(b)))
	}
	return list, nil
}

func inodeOf(c syscall.Conn) (Inode, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.Fstat(int(fd), &st) }); err != nil {
		return 0, err
	}
	if serr == nil && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		serr = unix.ENOTSOCK
	}
	return Inode(st.Ino), os.NewSyscallError("fstat", serr)
}

func of(c syscall.Conn) (Queue, error) {
	var q Queue
	err := about(c, showRqlen, func(f found) (err error) {
		q, err = f.queue()
		return err
	})
	return q, err
}

func accepted(c syscall.Conn) (bool, error) {
	var yes bool
	err := about(c, showPeer, func(f found) error {
		// The peer exists from the connect on, and has an inode when accept(2)
		// gives it a descriptor (sk_diag_dump_peer, unix_accept).
		b, ok := f.attr(attrPeer)
		yes = ok && len(b) >= 4 && binary.NativeEndian.Uint32(b) != 0
		return nil
	})
	return yes, err
}

func dump() (map[Inode]Queue, error) {
	d, err := open()
	if err != nil {
		return nil, err
	}
	defer d.close()
	queues := map[Inode]Queue{}
	err = d.ask(0, showRqlen, func(f found) error {
		if q, err := f.queue(); err == nil {
			queues[f.inode] = q
		}
		return nil
	})
	return queues, err
}

// waiting asks about the one socket, whose answer has room for a page
// (unix_diag_get_exact), about a thousand connections; and if that is too small
// about all sockets, whose answer comes in parts of eight times as much. The
// kernel ends that one, without a word, at a socket that does not fit into a
// part, so a socket that is not met was too long, or came after such.
func waiting(c syscall.Conn) (list []Inode, err error) {
	inode, err := inodeOf(c)
	if err != nil {
		return nil, err
	}
	d, err := open()
	if err != nil {
		return nil, err
	}
	defer d.close()
	met := false
	take := func(f found) error {
		if f.inode != inode {
			return nil
		}
		met = true
		list, err = f.waiting()
		return err
	}
	err = d.ask(inode, showIcons, take)
	if errors.Is(err, unix.EMSGSIZE) {
		err = d.ask(0, showIcons, take)
	}
	if err == nil && !met {
		err = ErrTooLong
	}
	return list, err
}

// about asks about one open socket.
func about(c syscall.Conn, show uint32, answer func(found) error) error {
	inode, err := inodeOf(c)
	if err != nil {
		return err
	}
	d, err := open()
	if err != nil {
		return err
	}
	defer d.close()
	return d.ask(inode, show, answer)
}

// A diag is a socket to the kernel, for one question after the other.
type diag struct {
	fd  int
	buf []byte
}

func open() (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &diag{fd: fd, buf: make([]byte, bufferLen)}, nil
}

func (d *diag) close() { _ = unix.Close(d.fd) }

// ask asks about one socket, or with inode 0 about all that listen. Nothing
// waits: the kernel has written its answer, or the first part of it, when the
// question was sent, and writes the next part when one is read.
func (d *diag) ask(inode Inode, show uint32, answer func(found) error) error {
	if err := unix.Sendto(d.fd, request(inode, show), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := answers(d.buf[:n], inode == 0, answer)
		if done || err != nil {
			return err
		}
	}
}

func request(inode Inode, show uint32) []byte {
	flags, states := uint16(unix.NLM_F_REQUEST), ^uint32(0)
	if inode == 0 {
		flags, states = flags|unix.NLM_F_DUMP, 1<<stateListen
	}
	e := binary.NativeEndian
	b := e.AppendUint32(nil, requestLen)
	b = e.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = e.AppendUint16(b, flags)
	b = e.AppendUint32(b, 1) // sequence
	b = e.AppendUint32(b, 0) // port: the kernel
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	for _, v := range []uint32{states, uint32(inode), show, anyCookie, anyCookie} {
		b = e.AppendUint32(b, v)
	}
	return b
}

var errAnswer = errors.New("not the format of sock_diag(7)")

// answers hands on what one datagram of the kernel's says, and reports whether
// it was the last.
func answers(b []byte, many bool, answer func(found) error) (done bool, err error) {
	e := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(e.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return true, errAnswer
		}
		kind, body := e.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n]
		b = b[min(len(b), align(n)):]
		switch {
		case kind == unix.NLMSG_ERROR || kind == unix.NLMSG_DONE:
			if len(body) >= 4 {
				if errno := -int32(e.Uint32(body)); errno > 0 {
					return true, os.NewSyscallError("sock_diag", syscall.Errno(errno))
				}
			}
			return true, nil
		case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < messageLen:
			return true, errAnswer
		}
		err := answer(found{inode: Inode(e.Uint32(body[inodeAt:])), state: body[2], attrs: body[messageLen:]})
		if err != nil || !many {
			return true, err
		}
	}
	return false, nil
}

func align(n int) int { return (n + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1) }
