package broker

import (
	"context"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
)

// A Service is one to be held: all that its definition says. Every part was completed
// and checked. It is a plain value.
type Service struct {
	Definition definition.Definition
	Policy     supervise.Policy

	// Sign is what shows that a foreign daemon is ready. Of the zero Sign it is the
	// least that can be seen: it has accepted a connection.
	Sign   probe.Sign
	Access notify.Access
	Limits limit.Wanted
}

// when says from when on b holds in place of a, and whether they differ.
func (a Service) when(b Service) (w supervise.When, differ bool) {
	diffs := definition.Diff(a.Definition, b.Definition)
	for i, f := range a.Policy.Fields() {
		if g := b.Policy.Fields(); i >= len(g) || f != g[i] {
			diffs = append(diffs, definition.Difference{Field: f.Key, Have: f.Value})
		}
	}
	coexist := a.Definition.EnvPolicy == definition.EnvCoexist || a.Definition.OnVersion == definition.VersionCoexist
	w = supervise.Applies(diffs, coexist)
	rest := reflect.DeepEqual(a.Sign, b.Sign) && a.Access == b.Access && a.Limits == b.Limits
	if !rest {
		w = max(w, supervise.NextLaunch)
	}
	return w, len(diffs) > 0 || len(a.Policy.Fields()) != len(b.Policy.Fields()) || !rest
}

// service is one of the broker's. It belongs to the loop.
type service struct {
	Service
	key     uint64
	launch  *launch.Broker
	machine supervise.Machine
	held    *launch.Holding // our copies of the listeners, nil without them
	old     *launch.Holding // those before, until the event is dealt with that has brought held
	rescue  *launch.Holding // given up, and somebody waits there; nil without
	watched bool            // by the poller, for the machine
	queue   watchState      // of held, while a generation serves
	dir     string          // whose names are watched, "" for none
	runs    map[uint64]*run // the generations that have not ended, by number

	counts      ServiceMetrics
	broken      bool   // a failure was not followed by a launch yet
	lastFailure string // "" if there was none
	failedAt    time.Time
	overlooked  bool // names went while it was bound or launched

	ctx context.Context // ends when the broker has no more to do with it
	end context.CancelFunc

	next *Service // what is to be held in its place, when it is disabled
}

// garbage is left while a set is bound, so that the time for a service is the same
// however many they are: the collector would look at all of them again and again. What
// binding has needed is more than what stays, and is given back.
type garbage struct {
	mu      sync.Mutex
	sets    int // that are bound
	percent int // of the collector, when none is
}

const leaveWhileBinding = 400 // percent of what is in use

func (g *garbage) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sets++; g.sets > 1 {
		return
	}
	g.percent = debug.SetGCPercent(leaveWhileBinding)
	if g.percent < 0 || g.percent > leaveWhileBinding { // GOGC leaves more
		debug.SetGCPercent(g.percent)
	}
}

func (g *garbage) collect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sets--; g.sets == 0 {
		debug.SetGCPercent(g.percent)
		debug.FreeOSMemory()
	}
}

// set makes the broker's services those, of which each has another name. Others are
// let go of: what runs of them runs on.
func (b *Broker) set(services []Service) {
	b.reweigh()
	binding, bound := new(sync.WaitGroup), make(chan struct{})
	b.binding, b.bound = binding, bound
	defer func() {
		b.binding = nil
		b.under.Go(func() {
			binding.Wait()
			close(bound)
			b.garbage.collect()
		})
	}()
	b.garbage.leave()
	b.under.Go(func() { widen(descriptorsOf(services)) })
	if len(b.services) == 0 {
		// Maps that grow would make each of many services cost more than one of few.
		b.services, b.names = make(map[uint64]*service, len(services)), make(map[string]*service, len(services))
	}
	names := make(map[string]bool, len(services))
	for _, s := range services {
		names[s.Definition.Service] = true
		have := b.names[s.Definition.Service]
		if have == nil {
			b.add(s)
			continue
		}
		b.change(have, s)
	}
	for name, s := range b.names {
		if !names[name] {
			s.next = nil // whatever was to be held in its place
			b.next(s, supervise.Departed{})
		}
	}
}

func (b *Broker) add(s Service) {
	b.lastKey++
	sv := &service{Service: s, key: b.lastKey, machine: supervise.New(s.policy()), runs: map[uint64]*run{}, launch: b.launcher(s)}
	sv.ctx, sv.end = context.WithCancel(b.ctx)
	b.services[sv.key], b.names[s.Definition.Service] = sv, sv
	b.next(sv, supervise.Requested{Verb: supervise.VerbEnable})
}

// launcher returns the launch protocol's side of a service.
func (b *Broker) launcher(s Service) *launch.Broker {
	l := launch.NewBroker(b.config.Env, s.Definition, b.config.Client)
	l.Hook = &launch.Hook{Noted: b.noted}
	if s.Definition.Foreign && l.Mode() == launch.BrokerBinds {
		l.Hook.Ahead = b.spare.Become
		b.spares.Store(true)
	}
	return l
}

// noted tells of an event in a journal.
func (b *Broker) noted(at time.Time, e journal.Event) { b.feed.tell(Noted{Event: e, Time: at}) }

// policy returns the policy as the machine has it: a backend is asked at its control
// endpoint, and sends no signs of life.
func (s Service) policy() supervise.Policy {
	p := s.Policy
	if !s.Definition.Foreign {
		p.Watchdog = 0
	}
	return p
}

func (b *Broker) change(s *service, to Service) {
	if s.next != nil {
		s.next = &to // it is on its way out
		return
	}
	switch when, differ := s.Service.when(to); {
	case !differ:
	case when == supervise.Elsewhere:
		s.next = &to
		b.next(s, supervise.Requested{Verb: supervise.VerbDisable})
	default:
		s.Service, s.launch = to, b.launcher(to)
		b.next(s, supervise.Changed{Policy: to.policy(), Launch: when == supervise.NextLaunch})
	}
}

// settle forgets a service that is no longer held.
func (b *Broker) settle(s *service) {
	switch {
	case s.machine.State == supervise.Ended:
	case s.machine.State == supervise.Disabled && s.next != nil:
	default:
		return
	}
	if b.services[s.key] == nil {
		return
	}
	delete(b.services, s.key)
	delete(b.names, s.Definition.Service)
	b.schedule.Set(s.Definition.Service, 0)
	for _, r := range s.runs {
		r.close() // it runs on
	}
	b.unwatchNames(s)
	s.end()
	b.letGo(s)
	if s.next != nil {
		b.add(*s.next)
	}
}

// letGo sees to those who wait at a listener that was given up, and says that the
// service is held no more: as long as the broker lives, whoever looks at it is not to
// wait for a launch. Who binds it again waits for that.
func (b *Broker) letGo(s *service) {
	held, lives := s.rescue, b.ctx.Err() == nil && b.config.Holder != ""
	if s.rescue = nil; held == nil && !lives {
		return
	}
	dir, as, l := s.launch.DirName(), s.Service, s.launch
	before, done := b.leaving[dir], make(chan struct{})
	b.leaving[dir] = done
	late, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), b.grace)
	b.under.Go(func() {
		defer close(done)
		defer cancel()
		if before != nil {
			<-before
		}
		if held != nil {
			b.rescues <- struct{}{} // none of them takes longer than until late
			b.rescue(late, as, l, held)
			<-b.rescues
		}
		if !lives {
			return
		}
		ctx, cancel := context.WithTimeout(b.ctx, letGoWithin)
		defer cancel()
		_ = l.LetGo(ctx, b.config.Holder)
		b.post(b.ctx, 0, func(*service) supervise.Event {
			if b.leaving[dir] == done {
				delete(b.leaving, dir)
			}
			return nil
		})
	})
}

// letGoWithin bounds the wait for a lock that others hold for moments.
const letGoWithin = 10 * time.Second
