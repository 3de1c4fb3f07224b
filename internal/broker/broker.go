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
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastbind/fastbind/internal/broker/ahead"
	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/limit"
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

	// These pass listeners on from one broker to the next, by the name of the
	// service's directory. They are called by the loop and do not block; each may be
	// nil. Left returns what the broker before has left, once; the files are the
	// caller's. Keep is told of every listener that the broker has from now on, Leave
	// that it has it no more, or, with departs, that it ends; it reports whether there
	// is a next broker for those who wait there. The holding is the broker's.
	Left  func(dirName string) Left
	Keep  func(dirName string, h *launch.Holding)
	Leave func(dirName string, h *launch.Holding, departs bool) bool

	// Same: this process was the broker before, and has executed another program. Its
	// children are that one's.
	Same bool

	// Quota is what the daemons may have together, now; nil: as much as they want. It is
	// called by the loop and does not block. After a change Set has it kept.
	Quota func() supervise.Quota

	// Claim finds out what daemons can be limited with; nil: limit.Claim, of the
	// user's systemd managers. It is called once, when something is to be limited.
	Claim func(context.Context) limit.Available
}

// A Broker holds the services of one user and instance. Run is called once; the
// other methods are safe for concurrent use, and wait until it runs.
type Broker struct {
	config Config
	poll   *poller.Poller
	feed   feed
	aids   aids
	since  time.Time
	files  *fsnotify.Watcher // of the endpoints' directories, nil if the system grants none
	dirs   sync.Map          // keys of services by these directories

	events   chan posted    // what has happened; read by Run alone
	ended    chan struct{}  // closed when Run returns
	workers  workers        // the goroutines of effects
	rescues  chan struct{}  // holds a token for each rescue
	under    sync.WaitGroup // these, and those of watched generations
	spare    ahead.Spare    // what becomes the next foreign daemon
	spares   atomic.Bool    // there may be one
	quiet    *time.Timer    // makes it, when nothing was done for a while
	services map[uint64]*service
	names    map[string]*service
	leaving  map[string]chan struct{} // by directory: closed when it is said that it is held no more
	ctx      context.Context          // of Run
	schedule supervise.Schedule
	looks    looks
	weighing weighing
	blind    bool // the system does not tell who waits in a queue

	claim    sync.Once
	found    limit.Available // once claim is done
	requests map[uint64]chan supervise.Answer
	lastKey  uint64
	lastID   uint64

	garbage garbage
	binding *sync.WaitGroup // counts what the set under way binds; nil without one
	bound   chan struct{}   // closed when what was last set is bound, or cannot be

	patience time.Duration // boundWithin, but in tests
	grace    time.Duration // rescueWithin, but in tests
	every    time.Duration // weighEvery, but in tests
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

	pollPause = 100 * time.Millisecond // after the kernel could not tell who is ready
)

// Supported is errors.ErrUnsupported where New always is.
func Supported() error {
	p, err := poller.New()
	if err != nil {
		return err
	}
	return p.Close()
}

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
	var files *fsnotify.Watcher // see names.go
	if watchesNames {
		files, _ = fsnotify.NewWatcher()
	}
	c.Client = newClient(c.Client).variables
	return &Broker{config: c, poll: p, files: files, since: time.Now(), patience: boundWithin, grace: rescueWithin, every: weighEvery, rescues: make(chan struct{}, maxEffects), events: make(chan posted, maxEvents), ended: make(chan struct{}),
		services: map[uint64]*service{}, names: map[string]*service{}, leaving: map[string]chan struct{}{},
		requests: map[uint64]chan supervise.Answer{}}, nil
}

// Run holds the services until ctx ends; then it closes its copies of the listeners
// and leaves the daemons as they are. For those who wait where nobody serves, and whom no
// next broker takes over, it launches before that, or puts on record why not; this takes
// 6 s at most. It returns when all its goroutines have ended.
func (b *Broker) Run(ctx context.Context, services []Service) error {
	ctx, cancel := context.WithCancel(ctx)
	defer close(b.ended)
	defer b.feed.end()
	defer b.aids.close()
	defer b.forget()
	defer b.under.Wait()
	defer b.workers.end() // of which none would do anything by now
	defer cancel()
	defer b.poll.Close()
	b.ctx = ctx
	if b.config.Same {
		b.raise(ctx)
	}
	_, err := backlog.Dump()
	b.blind = err != nil
	for _, s := range services {
		if s.Limits != (limit.Wanted{}) {
			// Before there are children: who is alone in a cgroup can make room in it.
			b.available(ctx, s.Definition.Instance)
			break
		}
	}
	b.quiet = time.AfterFunc(time.Hour, func() { _ = b.spare.Fill() }) // without one the shell does it
	defer b.spare.Close()
	defer b.quiet.Stop()
	b.set(services)
	if b.config.Same {
		b.disown(ctx)
	}
	b.under.Go(func() { b.pollAll(ctx) })
	if b.files != nil {
		defer b.files.Close()
		b.under.Go(b.readNames)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// Deadlines are of the boot clock, which a suspend does not stop.
		timer.Stop()
		var tick <-chan time.Time
		if at := earlier(earlier(b.schedule.Next(), b.looks.at), b.weighing.next()); at != 0 {
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
			b.look(proc.BootTime())
			b.weigh(proc.BootTime())
		}
	}
}

// depart leaves everything to the daemons and the next broker. Whoever still leaves its
// queue to us is to learn that we hold it no longer before that is so.
func (b *Broker) depart() {
	for _, s := range b.services {
		for _, r := range s.runs {
			if r.hold != nil {
				_ = r.hold.Close()
			}
		}
	}
	for _, s := range b.services {
		b.next(s, supervise.Departed{})
	}
}

// forget closes what nobody waits for any more.
func (b *Broker) forget() {
	for _, s := range b.services {
		for _, r := range s.runs {
			r.close()
		}
	}
}

// next gives an event to a service's machine and does what it says.
func (b *Broker) next(s *service, e supervise.Event) {
	before := s.machine.Run
	m, effects := s.machine.Next(supervise.Moment{At: proc.BootTime(), Jitter: rand.Float64()}, e)
	s.machine = m
	if run := m.Run; run.Ready && (!before.Ready || before.Number != run.Number) {
		s.ready(run.Number)
	}
	for _, f := range effects {
		b.do(s, f)
	}
	b.part(s)
	b.attend(s)
	b.settle(s)
	b.lookAgain(s)
}

// earlier returns the earlier of two times, of which 0 is none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
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
		if b.spares.Load() {
			b.quiet.Reset(spareAfter)
		}
	})
}

// beginBound is begin when everything that was set last is bound.
func (b *Broker) beginBound(s *service, effect func(context.Context) func(*service) supervise.Event) {
	bound := b.bound
	select {
	case <-bound:
		b.begin(s, effect)
		return
	default:
	}
	b.under.Go(func() {
		late := time.NewTimer(b.patience)
		defer late.Stop()
		select {
		case <-bound:
		case <-late.C:
		case <-s.ctx.Done():
		}
		b.begin(s, effect)
	})
}

// pollAll tells services of clients that wait.
func (b *Broker) pollAll(ctx context.Context) {
	var keys []uint64
	for {
		var err error
		keys, err = b.poll.Wait(keys[:0])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(pollPause)
		}
		for _, key := range keys {
			b.post(ctx, key, func(s *service) supervise.Event {
				if !s.watched {
					b.begun(s) // or another of its listeners was told of before
					return nil
				}
				if !s.held.Waits() {
					b.watch(s, true) // whoever came has been accepted, or the key was of an earlier watch
					return nil
				}
				b.unwatch(s)
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
