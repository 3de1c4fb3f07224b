package broker

import (
	"context"
	"errors"
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
		l := s.launch // the loop's, which may change it
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event { return b.bind(ctx, l) })
	case supervise.Launch:
		l, held := s.launch, s.held
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event { return b.activate(ctx, l, held) })
	case supervise.Succeed:
		l := s.launch
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event { return b.succeed(ctx, l, e.Number) })
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
			_ = s.held.Socket().Shut()
		}
		b.release(s)
	case supervise.Release, supervise.HandOn:
		if s.old == nil {
			b.unwatch(s)
		}
		b.release(s)
	case supervise.Forget:
		l := s.launch
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			_, _ = l.Reset(ctx)
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
	if s.held != nil && b.poll.Watch(s.held.Socket().FD(), s.key) == nil {
		s.watched = true
	}
}

func (b *Broker) unwatch(s *service) {
	if s.watched && s.held != nil {
		_ = b.poll.Forget(s.held.Socket().FD())
	}
	s.watched = false
}

// release closes the copy of the listener that we had before the event: not the one
// that it has brought.
func (b *Broker) release(s *service) {
	if s.old == nil {
		s.old, s.held = s.held, nil
	}
	if s.old != nil {
		_ = s.old.Close()
		s.old = nil
	}
}

// keep makes h the copy that we have, from the event on that it has come with.
func (b *Broker) keep(s *service, h *launch.Holding) {
	if h == nil {
		return
	}
	b.unwatch(s)
	s.old, s.held = s.held, h
	b.watchNames(s)
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
	ctx, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	for {
		entries, err := launch.Generations(place.Dir)
		e, ok := launch.Serving(place.Dir, entries)
		if err != nil || !ok {
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
			// A broker that was killed a moment ago is the holder until the daemon has
			// seen its end, and a successor may be taking over: look again.
			if held, r.hold, err = l.Adopt(ctx, place, e, b.config.Holder); err != nil && again(ctx) {
				_ = handle.Close()
				continue
			}
			event.Listener = err == nil
		}
		return func(s *service) supervise.Event {
			b.keep(s, held)
			b.follow(s, r)
			return event
		}
	}
}

// again waits before an attempt is repeated, and reports whether there is time for it.
func again(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(askAgain):
		return true
	}
}

// adoptWithin bounds the wait for a daemon to hand its listener over. Its control
// endpoint answers whatever it does, unless it is stopped.
const adoptWithin = 5 * time.Second

// activate launches a generation with the held listener.
func (b *Broker) activate(ctx context.Context, l *launch.Broker, held *launch.Holding) func(*service) supervise.Event {
	within, cancel := context.WithTimeout(ctx, launchWithin)
	out, err := l.Activate(within, held)
	cancel()
	if err != nil {
		failed := supervise.LaunchFailed{Reason: err.Error()}
		if f, ok := errors.AsType[*launch.Fault](err); ok {
			if failed.Died = f.Generation != 0; !failed.Died && f.Class == launch.LaunchFailed {
				b.deny(ctx, l, held, f) // it came to no generation whose record would say so
			}
			if !f.RetryAt.IsZero() {
				failed.Retry = proc.BootTime() + time.Until(f.RetryAt)
			}
		}
		return failedTo(failed)
	}
	if out.Launched == nil {
		if !held.Leads() {
			b.deny(ctx, l, held, &launch.Fault{Stage: launch.StageConnect, Err: errDeleted})
		}
		adopted := b.adopt(ctx, l, out.Place)
		return func(s *service) supervise.Event {
			e := adopted(s)
			if _, failed := e.(supervise.BindFailed); failed {
				return supervise.Stranded{}
			}
			return e
		}
	}
	return func(s *service) supervise.Event {
		r := &run{place: out.Place, launched: out.Launched}
		r.entry = launch.Entry{Name: nameOf(out.Launched.Dir), Dir: out.Launched.Dir, Number: out.Launched.Number, Alive: true}
		b.follow(s, r)
		return supervise.Launched{Number: out.Launched.Number, Backend: !s.Definition.Foreign}
	}
}

// deny tells who waits in the queue of a listener that is about to be closed why.
func (b *Broker) deny(ctx context.Context, l *launch.Broker, held *launch.Holding, why *launch.Fault) {
	if !held.Socket().Waits() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, launchWithin)
	defer cancel()
	_ = l.Deny(ctx, held, why) // who finds nothing on record is told of the end of its connection
}

var errDeleted = errors.New("the endpoint's names were deleted while its clients waited")

// launchWithin bounds the wait for the launch lock, and for a generation that was asked
// to end to drain.
const launchWithin = time.Minute

// succeed has a successor take over from the generation that serves.
func (b *Broker) succeed(ctx context.Context, l *launch.Broker, number uint64) func(*service) supervise.Event {
	if err := l.Replace(ctx); err != nil {
		return failedTo(supervise.SuccessorFailed{Number: number, Reason: err.Error()})
	}
	return func(s *service) supervise.Event {
		var place runtimedir.Place
		if s.held != nil {
			place = s.held.Place
		}
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			return b.succeeded(ctx, l, place, number)
		})
		return nil
	}
}

func (b *Broker) succeeded(ctx context.Context, l *launch.Broker, place runtimedir.Place, number uint64) func(*service) supervise.Event {
	adopted := b.adopt(ctx, l, place)
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
	l, entry, handle, place := s.launch, r.entry, r.handle, r.place
	b.begin(s, func(context.Context) func(*service) supervise.Event {
		l.Capture(place, entry, handle, errors.New(string(e.Cause)))
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
