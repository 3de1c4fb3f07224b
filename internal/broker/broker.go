// Package broker is the standing broker: a process that holds the listeners of
// services, so that no client meets a gap between two of their daemons, and that
// launches a daemon when the first client connects.
//
// Decisions are package supervise's; a Broker carries them out by the launch
// protocol, with the embedded broker's code, locks and files, and tells supervise
// what came of them. A client cannot tell which of the two has launched, and either
// takes over from the other: a broker that dies takes nothing along but its copies of
// the listeners, of which each daemon that runs has another.
//
//	b, err := broker.New(config)
//	err = b.Run(ctx, services)
package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker/ahead"
	"github.com/fastbind/fastbind/internal/broker/poller"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Config is what a broker is told of the world.
type Config struct {
	Env    runtimedir.Env
	Client func() []string // the environment that the contracts select from

	// Holder is the directory of the broker's own generation, whose life lock it
	// holds: where it is named, everybody sees whether the broker lives.
	Holder string
}

// A Broker holds the services of one user and instance. Run is called once; the
// other methods are safe for concurrent use, and wait until it runs.
type Broker struct {
	config Config
	poll   *poller.Poller

	events   chan posted    // what has happened; read by Run alone
	ended    chan struct{}  // closed when Run returns
	workers  workers        // the goroutines of effects
	under    sync.WaitGroup // these, and those of watched generations
	spare    ahead.Spare    // what becomes the next foreign daemon
	quiet    *time.Timer    // makes it, when nothing was done for a while
	services map[uint64]*service
	names    map[string]*service
	ctx      context.Context // of Run
	schedule supervise.Schedule
	requests map[uint64]chan supervise.Answer
	lastKey  uint64
	lastID   uint64
}

// posted is an event of a service. done is run by the loop, before the event is
// given to the machine: it keeps what the effect has brought. With key 0 it is of the
// whole broker, and done gets nil.
type posted struct {
	key  uint64
	done func(*service) supervise.Event
}

// Bounds of a broker.
const (
	maxEvents  = 1024 // posted and not dealt with; who posts one more waits
	maxEffects = 16   // under way at once: each is a launch, or waits for a daemon
)

// New returns a broker that does nothing yet. Descriptors that the process was left by
// its ancestors are closed by what it executes from now on. It is errors.ErrUnsupported where the
// system cannot tell who waits at a listener.
func New(c Config) (*Broker, error) {
	if err := launch.CloseStrays(); err != nil {
		return nil, err
	}
	p, err := poller.New()
	if err != nil {
		return nil, err
	}
	return &Broker{config: c, poll: p, events: make(chan posted, maxEvents), ended: make(chan struct{}),
		services: map[uint64]*service{}, names: map[string]*service{}, requests: map[uint64]chan supervise.Answer{}}, nil
}

// Run holds the services until ctx ends; then it closes its copies of the listeners
// and leaves the daemons as they are. It returns when all its goroutines have ended.
func (b *Broker) Run(ctx context.Context, services []Service) error {
	ctx, cancel := context.WithCancel(ctx)
	defer close(b.ended)
	defer b.under.Wait()
	defer cancel()
	defer b.poll.Close()
	b.ctx = ctx
	b.quiet = time.AfterFunc(time.Hour, func() { _ = b.spare.Fill() }) // without one the shell does it
	defer b.spare.Close()
	defer b.quiet.Stop()
	b.set(services)
	b.under.Go(func() { b.pollAll(ctx) })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// Deadlines are of the boot clock, which a suspend does not stop.
		timer.Stop()
		var tick <-chan time.Time
		if at := b.schedule.Next(); at != 0 {
			timer.Reset(max(0, at-proc.BootTime()))
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			b.depart()
			return nil
		case e := <-b.events:
			switch s := b.services[e.key]; {
			case e.key == 0:
				e.done(nil)
			case s != nil:
				if event := e.done(s); event != nil {
					b.next(s, event)
				}
			}
		case <-tick:
			for _, name := range b.schedule.Due(proc.BootTime()) {
				b.next(b.names[name], supervise.Timer{})
			}
		}
	}
}

// depart leaves everything to the daemons and the next broker.
func (b *Broker) depart() {
	for _, s := range b.services {
		b.next(s, supervise.Departed{})
	}
}

// next gives an event to a service's machine and does what it says.
func (b *Broker) next(s *service, e supervise.Event) {
	m, effects := s.machine.Next(supervise.Moment{At: proc.BootTime(), Jitter: rand.Float64()}, e)
	s.machine = m
	for _, f := range effects {
		b.do(s, f)
	}
	b.settle(s)
}

// post tells the loop what has happened, and gives up when the broker ends.
func (b *Broker) post(ctx context.Context, key uint64, done func(*service) supervise.Event) {
	select {
	case b.events <- posted{key, done}:
	case <-ctx.Done():
	}
}

// tell posts an event that brings nothing.
func (b *Broker) tell(s *service, e supervise.Event) {
	b.post(s.ctx, s.key, func(*service) supervise.Event { return e })
}

// spareAfter is how long nothing was done before a process is made ahead: it would take
// the processor from the daemons that have just been launched.
const spareAfter = 50 * time.Millisecond

// begin does an effect that takes a while apart from the loop. What it returns is
// run by the loop.
func (b *Broker) begin(s *service, effect func(context.Context) func(*service) supervise.Event) {
	b.workers.do(&b.under, func() {
		if s.ctx.Err() == nil {
			b.post(s.ctx, s.key, effect(s.ctx))
		}
		if s.launch.Ahead != nil {
			b.quiet.Reset(spareAfter)
		}
	})
}

// pollAll tells services of clients that wait.
func (b *Broker) pollAll(ctx context.Context) {
	var keys []uint64
	for {
		var err error
		keys, err = b.poll.Wait(keys[:0])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		for _, key := range keys {
			b.post(ctx, key, func(s *service) supervise.Event {
				if s.watched = false; s.held == nil || !s.held.Socket().Waits() {
					return nil // it was told before the listener was released
				}
				return supervise.Readable{}
			})
		}
	}
}

// note writes to the service's journal.
func (s *service) note(e journal.Event) {
	root := ""
	if s.held != nil {
		root = s.held.Place.Root
	}
	s.launch.Note(root, e)
}
