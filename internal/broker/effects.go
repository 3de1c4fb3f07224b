package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// do does one effect. What takes longer than a system call is begun and answered
// later.
func (b *Broker) do(s *service, e supervise.Effect) {
	switch e := e.(type) {
	case supervise.Bind:
		bound := b.counted(s)
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			defer bound()
			return b.bind(ctx, s.launch)
		})
	case supervise.Launch:
		held := s.held
		b.beginBound(s, func(ctx context.Context) func(*service) supervise.Event { return b.activate(ctx, s.launch, held) })
	case supervise.Succeed:
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event { return b.succeed(ctx, s.launch, e.Number) })
	case supervise.CancelSuccessor:
		// A successor that is late is ended with the generation that it was to
		// succeed, or takes over, which is told then.
	case supervise.Drain:
		if r := s.runs[e.Number]; r != nil && r.known() == nil {
			_ = launch.AskToEnd(r.entry, r.handle)
		}
	case supervise.Capture:
		b.capture(s, e)
	case supervise.Kill:
		b.kill(s, e)
	case supervise.Refuse:
		b.unwatch(s)
		if s.held != nil {
			_ = s.held.Shut()
		}
		b.release(s)
	case supervise.Release, supervise.HandOn:
		b.unwatch(s)
		b.release(s)
	case supervise.Forget:
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			_, _ = s.launch.Reset(ctx)
			return func(*service) supervise.Event { return nil }
		})
	case supervise.Watch:
		b.watch(s, e.On)
	case supervise.SetTimer:
		b.schedule.Set(s.Definition.Service, e.At)
	case supervise.Answer:
		if c := b.requests[e.ID]; c != nil {
			delete(b.requests, e.ID)
			c <- e // it has room for the one answer
		}
	case supervise.Note:
		s.note(journal.Event{Kind: string(e.Kind), Generation: e.Number, Reason: e.Reason})
	}
}

func (b *Broker) watch(s *service, on bool) {
	if !on {
		b.unwatch(s)
		return
	}
	if s.held == nil {
		return
	}
	for _, sock := range s.held.Sockets() {
		s.watched = b.poll.Watch(sock.FD(), s.key) == nil || s.watched
	}
}

func (b *Broker) unwatch(s *service) {
	if s.watched && s.held != nil {
		for _, sock := range s.held.Sockets() {
			_ = b.poll.Forget(sock.FD())
		}
	}
	s.watched = false
}

// release closes our copy of the listener.
func (b *Broker) release(s *service) {
	if s.held != nil {
		_ = s.held.Close()
		s.held = nil
	}
}

// keep makes h what we hold; nil changes nothing.
func (b *Broker) keep(s *service, h *launch.Holding) {
	if h == nil {
		return
	}
	b.unwatch(s)
	b.release(s)
	s.held = h
}

// boundWithin is how long a launch waits for the endpoints of others: a daemon that
// needs another service is to find it whatever the order is (see counted). One that
// cannot be bound, or is not handed over, makes nobody wait for longer.
const boundWithin = 2 * time.Second

// counted counts an endpoint that is about to be bound, if it is one of a set, until
// the returned function is called or the service is no more.
func (b *Broker) counted(s *service) (bound func()) {
	if b.binding == nil {
		return func() {}
	}
	b.binding.Add(1)
	bound = sync.OnceFunc(b.binding.Done)
	context.AfterFunc(s.ctx, bound)
	return bound
}

// bind holds the endpoint, or gets a copy of the listener of who serves there.
func (b *Broker) bind(ctx context.Context, l *launch.Broker) func(*service) supervise.Event {
	out, err := l.Hold(ctx, b.config.Holder)
	if err != nil {
		return failedTo(supervise.BindFailed{Reason: err.Error()})
	}
	if out.Held != nil {
		return func(s *service) supervise.Event {
			b.keep(s, out.Held)
			return supervise.Bound{}
		}
	}
	return b.adopt(ctx, l, out.Place)
}

func failedTo(e supervise.Event) func(*service) supervise.Event {
	return func(*service) supervise.Event { return e }
}

var errUnknown = errors.New("somebody accepts at the endpoint, and no living generation is on record")

// adopt finds out who serves, and gets a copy of its listener if it can hand it over.
func (b *Broker) adopt(ctx context.Context, l *launch.Broker, place runtimedir.Place) func(*service) supervise.Event {
	entries, err := launch.Generations(place.Dir)
	e, ok := launch.Current(place.Dir, entries)
	if err != nil || !ok || !e.Alive {
		return failedTo(supervise.BindFailed{Reason: errUnknown.Error()})
	}
	handle, err := e.Open()
	if err != nil {
		return failedTo(supervise.BindFailed{Reason: err.Error()})
	}
	r := &run{place: place, entry: e, handle: handle, found: true}
	backend := e.Record.Backend || !e.Record.Definition.Foreign
	event := supervise.Adopted{Run: supervise.Run{Number: e.Number, Backend: backend, Ready: e.Record.WasReady}}
	var held *launch.Holding
	if backend {
		actx, cancel := context.WithTimeout(ctx, adoptWithin)
		held, r.hold, err = l.Adopt(actx, place, e, b.config.Holder)
		cancel()
		event.Listener = err == nil
	}
	return func(s *service) supervise.Event {
		b.keep(s, held)
		b.follow(s, r)
		return event
	}
}

// adoptWithin bounds the wait for a daemon to hand its listener over. Its control
// endpoint answers whatever it does, unless it is stopped.
const adoptWithin = 5 * time.Second

// activate launches a generation with the held listener.
func (b *Broker) activate(ctx context.Context, l *launch.Broker, held *launch.Holding) func(*service) supervise.Event {
	out, err := l.Activate(ctx, held)
	if err != nil {
		failed := supervise.LaunchFailed{Reason: err.Error()}
		if f, ok := errors.AsType[*launch.Fault](err); ok {
			failed.Died = f.Generation != 0
			if !f.RetryAt.IsZero() {
				failed.Retry = proc.BootTime() + time.Until(f.RetryAt)
			}
		}
		return failedTo(failed)
	}
	if out.Launched == nil {
		return b.adopt(ctx, l, out.Place)
	}
	return func(s *service) supervise.Event {
		b.keep(s, out.Held)
		r := &run{place: out.Place, launched: out.Launched}
		r.entry = launch.Entry{Name: nameOf(out.Launched.Dir), Dir: out.Launched.Dir, Number: out.Launched.Number, Alive: true}
		b.follow(s, r)
		return supervise.Launched{Number: out.Launched.Number, Backend: !s.Definition.Foreign}
	}
}

// succeed has a successor take over from the generation that serves.
func (b *Broker) succeed(ctx context.Context, l *launch.Broker, number uint64) func(*service) supervise.Event {
	if err := l.Replace(ctx); err != nil {
		return failedTo(supervise.SuccessorFailed{Number: number, Reason: err.Error()})
	}
	return func(s *service) supervise.Event {
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			return b.succeeded(ctx, s, number)
		})
		return nil
	}
}

func (b *Broker) succeeded(ctx context.Context, s *service, number uint64) func(*service) supervise.Event {
	var dir runtimedir.Place
	if s.held != nil {
		dir = s.held.Place
	}
	adopted := b.adopt(ctx, s.launch, dir)
	return func(s *service) supervise.Event {
		if a, ok := adopted(s).(supervise.Adopted); ok {
			return supervise.Succeeded{Number: number, Run: a.Run}
		}
		return supervise.SuccessorFailed{Number: number, Reason: errUnknown.Error()}
	}
}

// capture writes evidence of a hang.
func (b *Broker) capture(s *service, e supervise.Capture) {
	r := s.runs[e.Number]
	if r == nil || r.known() != nil {
		b.begin(s, func(context.Context) func(*service) supervise.Event {
			return failedTo(supervise.Captured{Number: e.Number})
		})
		return
	}
	entry, handle, place := r.entry, r.handle, r.place
	b.begin(s, func(context.Context) func(*service) supervise.Event {
		s.launch.Capture(place, entry, handle, errors.New(string(e.Cause)))
		st, err := handle.State()
		return failedTo(supervise.Captured{Number: e.Number, Debugged: err == nil && st.Tracer != 0})
	})
}

// kill kills a generation, and says on record for what.
func (b *Broker) kill(s *service, e supervise.Kill) {
	r := s.runs[e.Number]
	if r == nil || r.known() != nil {
		return
	}
	var why *launch.Fault
	if e.Cause != supervise.CauseStop {
		why = &launch.Fault{Class: launch.LaunchFailed, Stage: launch.StageLoad, Err: errors.New(string(e.Cause))}
		if r.entry.Record.WasReady {
			why.Class, why.Stage = launch.Hung, launch.StageServe
		}
	}
	_ = s.launch.KillGeneration(r.entry, r.handle, why)
}
