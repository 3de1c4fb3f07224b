package notify

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/fastbind/fastbind/internal/proc"
)

// A datagram is a message as the kernel gives it. Its descriptors, close-on-exec,
// are the receiver's.
type datagram struct {
	text []byte
	cut  bool // there was more text
	pid  int  // of the sender, 0 if it has none in our pid namespace
	uid  int
	fds  []int
}

// A receiver turns datagrams into events. It belongs to one goroutine.
type receiver struct {
	socket *Socket
	queue  *queue
	judge  judge
}

// run receives until the socket is closed, or, if it is finishing, until nothing
// is left. The error is nil in these cases.
func (r *receiver) run() error {
	text, oob := make([]byte, MaxMessage), make([]byte, oobLen)
	euid := os.Geteuid()
	for r.queue.waitRoom(r.socket.stop) {
		d, err := r.receive(text, oob)
		switch {
		case errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return os.NewSyscallError("recvmsg", err)
		}
		r.handle(d, euid)
	}
	return nil
}

// receive waits for a datagram. After Finish it does not wait, EAGAIN says that
// there is none.
func (r *receiver) receive(text, oob []byte) (d datagram, err error) {
	attempt := func(fd uintptr) bool {
		d, err = receiveMessage(fd, text, oob)
		return err != syscall.EAGAIN
	}
	// After Finish there is a deadline, and Read does not even try.
	if rerr := r.socket.raw.Read(attempt); rerr == nil || !errors.Is(rerr, os.ErrDeadlineExceeded) {
		return d, errors.Join(rerr, err)
	}
	if cerr := r.socket.raw.Control(func(fd uintptr) { attempt(fd) }); cerr != nil {
		return d, cerr
	}
	return d, err
}

// handle makes an event, or a barrier, of a datagram and closes its descriptors.
func (r *receiver) handle(d datagram, euid int) {
	e, isBarrier := r.event(d, euid)
	if isBarrier {
		// Whoever may dial the socket may wait for it: nothing is told or learned.
		r.queue.add(item{release: func() { closeFD(d.fds[0]) }})
		return
	}
	for _, fd := range d.fds {
		closeFD(fd)
	}
	if e.Refused != "" || e.Message != (Message{}) { // else it says nothing that we know
		r.queue.add(item{event: e})
	}
}

// event says what a datagram means, or that it is a barrier with its one
// descriptor.
func (r *receiver) event(d datagram, euid int) (e Event, isBarrier bool) {
	e = Event{At: proc.BootTime(), From: d.pid}
	if d.pid <= 0 {
		e.Refused = "the sender has no pid here"
		return e, false
	}
	if d.uid != euid {
		e.Refused = "the sender runs as another uid"
		return e, false
	}
	m, err := d.parse()
	switch {
	case err != nil:
		e.Refused = err.Error()
	case m.Barrier && len(d.fds) != 1:
		e.Refused = "BARRIER=1 needs one descriptor"
	case m.Barrier:
		return e, true
	default:
		e.Refused = r.judge.sender(d.pid)
	}
	if e.Refused != "" {
		return e, false
	}
	e.Message = m
	if m.MainPID != 0 {
		var reason string
		if e.Main, reason = r.judge.follow(m.MainPID, euid); reason != "" && e.Problem == "" {
			e.Problem = "MAINPID: " + reason
		}
	}
	return e, false
}

func (d datagram) parse() (Message, error) {
	if d.cut {
		return Message{}, ErrTooLong
	}
	return Parse(d.text)
}
