package broker

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// A daemon that hangs is seen from outside by a connection that stays in its queue.
// While nobody waits at the listener of one that serves nothing is done: the kernel
// tells of the first who does. From then on the queue is looked at now and then, by
// one timer for all services, until nobody waits; then the kernel is asked to tell
// again. So services that nobody uses cost no wake-up, and those that are used one
// or two a second, however many clients they have.

// watchState is what is done about the queue of a service's listener while a
// generation serves.
type watchState uint8

const (
	idle    watchState = iota
	armed              // the kernel tells when somebody waits
	waiting            // somebody did at the last look, or a moment ago
)

// stall is what was seen of a generation's queue. It belongs to the loop.
type stall struct {
	backlog.Stall
	began  time.Duration // boot-time clock when the kernel told of it
	at     time.Duration // of the next look
	asking bool          // the generation is asked what it does
	ours   *net.UnixConn // in the queue, if those at its front have left
}

// The times of looks.
const (
	// soon is when it is first worth while to ask a backend: it may have left its
	// queue to us, and whoever waits is waiting for the next one.
	soon = 20 * time.Millisecond

	minLook = 10 * time.Millisecond
	maxLook = time.Second
)

// every is the time between two looks at a service: a hang is seen no later than
// hang_after and two of these.
func (s *service) every() time.Duration {
	return min(max(s.Policy.HangAfter/4, minLook), maxLook)
}

// looks is when the next look is due, 0 if none is.
type looks struct{ at time.Duration }

// serving returns the generation whose queue tells something: it is ready, and has the
// listener that we have a copy of.
func (s *service) serving() *run {
	if s.held == nil || !s.machine.Listener || s.machine.State != supervise.Ready {
		return nil
	}
	return s.runs[s.machine.Run.Number]
}

// attend has the kernel tell of who waits, when that begins to matter.
func (b *Broker) attend(s *service) {
	switch r := s.serving(); {
	case r == nil:
		if s.queue == armed && !s.watched {
			_ = b.poll.Forget(s.held.Socket())
		}
		s.queue = idle
	case s.queue == idle && !s.watched && !b.blind:
		if b.poll.Watch(s.held.Socket(), s.key) == nil {
			s.queue = armed
		}
	}
}

// begun begins to look at the queue: the kernel has told that somebody waits.
func (b *Broker) begun(s *service) {
	r := s.serving()
	if r == nil || s.queue != armed {
		return
	}
	now := proc.BootTime()
	s.queue, r.used = waiting, now
	r.stall.Stall, r.stall.began, r.stall.at = backlog.Stall{}, now, now+s.every()
	if r.backend(s) {
		r.stall.at = now + min(soon, s.every())
	}
	s.seen(r, now)
	b.looks.at = earlier(b.looks.at, r.stall.at)
}

// seen looks at the queue, and reports whether somebody waits.
func (s *service) seen(r *run, now time.Duration) bool {
	list, err := backlog.Waiting(descriptor(s.held.Socket().FD()))
	if errors.Is(err, backlog.ErrTooLong) {
		r.stall.Stall = r.stall.Look(now, nil)
		return true
	}
	r.stall.Stall = r.stall.Look(now, list)
	if len(list) > 0 && list[0] == 0 && r.stall.ours == nil && r.stall.For(now) >= s.Policy.HangAfter/2 {
		// Of clients that have left one cannot be told from another, so the queue may
		// move and seem to stand still. A connection of ours shows what it does.
		s.join(r, now)
	}
	return len(list) > 0
}

// join puts a connection of ours into the queue, and begins anew. If there is no
// place left nobody else gets in either, and what was seen has to do.
func (s *service) join(r *run, now time.Duration) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	conn, reach, _ := endpoint.Connect(ctx, s.held.Place.Sock())
	if reach != endpoint.Reached {
		return
	}
	ours, ok := any(conn).(*net.UnixConn)
	if !ok { // a pipe, whose queue shows nothing
		_ = conn.Close()
		return
	}
	r.stall.ours = ours
	r.unaccepted(ours)
	if list, err := backlog.Waiting(descriptor(s.held.Socket().FD())); err == nil {
		r.stall.Stall = backlog.Stall{}.Look(now, list)
	}
}

// accepted reports whether our connection was.
func (s stall) accepted() (bool, error) {
	if s.ours == nil {
		return false, nil
	}
	return backlog.Accepted(s.ours)
}

// part takes our connection back.
func (r *run) part() {
	if r.stall.ours == nil {
		return
	}
	r.mu.Lock()
	r.ours = slices.DeleteFunc(r.ours, func(c *net.UnixConn) bool { return c == r.stall.ours })
	r.mu.Unlock()
	_ = r.stall.ours.Close()
	r.stall.ours = nil
}

// look looks at the queues that are due, and sets the time of the next look.
func (b *Broker) look(now time.Duration) {
	if b.looks.at == 0 || b.looks.at > now {
		return
	}
	b.looks.at = 0
	for _, s := range b.services {
		if s.queue != waiting {
			continue
		}
		r := s.serving()
		if r == nil {
			s.queue = idle
			continue
		}
		if r.stall.at <= now {
			b.lookAt(s, r, now)
		}
		if s.queue == waiting {
			b.looks.at = earlier(b.looks.at, r.stall.at)
		}
	}
}

func (b *Broker) lookAt(s *service, r *run, now time.Duration) {
	waits := s.seen(r, now)
	r.stall.at = now + s.every()
	if accepted, err := r.stall.accepted(); accepted || err != nil {
		r.part()
	}
	switch {
	case !waits && now >= r.stall.began+s.every():
		s.queue = idle
		b.attend(s)
	case !waits: // not more often, however many come and go
		r.stall.at = r.stall.began + s.every()
	case r.stall.For(now) == 0 || r.stall.asking:
	case r.backend(s):
		b.ask(s, r)
	case r.stall.For(now) >= s.Policy.HangAfter:
		b.next(s, supervise.Unaccepted{Number: r.number, For: r.stall.For(now)})
	}
}

// ask asks a backend in whose queue somebody is left what it does: it may be busy,
// or have left the queue to the next one.
func (b *Broker) ask(s *service, r *run) {
	r.stall.asking = true
	b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
		id, err := launch.Identify(ctx, r.place, r.entry)
		return func(s *service) supervise.Event {
			r.stall.asking = false
			now := proc.BootTime()
			switch {
			case err == nil && id.Phase == control.Draining:
				return supervise.Leaving{Number: r.number}
			case r.stall.For(now) >= s.Policy.HangAfter:
				return supervise.Unaccepted{Number: r.number, For: r.stall.For(now), Answers: err == nil}
			}
			return nil
		}
	})
}

// A descriptor is a socket that somebody else owns, and keeps open meanwhile.
type descriptor int

// SyscallConn implements [syscall.Conn].
func (d descriptor) SyscallConn() (syscall.RawConn, error) { return d, nil }

// Control implements [syscall.RawConn].
func (d descriptor) Control(f func(fd uintptr)) error {
	f(uintptr(d))
	return nil
}

func (d descriptor) Read(func(fd uintptr) bool) error  { return errors.ErrUnsupported }
func (d descriptor) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }
