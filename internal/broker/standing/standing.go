// Package standing is the process that the standing broker is: a backend of the SDK
// under a reserved name, so that it has what every service has (a generation, a
// record, a life lock, a control endpoint, a log) and is the only one by the launch
// lock. It reads what it is to hold, holds it, follows changes, and answers at its
// endpoint.
//
//	def := standing.Definition(instance, executable, variables) // to launch one
//	err := standing.Run(ctx, config)                             // to be one
//
// What the broker holds is a function of the definition files and of which of them
// are disabled; whoever has changed either has it look again. It loses nothing with
// its own end: daemons stay, and the next broker begins with the same files.
package standing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// Service is the name of the broker as a service. No definition file has it.
const Service = "fastbind-broker"

// Bounds of a broker's process.
const (
	maxServices = 4096             // held at once
	holdWithin  = 10 * time.Second // until it is ready although not all that it is to hold is held
	emptyFor    = 5 * time.Second  // without anything to hold, until one that was launched on demand ends
	stopWithin  = 10 * time.Second // for its clients, when it ends
)

// A File is a definition file that says how to hold a service, or why it says nothing.
type File struct {
	Name    string // the service's
	Service broker.Service
	Err     error // it is not used

	// Unheld: the file is right, and leaves nothing to hold. Err says why.
	Unheld bool
}

// A Config is what a broker's process is told.
type Config struct {
	Instance string
	Env      runtimedir.Env
	Client   func() []string // the environment that the contracts select from
	Version  string
	Build    string // what it was built from

	// By is how this process is launched again, or another one in its place; nil in one
	// that was launched, which has been told.
	By *definition.Definition

	// OnDemand ends the broker when it has nothing to hold.
	OnDemand bool

	// Read reads the definition files, which are in Dir.
	Read func() []File
	Dir  func() string

	// Quota reads what the daemons may have together, from a file in Dir too; nil: as much
	// as they want.
	Quota func() (supervise.Quota, error)

	// Reload begins to tick when somebody wants the files read again, and ends with the
	// function that it returns.
	Reload func() (ticks <-chan struct{}, end func())

	// Manager is the service manager that has started the process.
	Manager *activation.Manager

	// Legacy is what [Claim] has returned; nil: of the broker that this one succeeds.
	Legacy *Legacy

	// Inheritance is what [Inherit] has returned, nil of a new process. Replacement says
	// how another program is executed in place of this one; it is called when the broker
	// loads, before the program at its path can be another one.
	Inheritance *Inheritance
	Replacement func() (Replacement, error)

	// Upgraded tells who has asked for an upgrade, at the other end of conn, that this
	// program has replaced the former.
	Upgraded func(conn net.Conn, from, to Program) error

	// Serve answers at a listener until ctx ends, and closes it.
	Serve func(ctx context.Context, ln net.Listener, c *Control) error

	// Say tells a line to whoever looks at the process. It is called concurrently.
	Say func(line string)
}

// Definition is how a broker is launched: exe is the command's path, variables are
// those that it needs beyond the contract, as in a definition's env.
func Definition(instance, exe string, variables []string) definition.Definition {
	return definition.Definition{Service: Service, Instance: instance, Env: variables,
		Command: []string{exe, "broker", "--instance=" + instance, "--on-demand"}, StopWithin: stopWithin}.Complete()
}

// public is the definition as package daemon takes it.
func public(d definition.Definition) fastbind.Service {
	return fastbind.Service{Name: d.Service, Instance: d.Instance, Command: d.Command, Env: d.Env, StopWithin: d.StopWithin}
}

// Run is a broker until ctx ends, or it is stopped as any service is, or has nothing
// to hold and was launched on demand; then it is nil. It is fastbind.ErrAlreadyBound
// if the instance has a broker. A process runs one.
func Run(ctx context.Context, c Config) error {
	if c.Manager == nil {
		c.Manager = &activation.Manager{}
	}
	options := []daemon.Option{daemon.Version(c.Version)}
	if c.By != nil {
		options = append(options, daemon.For(public(*c.By)))
	}
	return daemon.Bootstrap[backend](context.WithValue(ctx, configKey{}, &c), options...)
}

// A backend has no fields, so what it is told comes with the context.
type backend struct{}

type configKey struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

// Load makes the broker. It is ready when it holds what it is to hold, which it begins
// when it serves: one before it that still runs then holds no more.
func (backend) Load(ctx context.Context, inst *daemon.Instance) (*process, error) {
	c := ctx.Value(configKey{}).(*Config)
	place, err := c.Env.Find(c.Instance, Service)
	if err != nil {
		return nil, err
	}
	own := filepath.Base(inst.RuntimeDir())
	addr := filepath.Join(place.Addr, own)
	if c.Inheritance != nil {
		clearNames(addr)
		c.Legacy = c.Inheritance.legacy(c.Env, c.Instance)
		for _, problem := range c.Inheritance.Problems {
			c.Say(problem)
		}
	}
	p := &process{Config: c, inst: inst, dir: c.Dir(), woken: make(chan struct{}, 1), legacy: c.Legacy, estate: newEstate(c, addr)}
	if c.Replacement != nil {
		if p.replacement, err = c.Replacement(); err != nil {
			return nil, err
		}
	}
	if p.legacy == nil {
		p.legacy = claim(ctx, c.Env, c.Instance, own)
	}
	p.legacy.stored(slices.DeleteFunc(slices.Clone(c.Manager.Sockets), func(s activation.Socket) bool { return s.Name == unit.SocketName }))
	p.broker, err = broker.New(broker.Config{Env: c.Env, Client: c.Client, Holder: inst.RuntimeDir(),
		Left: p.legacy.take, Keep: p.estate.keep, Leave: p.estate.leave, Same: c.Inheritance != nil, Quota: p.kept})
	inst.ReadyLater()
	return p, err
}

func (backend) Serve(ctx context.Context, ln net.Listener, p *process) error { return p.serve(ctx, ln) }

// process is a broker that serves.
type process struct {
	*Config
	inst *daemon.Instance
	dir  string // of the definition files

	replacement Replacement // of this program, by another version

	broker *broker.Broker
	legacy *Legacy
	estate *estate

	ctx     context.Context // of serve
	under   sync.WaitGroup  // its goroutines
	woken   chan struct{}   // holds a token when what is held may be another
	reading sync.Mutex      // one reading of the files, until what they say is held
	quota   atomic.Pointer[supervise.Quota]

	upgrading sync.Mutex // held during an upgrade

	mu     sync.Mutex
	have   []File                    // what was read last
	held   map[string]broker.Service // what the broker was told last
	unheld map[string]string         // why a service is not held, as was said last
	bad    string                    // what is wrong with the quota, "" if nothing is
	next   *reading                  // for which somebody waits, and which has not begun; or nil
}

func (p *process) serve(ctx context.Context, ln net.Listener) error {
	// A stop ends the listener first, and ctx only when all are accepted who have
	// queued there.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.ctx = ctx
	p.legacy.receive(ctx)
	defer p.estate.pass()
	wg := &p.under
	defer wg.Wait()
	defer cancel()
	watch := p.watcher() // before the files are read
	services := p.read()
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := p.broker.Run(ctx, services); err != nil {
			failed <- err
		}
	})
	for _, l := range append(p.sockets(), ln) {
		wg.Go(func() { p.answer(ctx, l) })
	}
	wg.Go(func() { p.estate.serve(ctx) })
	wg.Go(func() { p.begin(ctx, services) })
	wg.Go(func() { p.follow(ctx, watch) })
	wg.Go(func() { p.alive(ctx) })
	select {
	case <-ctx.Done():
		_ = p.Manager.Stopping()
		p.Say("ending; the daemons stay")
		return nil
	case err := <-failed:
		return err
	}
}

// begin says that the broker is ready when it holds what it is to hold.
func (p *process) begin(ctx context.Context, services []broker.Service) {
	p.await(ctx, services)
	if ctx.Err() != nil {
		return
	}
	for _, unwanted := range p.legacy.close() {
		_ = p.Manager.Drop(unwanted)
	}
	status := p.status()
	p.Say(status)
	p.inst.Ready()
	if err := p.Manager.Ready(status); err != nil {
		p.Say("the service manager does not hear: " + err.Error())
	}
	if i := p.Inheritance; i != nil {
		reached(stepServes)
		if i.asker != nil {
			_ = p.Upgraded(i.asker, i.From, p.program()) // who has left does not hear it
			_ = i.asker.Close()
		}
	}
}

// await waits until each of the services is held, or somebody serves there, or it is
// known that it cannot be; at most for a while.
func (p *process) await(ctx context.Context, services []broker.Service) {
	ctx, cancel := context.WithTimeout(ctx, holdWithin)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range services {
		wg.Go(func() {
			a, err := p.broker.Request(ctx, s.Definition.Service, supervise.VerbEnable)
			if err == nil && p.isNews(s.Definition.Service, a.Reason) {
				p.Say(s.Definition.Service + ": not held: " + a.Reason)
			}
		})
	}
	wg.Wait()
}

// isNews reports whether a service is not held, for another reason than was said last. A
// reason of "" is that it is.
func (p *process) isNews(service, reason string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.unheld[service]
	if reason == "" {
		delete(p.unheld, service)
		return false
	}
	if p.unheld == nil {
		p.unheld = map[string]string{}
	}
	p.unheld[service] = reason
	return reason != was
}

// status is one line about what is held.
func (p *process) status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := "holding " + plural(len(p.held), "service")
	bad := 0
	for _, f := range p.have {
		if f.Err != nil && !f.Unheld {
			bad++
		}
	}
	if bad > 0 {
		text += ", " + plural(bad, "definition") + " not used"
	}
	return text
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// read reads the files, says what is new about those that are not used, and returns
// what is to be held. A file that has become wrong changes nothing about its service; one
// that leaves nothing to hold any more has it let go. So it is with the quota.
func (p *process) read() []broker.Service {
	files := p.Read()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readQuotaLocked()
	before, held := p.have, p.held
	p.have, p.held = files, map[string]broker.Service{}
	var services []broker.Service
	for i := range files {
		f := &files[i]
		s := f.Service
		if f.Err == nil && len(services) == maxServices {
			f.Err = fmt.Errorf("%s: not held: %d are the most", f.Name, maxServices)
		}
		if f.Err != nil {
			if !slices.ContainsFunc(before, func(o File) bool { return o.Name == f.Name && o.Err != nil && o.Err.Error() == f.Err.Error() }) {
				p.Say(f.Err.Error())
			}
			var ok bool
			if s, ok = held[f.Name]; !ok || f.Unheld || len(services) == maxServices {
				continue
			}
		}
		p.held[f.Name] = s
		services = append(services, s)
	}
	return services
}

func (p *process) readQuotaLocked() {
	if p.Quota == nil {
		return
	}
	q, err := p.Quota()
	before := p.bad
	if p.bad = ""; err == nil {
		p.quota.Store(&q)
		return
	}
	if p.bad = err.Error(); p.bad != before {
		p.Say(p.bad)
	}
}

// kept is the quota that is kept.
func (p *process) kept() supervise.Quota {
	if q := p.quota.Load(); q != nil {
		return *q
	}
	return supervise.Quota{}
}

// A reading is one of the definition files, for all who have asked before it begins.
type reading struct {
	done chan struct{}
	err  error // once done is closed
}

// reload has the broker hold what the files say now, and waits until it does. However
// many ask, there is one reading at a time, and one to come.
func (p *process) reload(ctx context.Context) error {
	p.mu.Lock()
	r := p.next
	if r == nil {
		r = &reading{done: make(chan struct{})}
		p.next = r
		p.under.Go(func() { p.readAgain(r) })
	}
	p.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *process) readAgain(r *reading) {
	defer close(r.done)
	p.reading.Lock()
	defer p.reading.Unlock()
	p.mu.Lock()
	p.next = nil // who asks from now on wants another
	p.mu.Unlock()
	services := p.read()
	if r.err = p.broker.Set(p.ctx, services); r.err != nil {
		return
	}
	select {
	case p.woken <- struct{}{}:
	default:
	}
	p.await(p.ctx, services)
	status := p.status()
	p.Say(status)
	_ = p.Manager.Status(status)
	r.err = p.ctx.Err()
}

// empty reports whether there is nothing to hold.
func (p *process) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held) == 0
}

// sockets are those that the service manager has bound for this broker's clients.
func (p *process) sockets() []net.Listener {
	var list []net.Listener
	for _, s := range p.Manager.Sockets {
		if s.Name != unit.SocketName {
			continue
		}
		ln, err := s.Listener()
		if err != nil {
			p.Say("the service manager's socket: " + err.Error())
			continue
		}
		list = append(list, ln)
	}
	return list
}

// answer answers clients at a listener until ctx ends.
func (p *process) answer(ctx context.Context, ln net.Listener) {
	if err := p.Serve(ctx, ln, &Control{p.broker, p}); err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		p.Say("no more answers at " + ln.Addr().String() + ": " + err.Error())
	}
}

// alive tells the service manager that the broker's loop goes round.
func (p *process) alive(ctx context.Context) {
	if p.Manager.Watchdog == 0 {
		return
	}
	tick := time.NewTicker(p.Manager.Watchdog / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if p.broker.Turn(ctx) == nil {
			_ = p.Manager.Alive()
		}
	}
}

// A Control is the broker as its clients may use it: what it holds, and which of the
// definitions. It is safe for concurrent use.
type Control struct {
	*broker.Broker
	p *process
}

// Reload reads the definition files again, and waits until what they say is held.
func (c *Control) Reload(ctx context.Context) error { return c.p.reload(ctx) }

// Enable has a service held from now on, by later brokers too, and waits until it is.
// The error is broker.ErrUnknown if no file defines it, and what is wrong with the
// file if that cannot be used.
func (c *Control) Enable(ctx context.Context, name string) error {
	if err := SetDisabled(ctx, c.p.Env, c.p.Instance, name, false); err != nil {
		return err
	}
	if err := c.p.reload(ctx); err != nil {
		return err
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, f := range c.p.have {
		if f.Name == name {
			return f.Err
		}
	}
	return broker.ErrUnknown
}

// Upgrade has the program that is at the broker's path now executed in place of this
// one, and returns only why not. Who asks gets the answer of that program at asker, a
// copy of which it gets, when all is held that was.
func (c *Control) Upgrade(ctx context.Context, asker syscall.Conn) error {
	return c.p.upgrade(ctx, asker)
}

// Disable has a service not held any more, by later brokers too. What runs of it runs
// on, and whoever dials it launches as without a broker.
func (c *Control) Disable(ctx context.Context, name string) error {
	if err := SetDisabled(ctx, c.p.Env, c.p.Instance, name, true); err != nil {
		return err
	}
	return c.p.reload(ctx)
}
