// Package proc handles processes by what they are, never by a bare pid.
//
// A pid is reused, means nothing in another pid namespace, and is all that
// many files hold. An [ID] adds what makes it unique: the start time, the boot
// and the pid namespace. A [Handle] is a process opened by its ID: on Linux a
// pidfd, through which a process is watched and signalled without any chance
// to meet its successor under the same number.
//
// Dead means that the process has ended, reaped or not: a zombie still has a
// pid, a start time and a pidfd, but on Linux its pidfd polls readable
// (pidfd_open(2)). The state letter in /proc is not asked: it says zombie
// for a living process whose main thread has ended.
//
// Usual calls:
//
//	h, err := proc.Open(id)          // ErrGone: it is over
//	defer h.Close()
//	err = h.Signal(syscall.SIGTERM)
//	err = h.Wait(ctx)                // nil: it is dead
//
// Linux ≥ 5.3 is served fully. On macOS and 64-bit FreeBSD a Handle is a pid
// whose start time is compared before each use, and death is polled for.
// Elsewhere [Self], [Of] and [Open] are [errors.ErrUnsupported].
package proc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrGone is the answer for a process that is dead, a zombie included, or
	// whose pid belongs to another process by now.
	ErrGone = errors.New("process is gone")

	// ErrElsewhere is the answer for an ID from another pid namespace of the
	// same boot. Its process may well live, its number says nothing here.
	ErrElsewhere = errors.New("process belongs to another pid namespace")

	// ErrUnproven is the answer for an ID that could not be made unique where it
	// was made: its number may be anybody's by now, and always was here.
	ErrUnproven = errors.New("process was recorded without its pid namespace or start time, so the pid may be another's")
)

// pollInterval is the time between two looks at a process where the kernel
// gives no event: short, because launches and stops wait for it.
const pollInterval = 50 * time.Millisecond

// ID names one process among all that ever ran on a machine. IDs are plain
// values, comparable, and made to be written into files.
//
// Start is the kernel's start time: on Linux clock ticks since boot, field 22
// of /proc/PID/stat (proc_pid_stat(5)), as seen from the reader's time
// namespace; on macOS and FreeBSD microseconds since 1970. Zero names no process.
//
// BootID and PIDNS are "" where unknown, and are not compared then; but on Linux
// no process is opened without a PIDNS, since its pid may be of any namespace.
type ID struct {
	PID    int
	Start  uint64
	BootID string // see BootID
	PIDNS  string // what /proc/self/ns/pid links to, such as "pid:[4026531836]"
}

// Self returns the calling process's ID. It blocks for a few reads of /proc.
// Errors are those of [Of] other than [ErrGone].
func Self() (ID, error) { return of(os.Getpid()) }

// PIDNamespace returns what is PIDNS of every ID that this process can tell, "" where
// the system has no such thing or does not say.
func PIDNamespace() string { return pidNamespace() }

// Of returns the ID of the process that has this pid now, which may be a
// zombie: only [Open] tells. Who learned the pid earlier has no proof that it
// is still the same process.
//
// It is [ErrGone] if there is no such process (or hidepid hides it), else an
// *[fs.PathError] or *[os.SyscallError]; [errors.ErrUnsupported] also where /proc
// shows another pid namespace than the caller's. Safe for concurrent use.
func Of(pid int) (ID, error) { return of(pid) }

// BootID returns what distinguishes this boot of the machine from all others,
// or "" where the system does not say: on Linux
// /proc/sys/kernel/random/boot_id (random(4)), which containers share with
// their host, on macOS kern.bootsessionuuid, on Windows the time of the boot, which
// a clock that is set later does not change. It is read once.
func BootID() string { return bootID() }

// BootTime returns the time since boot, that of a suspended machine included
// (Linux CLOCK_BOOTTIME, Windows GetTickCount64; plain CLOCK_MONOTONIC on
// other Unix systems). All processes of one boot and time namespace share it, so
// stamps of different processes compare; it never steps as the wall clock does.
// Where a system has none of these it is the wall clock, since 1970.
func BootTime() time.Duration { return bootTime() }

// SetName makes name, cut to 15 bytes, the one that ps(1), top(1) and
// /proc/PID/comm show for this process (not its arguments). Best effort and
// Linux only. It names the main thread, from whatever thread it is called:
// prctl(PR_SET_NAME) would name the calling one.
func SetName(name string) { setName(name) }

// Exit says how a process ended. The zero Exit is unknown.
type Exit struct {
	Known  bool
	Code   int            // exit status 0–255, if Signal is 0
	Signal syscall.Signal // the signal that ended it, or 0
	Core   bool           // with Signal: it left a core dump
}

// String returns "exit status 3", "signal: killed", "signal: aborted (core
// dumped)" or "unknown".
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "unknown"
	case e.Signal == 0:
		return "exit status " + strconv.Itoa(e.Code)
	case e.Core:
		return "signal: " + e.Signal.String() + " (core dumped)"
	default:
		return "signal: " + e.Signal.String()
	}
}

// Handle is an opened process. It stays that process for good: what is done
// through it never reaches another one (on macOS and FreeBSD, but for the instant
// between comparing and signalling).
//
// Whoever opened it closes it; that does nothing to the process. All methods
// are safe for concurrent use. Only Wait blocks.
type Handle struct {
	pid   int
	start uint64 // see ID, 0 if never asked for
	sys   handle // the system's part

	closed  chan struct{}  // closed by Close
	dead    chan struct{}  // closed by watch once the process is dead
	watcher sync.WaitGroup // watch

	mu       sync.Mutex // guards the fields below
	watching bool       // watch was started
	closing  bool       // no watch may start any more
	exit     Exit       // as reaped or as the kernel told, kept
}

// Open opens the process that id names and proves that it is the one: the
// handle is taken first and start time, boot and namespace are compared
// after, so no other process can slip in between.
//
// It is [ErrGone] if the process is dead, if the pid is another's by now, or if
// id is from another boot: IDs are for files that never leave the machine.
// It is [ErrElsewhere] for another pid namespace, [ErrUnproven] where it must be
// known and is not, [syscall.EINVAL] for an id without pid or
// start time, else as for [Of]. Only ErrGone means that the process is over.
func Open(id ID) (*Handle, error) {
	if id.PID <= 0 || id.Start == 0 {
		return nil, os.NewSyscallError("open process", syscall.EINVAL)
	}
	if boot := BootID(); id.BootID != "" && boot != "" && id.BootID != boot {
		return nil, ErrGone
	}
	return open(id)
}

func newHandle(pid int, start uint64, sys handle) *Handle {
	return &Handle{
		pid: pid, start: start, sys: sys,
		closed: make(chan struct{}), dead: make(chan struct{}),
	}
}

// PID returns the process's number, which after its end may be another's.
func (h *Handle) PID() int { return h.pid }

// Alive reports whether the process has not ended. It says true as long as
// there is no proof of the opposite, so also on a closed handle that did not
// see the end. One system call (poll(2) with timeout 0 on Linux).
func (h *Handle) Alive() bool {
	select {
	case <-h.dead:
		return false
	default:
		return !h.isDead()
	}
}

// Wait returns nil once the process is dead, and that at once if it is dead
// already. It returns ctx's error when ctx ends first, and [os.ErrClosed] when
// the handle is closed first.
//
// Any number of waiters share one goroutine that lives until the process ends
// or the handle is closed; on Linux it is parked on the pidfd in Go's poller
// and no thread is held.
func (h *Handle) Wait(ctx context.Context) error {
	if !h.Alive() {
		return nil
	}
	h.mu.Lock()
	if !h.watching && !h.closing {
		h.watching = true
		h.watcher.Go(h.watch)
	}
	h.mu.Unlock()
	var err error
	select {
	case <-h.dead:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-h.closed:
		err = os.ErrClosed
	}
	select {
	case <-h.dead: // select picks at random: the better news goes first
		return nil
	default:
		return err
	}
}

// watch closes dead when the process is, and ends with the handle.
func (h *Handle) watch() {
	if h.await() {
		close(h.dead)
		return
	}
	// No event to be had from the system.
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		select {
		case <-h.closed:
			return
		case <-t.C:
			if h.isDead() {
				close(h.dead)
				return
			}
		}
	}
}

// Signal sends sig to the process. It is [ErrGone] once that is dead, a zombie
// included although kill(2) would succeed, [os.ErrClosed] after Close, else an
// *[os.SyscallError] such as EPERM. nil says that the signal was sent, not
// that it did anything.
func (h *Handle) Signal(sig syscall.Signal) error {
	if !h.Alive() {
		return ErrGone
	}
	return h.signal(sig)
}

// Exit returns how the process ended, and whether it has ended at all. It
// takes nothing away from the process's parent. After the end the exit is
// known
//
//   - if this handle reaped it,
//   - if the process is our own child and not reaped yet (Linux: waitid(2) with WNOWAIT),
//   - or if it was reaped by whomever and the kernel tells holders of a pidfd
//     from before (Linux ≥ 6.15, PIDFD_GET_INFO with PIDFD_INFO_EXIT).
//
// Otherwise Known is false, for now: somebody else's child becomes known when
// its parent reaps it. On a closed handle it is what was known before.
func (h *Handle) Exit() (Exit, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exit.Known {
		return h.exit, true
	}
	if h.Alive() {
		return Exit{}, false
	}
	h.exit = h.peek()
	return h.exit, true
}

// Reap takes the exit status of the process, which must be a child of ours,
// from the kernel, so that it is no zombie any more. The boolean is false while
// it lives; Reap never blocks. Later calls return the same again.
//
// An error that is [syscall.ECHILD] says that it is no child of ours or that
// the host program took the status, by wait4(-1) or by ignoring SIGCHLD; [Handle.Exit]
// may still know it. Whoever reaps a child that was started through package os
// makes [os.Process.Wait] fail in the same way.
func (h *Handle) Reap() (Exit, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sys.reaped {
		return h.exit, true, nil
	}
	exit, ok, err := h.reap()
	if err != nil || !ok {
		return Exit{}, false, err
	}
	h.exit, h.sys.reaped = exit, true
	return exit, true, nil
}

// Close gives the handle back and ends every Wait with [os.ErrClosed]. It waits
// for the handle's goroutine, which does not block. Closing again is
// [os.ErrClosed].
func (h *Handle) Close() error {
	h.mu.Lock()
	if h.closing {
		h.mu.Unlock()
		return os.ErrClosed
	}
	h.closing = true
	h.mu.Unlock()
	close(h.closed)
	err := h.release()
	h.watcher.Wait()
	return err
}

func (h *Handle) isClosed() bool {
	select {
	case <-h.closed:
		return true
	default:
		return false
	}
}

// exitOf reads a wait status (wait(2)).
func exitOf(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Known: true, Signal: ws.Signal(), Core: ws.CoreDump()}
	}
	return Exit{Known: true, Code: ws.ExitStatus()}
}
