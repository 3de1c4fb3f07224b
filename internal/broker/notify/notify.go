// Package notify is the receiving end of NOTIFY_SOCKET, sd_notify(3): it hears
// what a foreign daemon says of itself, makes sure that the daemon is who says it,
// and reports it. It decides nothing: what a missed pulse or a STOPPING means is
// the broker's business.
//
// One [Socket] serves one generation. It is bound before the daemon exists, so
// that its path can be in the daemon's environment, and receives when the daemon
// is known; what comes between waits in the kernel.
//
//	s, err := notify.Bind(filepath.Join(genDir, notify.FileName))
//	env = append(env, s.Variables(watchdog)...)
//	… fork …
//	for e := range s.Receive(notify.Generation{Main: id}, def.NotifyAccess) { … }
//	s.Close()
//
// # Who is believed
//
// The kernel attaches the sender's pid and uid to each message (SCM_CREDENTIALS,
// unix(7)), and the name is closed to other users. Only a message of a process
// counts whose uid (the real one is attached) is our own effective uid, and only if it
// comes from the generation: with access "main" from the main process alone, with
// "all" from any of the generation's processes. Of that there are three proofs,
// each enough:
//
//   - its cgroup is the generation's, where the generation has one. That is exact.
//   - its session is the one that the main process leads, as the broker has
//     started it. Children stay in it unless they call setsid(2).
//   - the main process is its parent, or its parent's, at most 32 steps up.
//
// Without a cgroup a child that leaves the session and loses its parents is no
// longer known, and its messages are refused. All but the comparison with the
// main process is read in /proc when the message is received: a process that has
// ended by then has no proof. sd_notify_barrier(3) and systemd-notify(1) wait for
// that. A process that may forge credentials, root's, speaks for whom it likes:
// systemd-notify(1) does so for its parent.
//
// MAINPID= is followed only to a living process of our uid that belongs to the
// generation by the same proofs, whatever the access, and is reported with what
// makes it unique.
//
// # Bounds
//
// A message has at most 4096 bytes and is refused if it is longer. Of the
// descriptors that come along at most 4 are taken from the kernel; all are
// closed at once, but for that of BARRIER=1, which is closed when the receiver
// has taken everything before it. There is no descriptor store. At most 64 events
// wait for the receiver, status texts and pulses merged while they do; beyond that
// nothing is read, the kernel's queue fills (net.unix.max_dgram_qlen messages) and
// the sender waits. No message that counts is lost.
//
// Only Linux has all of this; elsewhere Bind is [errors.ErrUnsupported].
package notify

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
)

// FileName is the socket's name in a generation's directory. It is no longer
// than that of the control endpoint, for which the directory's name, or its
// alias, leaves room in a socket address (package runtimedir).
const FileName = "msg"

// Access says whose messages count.
type Access string

// The accesses, as in a definition's notify_access.
const (
	AccessMain Access = "main" // the main process's; "" means the same
	AccessAll  Access = "all"  // those of any process of the generation
)

// Check returns a *definition.Invalid error for an access that there is not.
func (a Access) Check() error {
	if a != "" && a != AccessMain && a != AccessAll {
		return &definition.Invalid{Field: "notify_access", Value: string(a), Reason: `use "main" or "all"`}
	}
	return nil
}

// A Generation is whose messages a Socket receives.
type Generation struct {
	// Main is its main process, which leads a session of its own.
	Main proc.ID

	// Cgroup is the path of its cgroup below the unified hierarchy's root, as
	// /proc/PID/cgroup has it, "" if it shares its cgroup with others.
	Cgroup string
}

// An Event is a message that was received, or several merged into one.
type Event struct {
	Message // zero if it was refused

	At   time.Duration // when it was received, of the boot-time clock; the last one if merged
	From int           // the sender's pid, as the kernel vouches; 0 if unknown

	// Main is the main process from now on, if the message has a MAINPID that can be
	// believed. If it cannot, Problem says why, unless there was a problem before.
	Main proc.ID

	// Refused says why the message does not count, "" if it does.
	Refused string

	// Merged is how many further messages the event stands for: pulses and status
	// texts, of which the last counts, or refusals.
	Merged int
}

// maxPending bounds the events and barriers that wait for the receiver.
const maxPending = 64

// A Socket is a bound notify socket. Who bound it closes it. All methods are safe
// for concurrent use.
type Socket struct {
	path string
	name fs.FileInfo // what is at the path while it is this socket's
	conn *net.UnixConn
	raw  syscall.RawConn

	stop   chan struct{} // closed by Close
	events chan Event    // closed by deliver, or by Close if nothing was received
	work   sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	received bool
	closed   bool
	err      error
}

// Bind makes a socket at path, with mode 0600 whatever the umask is, and takes
// the place of one that a killed broker left there: libsystemd and most others dial
// the name for each message, so a new broker goes on hearing the daemons that it
// finds; one that dialled once and keeps that is heard no more. The caller holds
// what makes it the only one to bind there.
//
// The path is what the daemon will dial. It must be absolute, and fit into a
// socket address, 107 bytes: a directory with a longer name needs an alias. Errors
// are *[fs.PathError]: [syscall.ENAMETOOLONG] for a path that does not fit,
// [syscall.EADDRINUSE] for a name that is no socket, which is left alone.
func Bind(path string) (*Socket, error) {
	if !filepath.IsAbs(path) {
		return nil, &fs.PathError{Op: "bind", Path: path, Err: syscall.EINVAL}
	}
	conn, err := bind(path)
	if err != nil {
		return nil, &fs.PathError{Op: "bind", Path: path, Err: cause(err)}
	}
	return newSocket(path, conn)
}

// Adopt makes a Socket of a copy of another's descriptor, which it takes over
// whatever it returns: a broker that becomes another program by exec loses no
// message that way. The former Socket must not be closed, for that would remove
// the name.
func Adopt(path string, f *os.File) (*Socket, error) {
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, &fs.PathError{Op: "adopt", Path: path, Err: cause(err)}
	}
	conn, ok := c.(*net.UnixConn)
	if !ok || conn.LocalAddr().Network() != "unixgram" {
		return nil, &fs.PathError{Op: "adopt", Path: path, Err: errors.Join(syscall.EPROTOTYPE, c.Close())}
	}
	if err := passCredentials(conn); err != nil {
		return nil, &fs.PathError{Op: "adopt", Path: path, Err: errors.Join(err, conn.Close())}
	}
	return newSocket(path, conn)
}

func newSocket(path string, conn *net.UnixConn) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	name, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Socket{path: path, name: name, conn: conn, raw: raw, stop: make(chan struct{}), events: make(chan Event)}, nil
}

// cause takes what the caller says itself off an error of package net.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// File returns a copy of the socket's descriptor for Adopt, close-on-exec. It is
// the caller's.
func (s *Socket) File() (*os.File, error) { return s.conn.File() }

// Variables returns what the daemon has to have in its environment: NOTIFY_SOCKET,
// and with a watchdog WATCHDOG_USEC, within which it has to send a pulse.
//
// WATCHDOG_PID is missing, which says whom of all who inherit these variables the
// watchdog is meant for: it is the daemon's own pid, which only the daemon's
// process knows before exec. The trampoline that sets LISTEN_PID sets it.
func (s *Socket) Variables(watchdog time.Duration) []string {
	env := []string{"NOTIFY_SOCKET=" + s.path}
	if watchdog > 0 {
		// At least one microsecond: 0 would mean that there is no watchdog.
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(max(1, watchdog.Microseconds()), 10))
	}
	return env
}

// Receive begins to receive from the generation. The channel is unbuffered; it is
// closed after Close, after Finish when all has been taken, and if the
// system fails, which Err tells. Receive is called once.
//
// When the main process has ended, the caller finishes or closes the Socket:
// the number may be another process's then.
func (s *Socket) Receive(g Generation, access Access) <-chan Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.received {
		panic("notify: Receive is called twice")
	}
	s.received = true
	if s.closed {
		return s.events
	}
	q := newQueue()
	r := &receiver{socket: s, queue: q, judge: judge{generation: g, main: g.Main, all: access == AccessAll}}
	s.work.Go(func() {
		err := r.run()
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		q.end()
	})
	s.work.Go(func() {
		defer close(s.events)
		q.deliver(s.events, s.stop)
	})
	return s.events
}

// Finish ends the reception after what has been sent by now: a daemon may say why
// it ends and end, before anybody has read that. The caller goes on to take events
// until the channel is closed.
func (s *Socket) Finish() {
	// From now on a read that would wait ends with the deadline; the receiver
	// knows no other one.
	_ = s.conn.SetReadDeadline(time.Unix(0, 1))
}

// Err returns why the reception ended by itself, nil if it did not.
func (s *Socket) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the reception, drops what was not taken, closes the descriptors of
// barriers, removes the name unless another socket has it by now, and waits for the Socket's goroutines, which do not
// block. Closing again is [net.ErrClosed].
func (s *Socket) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closed = true
	received := s.received
	s.mu.Unlock()
	close(s.stop)
	err := s.conn.Close()
	s.work.Wait()
	if !received {
		close(s.events)
	}
	if now, lerr := os.Lstat(s.path); lerr == nil && os.SameFile(s.name, now) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
