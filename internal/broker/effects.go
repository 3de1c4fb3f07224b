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
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// do does one effect. What takes longer than a system call is begun and answered
// later.
func (b *Broker) do(s *service, e supervise.Effect) {
	switch e := e.(type) {
	case supervise.Bind:
		as, l, left, bound := s.Service, s.launch, b.left(s), b.counted(s)
		leaving := b.leaving[l.DirName()]
		delete(b.leaving, l.DirName())
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			defer bound()
			if leaving != nil {
				<-leaving // it is bounded
			}
			return b.bind(ctx, as, l, left)
		})
	case supervise.Launch:
		as, l, held := s.Service, s.launch, s.held
		b.beginBound(s, func(ctx context.Context) func(*service) supervise.Event { return b.activate(ctx, as, l, held) })
	case supervise.Succeed:
		as, l := s.Service, s.launch
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event { return b.succeed(ctx, as, l, e.Number) })
	case supervise.CancelSuccessor:
		// A successor that is late is ended with the generation that it was to
		// succeed, or takes over, which is told then.
	case supervise.Drain:
		if r := s.runs[e.Number]; r != nil {
			if entry, handle, err := r.known(); err == nil {
				r.asked = b.askToEnd(s, r, entry, handle)
			}
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
		b.letGo(s)
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
		s.note(journal.Event{Kind: string(e.Kind), Generation: supervise.Generation(e.Number), Reason: e.Reason})
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
	s.queue = idle
	for _, sock := range s.held.Sockets() {
		s.watched = b.poll.Watch(sock, s.key) == nil || s.watched
	}
}

func (b *Broker) unwatch(s *service) {
	if (s.watched || s.queue == armed) && s.held != nil {
		for _, sock := range s.held.Sockets() {
			_ = b.poll.Forget(sock)
		}
	}
	s.watched, s.queue = false, idle
}

// release closes the copy of the listener that we had before the event: not the one
// that it has brought.
func (b *Broker) release(s *service) {
	if s.old == nil {
		s.old, s.held = s.held, nil
	}
	b.part(s)
}

// part closes the old copy, unless somebody waits there whom nobody may serve: letGo sees
// to that, or where an outsider has deleted the names, who waits is told so before.
func (b *Broker) part(s *service) {
	old := s.old
	if s.old = nil; old == nil {
		return
	}
	again := s.held != nil && s.held.Inode == old.Inode
	left := b.config.Leave != nil && !again && b.config.Leave(s.launch.DirName(), old, b.ctx.Err() != nil)
	switch waits := !left && old.Waits() && !old.Socket().IsShut(); {
	case waits && s.machine.State == supervise.Ended:
		s.rescue = old
	case waits && !again && !old.Leads() && !s.lives():
		l, ctx := s.launch, s.ctx
		b.workers.do(&b.under, func() {
			defer old.Close()
			b.deny(ctx, l, old, &launch.Fault{Stage: launch.StageConnect, Err: errDeleted})
		})
	default:
		_ = old.Close()
	}
}

// keep makes h what we hold, from the event on that it has come with; nil changes
// nothing.
func (b *Broker) keep(s *service, h *launch.Holding) {
	if h == nil {
		return
	}
	b.unwatch(s)
	s.old, s.held = s.held, h
	b.watchNames(s)
	if b.config.Keep != nil {
		b.config.Keep(s.launch.DirName(), h)
	}
}

// left is the listener that the broker before has left of the service, zero without.
func (b *Broker) left(s *service) Left {
	if b.config.Left == nil {
		return Left{}
	}
	return b.config.Left(s.launch.DirName())
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
func (b *Broker) bind(ctx context.Context, as Service, l *launch.Broker, left Left) func(*service) supervise.Event {
	defer left.Close()
	if f := left.File; f != nil {
		further := left.Further
		left.File, left.Further = nil, nil
		// Where it leads nowhere any more, everything begins anew.
		if h, err := l.Inherit(ctx, f, left.Inode, b.config.Holder, further...); err == nil && left.Same {
			return b.resume(ctx, as, l, h, &left)
		} else if err == nil {
			return b.inherited(ctx, as, l, h)
		}
	}
	out, err := l.Hold(ctx, b.config.Holder)
	if err != nil {
		return func(s *service) supervise.Event {
			s.failed(stageOf(err), err.Error())
			return supervise.BindFailed{Reason: err.Error()}
		}
	}
	if out.Held != nil {
		return func(s *service) supervise.Event {
			b.keep(s, out.Held)
			return supervise.Bound{}
		}
	}
	return b.adopt(ctx, as, l, out.Place, &left)
}

// stageOf is where a launch failed.
func stageOf(err error) string {
	if f, ok := errors.AsType[*launch.Fault](err); ok {
		return f.Stage
	}
	return launch.StagePrepare
}

// inherited goes on with a listener that the broker before has left.
func (b *Broker) inherited(ctx context.Context, as Service, l *launch.Broker, h *launch.Holding) func(*service) supervise.Event {
	entries, _ := launch.Generations(h.Place.Dir)
	e, ok := launch.Current(h.Place.Dir, entries)
	if !ok || !e.Alive || e.Record.Phase == record.Draining {
		return func(s *service) supervise.Event {
			_ = h.Socket().Listen() // as whom its clients see us
			b.keep(s, h)
			return supervise.Bound{}
		}
	}
	adopted := b.adopt(ctx, as, l, h.Place, nil)
	return func(s *service) supervise.Event {
		a, ok := adopted(s).(supervise.Adopted)
		switch {
		case !ok: // it has ended meanwhile
			b.keep(s, h)
			return supervise.Bound{}
		case a.Listener: // it has handed over another copy
			_ = h.Close()
		default:
			b.keep(s, h)
			a.Listener = true
		}
		return a
	}
}

func failedTo(e supervise.Event) func(*service) supervise.Event {
	return func(*service) supervise.Event { return e }
}

var errUnknown = errors.New("somebody accepts at the endpoint, and no living generation is on record")

// adopt finds out who serves, and gets a copy of its listener if it can hand it over.
func (b *Broker) adopt(ctx context.Context, as Service, l *launch.Broker, place runtimedir.Place, left *Left) func(*service) supervise.Event {
	adopted, err := b.tryAdopt(ctx, as, l, place, left)
	if err != nil {
		return failedTo(supervise.BindFailed{Reason: err.Error()})
	}
	return adopted
}

// tryAdopt fails if nobody serves, or no longer.
func (b *Broker) tryAdopt(ctx context.Context, as Service, l *launch.Broker, place runtimedir.Place, left *Left) (func(*service) supervise.Event, error) {
	within, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	for {
		entries, err := launch.Generations(place.Dir)
		e, ok := launch.Serving(place.Dir, entries)
		if err != nil || !ok {
			return nil, errUnknown
		}
		r, err := find(place, e, left.run(e.Number))
		if err != nil {
			return nil, err
		}
		backend := e.Record.Backend || !e.Record.Definition.Foreign
		event := supervise.Adopted{Run: supervise.Run{Backend: backend, Ready: e.Record.WasReady}}
		var held *launch.Holding
		if backend && r.hold == nil {
			// A broker that was killed a moment ago is the holder until the daemon has
			// seen its end, and a successor may be taking over: look again.
			held, r.hold, err = l.Adopt(within, place, e, b.config.Holder)
			if err != nil && b.holds(within, e.Dir) {
				_ = r.handle.Close()
				return adoptedBefore(e, event), nil
			}
			if err != nil && again(within) {
				_ = r.handle.Close()
				continue
			}
			event.Listener = err == nil
			r.serves(held)
		}
		b.assist(ctx, as, l, r, left.run(e.Number))
		return func(s *service) supervise.Event {
			b.keep(s, held)
			b.follow(s, r)
			event.Run.Number = r.number
			return event
		}, nil
	}
}

// holds reports whether we have a hold on the generation already. A successor is adopted by
// whoever notices it first: who has asked for it, or who watches the one before.
// The broker waits for whoever asks before it ends: it answers no more then, and ctx, which
// ends with it, says so.
func (b *Broker) holds(ctx context.Context, genDir string) bool {
	told := make(chan bool, 1)
	b.post(ctx, 0, func(*service) supervise.Event {
		holds := false
		for _, s := range b.services {
			r := s.run(genDir)
			holds = holds || r != nil && r.hold != nil
		}
		told <- holds
		return nil
	})
	select {
	case holds := <-told:
		return holds
	case <-ctx.Done():
		return false
	}
}

// adoptedBefore is for who finds a generation that we hold already.
func adoptedBefore(e launch.Entry, event supervise.Adopted) func(*service) supervise.Event {
	return func(s *service) supervise.Event {
		r := s.run(e.Dir)
		if r == nil {
			return supervise.BindFailed{Reason: errUnknown.Error()} // it has ended meanwhile
		}
		event.Run.Number, event.Listener = r.number, r.hold != nil
		return event
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

// find makes a generation that is there one to be followed, but for its aid.
func find(place runtimedir.Place, e launch.Entry, left *LeftRun) (*run, error) {
	handle, err := e.Open()
	if err != nil {
		return nil, err
	}
	r := &run{place: place, entry: e, handle: handle, found: true}
	if left != nil {
		r.hold, r.status = holdOf(&left.Hold), left.Status
	}
	return r, nil
}

// assist gives a generation that was found its aid; left is what is left of it, or nil.
func (b *Broker) assist(ctx context.Context, as Service, l *launch.Broker, r *run, left *LeftRun) {
	if r.aid = b.aids.get(r.entry.Dir); r.aid != nil {
		<-r.aid.knows // this broker has launched it, as a successor that may have been fast
		return
	}
	if left == nil {
		left = &LeftRun{}
	}
	r.aid = b.newAid(ctx, as, l)
	r.aid.adopt(r.place, r.entry, &left.Notify)
	r.aid.made()
}

// adoptWithin bounds the wait for a daemon to hand its listener over. Its control
// endpoint answers whatever it does, unless it is stopped.
const adoptWithin = 5 * time.Second

// activate launches a generation with the held listener. The loop may close that
// meanwhile, when the service is let go.
func (b *Broker) activate(ctx context.Context, as Service, l *launch.Broker, loops *launch.Holding) func(*service) supervise.Event {
	held, err := loops.Copy()
	if err != nil {
		return failedTo(supervise.LaunchFailed{Reason: "copying the listener: " + err.Error()})
	}
	defer held.Close()
	within, cancel := context.WithTimeout(ctx, launchWithin)
	defer cancel()
	for {
		if event := b.tryActivate(ctx, within, as, l, held); event != nil {
			return event
		}
		if !again(within) {
			return failedTo(supervise.Stranded{})
		}
	}
}

// tryActivate returns nil if somebody accepted from the held listener, and has ended since:
// who waits there waits for the next one.
func (b *Broker) tryActivate(ctx, within context.Context, as Service, l *launch.Broker, held *launch.Holding) func(*service) supervise.Event {
	began := proc.BootTime()
	aid := b.newAid(ctx, as, l)
	out, err := aid.aided().Activate(within, held)
	aid.made()
	if err != nil {
		failed := supervise.LaunchFailed{Reason: err.Error()}
		if f, ok := errors.AsType[*launch.Fault](err); ok {
			if failed.Died = f.Generation != 0; unrecorded(f) {
				b.deny(ctx, l, held, f)
			}
			if !f.RetryAt.IsZero() {
				failed.Retry = proc.BootTime() + time.Until(f.RetryAt)
			}
		}
		return func(s *service) supervise.Event {
			s.failed(stageOf(err), failed.Reason)
			return failed
		}
	}
	if out.Launched == nil {
		switch adopted, err := b.tryAdopt(ctx, as, l, out.Place, nil); {
		case err == nil:
			return adopted
		case held.Leads():
			return nil
		default:
			return failedTo(supervise.Stranded{})
		}
	}
	return func(s *service) supervise.Event {
		b.keep(s, out.Held)
		there := out.Launched.There
		r := &run{place: out.Place, launched: out.Launched, aid: aid, began: there}
		r.entry = launch.Entry{Name: nameOf(out.Launched.Dir), Dir: out.Launched.Dir, Number: out.Launched.Number, Alive: true}
		r.serves(s.held)
		s.launches(there - began)
		b.follow(s, r)
		return supervise.Launched{Number: r.number, Backend: !s.Definition.Foreign}
	}
}

// unrecorded reports whether a failed launch came to no generation whose record would
// say so.
func unrecorded(f *launch.Fault) bool { return f.Generation == 0 && f.Class == launch.LaunchFailed }

// rescue closes listeners that are given up while somebody waits in their queues. If
// nobody serves there a daemon is launched for them, which is on its own then; what
// cannot be launched is told them. It blocks until ctx ends and a second more.
func (b *Broker) rescue(ctx context.Context, as Service, l *launch.Broker, held *launch.Holding) {
	defer held.Close()
	aid := b.newAid(ctx, as, l)
	out, err := aid.aided().Activate(ctx, held)
	aid.made()
	if out.Held != nil {
		_ = out.Held.Close()
	}
	why := &launch.Fault{Stage: launch.StageConnect, Err: errDeleted}
	switch f, ok := errors.AsType[*launch.Fault](err); {
	case err == nil && (out.Launched != nil || held.Leads()):
		return
	case err == nil:
	case ok && unrecorded(f):
		why = f
	case ctx.Err() != nil:
		why.Err = errLeft
	default:
		return // it is on record
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	b.deny(ctx, l, held, why)
}

// rescueWithin bounds the launches for those who wait when the broker gives a listener
// up: it is less than a broker has to end.
const rescueWithin = 5 * time.Second

var errLeft = errors.New("the broker held its listener no longer, and could launch nobody in time")

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
func (b *Broker) succeed(ctx context.Context, as Service, l *launch.Broker, number uint64) func(*service) supervise.Event {
	began := proc.BootTime()
	aid := b.newAid(ctx, as, l)
	err := aid.aided().Replace(ctx)
	aid.made()
	if err != nil {
		return func(s *service) supervise.Event {
			s.failed(stageOf(err), err.Error())
			return supervise.SuccessorFailed{Number: number, Reason: err.Error()}
		}
	}
	there := proc.BootTime()
	return func(s *service) supervise.Event {
		s.launches(there - began)
		var place runtimedir.Place
		if s.held != nil {
			place = s.held.Place
		}
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			return b.succeeded(ctx, as, l, place, number)
		})
		return nil
	}
}

func (b *Broker) succeeded(ctx context.Context, as Service, l *launch.Broker, place runtimedir.Place, number uint64) func(*service) supervise.Event {
	adopted := b.adopt(ctx, as, l, place, nil)
	return func(s *service) supervise.Event {
		if a, ok := adopted(s).(supervise.Adopted); ok {
			return supervise.Succeeded{Number: number, Run: a.Run}
		}
		return supervise.SuccessorFailed{Number: number, Reason: errUnknown.Error()}
	}
}

// capture writes evidence of a hang.
func (b *Broker) capture(s *service, e supervise.Capture) {
	nothing := failedTo(supervise.Captured{Number: e.Number})
	r, l := s.runs[e.Number], s.launch
	b.begin(s, func(context.Context) func(*service) supervise.Event {
		if r == nil {
			return nothing
		}
		entry, handle, err := r.known()
		if err != nil {
			return nothing
		}
		l.Capture(r.place, entry, handle, errors.New(string(e.Cause)))
		st, err := handle.State()
		return failedTo(supervise.Captured{Number: e.Number, Debugged: err == nil && st.Tracer != 0})
	})
}

// kill kills a generation, and says on record for what.
func (b *Broker) kill(s *service, e supervise.Kill) {
	r := s.runs[e.Number]
	if r == nil {
		return
	}
	entry, handle, err := r.known()
	if err != nil {
		return
	}
	var why *launch.Fault
	if e.Cause != supervise.CauseStop {
		why = &launch.Fault{Class: launch.LaunchFailed, Stage: launch.StageLoad, Err: errors.New(string(e.Cause))}
		if entry.Record.WasReady {
			why.Class, why.Stage = launch.Hung, launch.StageServe
		}
	}
	_ = s.launch.KillGeneration(entry, handle, why)
}
