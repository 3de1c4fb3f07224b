package broker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// An aid is what this broker does for a generation beside the launch protocol: it has
// the socket that the daemon notifies, and keeps its limits. What it is made of is
// set before the generation is followed, and does not change after, but for what mu
// guards.
type aid struct {
	broker  *Broker
	service Service // as it was launched with, or found
	launch  *launch.Broker
	ctx     context.Context // ends when the broker has no more to do with the service
	found   limit.Available

	number uint64
	dir    string // of the generation
	socket *notify.Socket
	events <-chan notify.Event // nil if nothing is received
	limits *limit.Enforcement  // nil if none are wanted, nor were
	report limit.Report
	place  limit.Place

	known func()          // says that the above does not change any more
	knows <-chan struct{} // closed when that was said

	once sync.Once // close or undo

	sync  chan chan struct{} // to the goroutine that hears, which answers between two events
	heard chan struct{}      // closed when that has ended

	mu   sync.Mutex  // guards the fields below
	run  *run        // nil until it is followed
	said string      // why it fails, in its own words
	over bool        // it is closed, or about to be
	stop func() bool // keeps it from being closed with ctx; nil until that is so
}

// aids are those of the generations that live, by directory.
type aids struct {
	mu sync.Mutex
	of map[string]*aid
}

func (a *aids) get(dir string) *aid {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[dir]
}

func (a *aids) put(dir string, x *aid) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[string]*aid{}
	}
	a.of[dir] = x
}

func (a *aids) drop(dir string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, dir)
}

func (a *aids) all() []*aid {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.of))
}

// close closes those that are left when the broker ends, and waits for those that are
// being closed.
func (a *aids) close() {
	for _, x := range a.all() {
		x.close(false)
	}
}

// newAid returns the aid of a generation to come, or of one that was found. It belongs to
// the caller until that has called made.
func (b *Broker) newAid(ctx context.Context, s Service, l *launch.Broker) *aid {
	knows := make(chan struct{})
	a := &aid{broker: b, service: s, launch: l, ctx: ctx, sync: make(chan chan struct{}), heard: make(chan struct{}),
		known: sync.OnceFunc(func() { close(knows) }), knows: knows}
	if s.Limits != (limit.Wanted{}) {
		a.found = b.available(ctx, s.Definition.Instance)
	}
	return a
}

// aided returns the launch broker whose launches the aid takes part in.
func (a *aid) aided() *launch.Broker {
	l := *a.launch
	hook := *l.Hook
	hook.Prepare = a.prepare
	l.Hook = &hook
	return &l
}

// notifies reports whether the daemon is told where to notify: a definition that
// counts on it says so. Others get no variable that they may take for systemd's.
func (s Service) notifies() bool {
	return s.Definition.Foreign && (s.Sign.Kind == probe.Notify || s.Access != "" || s.Policy.Watchdog > 0)
}

// prepare makes what the fork needs.
func (a *aid) prepare(p launch.Preparing) (*launch.Aid, error) {
	a.number, a.dir = p.Number, p.Dir
	out := &launch.Aid{Admit: a.admit, Ended: a.ended, Undo: a.undo}
	if a.service.notifies() {
		socket, err := notify.Bind(filepath.Join(p.Addr, notify.FileName))
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			// How it is seen to be ready then, is noted where that is looked at.
		case err != nil:
			return nil, err
		default:
			a.socket = socket
			out.Env = socket.Variables(a.service.Policy.Watchdog)
			out.Lines = []record.Line{record.NotifyLine(filepath.Join(p.Addr, notify.FileName))}
		}
	}
	if a.service.Limits != (limit.Wanted{}) {
		d := a.service.Definition
		e, err := limit.Prepare(limit.Name(a.root(), d.Instance, d.Service, filepath.Base(p.Dir)), a.service.Limits, a.found)
		if err != nil {
			a.undo()
			return nil, err
		}
		a.limits = e
		out.Script, out.Wrap, out.Stdin, out.Cgroup = e.Script(), e.Wrap, e.Stdin(), e.Into
	}
	a.broker.aids.put(a.dir, a)
	return out, nil
}

// undo gives back what prepare has made. There is no process.
func (a *aid) undo() {
	a.once.Do(func() {
		a.ending()
		a.letGo(func() {
			// What died in it is about to leave it.
			_ = a.remove(time.Second)
		})
	})
}

// admit puts the process under its limits and begins to receive.
func (a *aid) admit(ctx context.Context, pid int) []record.Line {
	defer a.known()
	var lines []record.Line
	if a.limits != nil {
		// The error is that it has died, which is told by its end.
		a.report, _ = a.limits.Admit(ctx, pid)
		a.place = a.limits.Place()
		var limits []string
		for _, e := range a.report {
			limits = append(limits, e.String())
		}
		lines = record.LimitLines(a.place.Encode(), limits)
		if !a.report.Complete() {
			a.note(journal.Event{Kind: "fallback", PID: pid, Reason: "limits: " + strings.ReplaceAll(a.report.String(), "\n", "; ")})
		}
	}
	if id, err := proc.Of(pid); err == nil {
		a.receive(id)
	}
	return lines
}

func (a *aid) receive(main proc.ID) {
	if a.socket != nil {
		a.events = a.socket.Receive(notify.Generation{Main: main, Cgroup: a.place.Cgroup}, a.service.Access)
	}
}

// adopt makes the aid of a generation that somebody else has launched. socket is the one
// that it notifies, if that is left, which it takes over.
func (a *aid) adopt(place runtimedir.Place, e launch.Entry, left **os.File) {
	a.number, a.dir = e.Number, e.Dir
	if p, err := limit.ParsePlace(e.Record.Place); err == nil && (p.By != limit.None || a.service.Limits != (limit.Wanted{})) {
		if a.service.Limits == (limit.Wanted{}) {
			a.found = a.broker.available(a.ctx, a.service.Definition.Instance) // to remove the place
		}
		a.limits = limit.Adopt(p, e.Record.PID, a.service.Limits, a.found)
		a.place, a.report = p, a.limits.Report()
	}
	// The name is the one that the daemon was told, as long as it leads to where it did.
	if path := filepath.Join(place.Addr, e.Name, notify.FileName); e.Record.Notify == path {
		socket, err := (*notify.Socket)(nil), error(nil)
		if f := *left; f != nil {
			*left = nil
			socket, err = notify.Adopt(path, f)
		}
		if socket == nil {
			socket, err = notify.Bind(path)
		}
		if err == nil {
			a.socket = socket
			a.receive(e.ID())
		}
	}
	a.known()
	a.broker.aids.put(a.dir, a)
}

// settleWithin bounds the wait for what a dead daemon has said to be dealt with.
const settleWithin = 5 * time.Second

// settle returns when everything that the daemon has said by now is dealt with.
func (a *aid) settle() {
	if a.events == nil {
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, settleWithin)
	defer cancel()
	a.socket.Settle(ctx)
	done := make(chan struct{})
	select {
	case a.sync <- done:
	case <-a.heard:
	case <-ctx.Done():
	}
}

// ended tells what is known of the launched process's end.
func (a *aid) ended(pid int, exit proc.Exit) launch.Ending {
	a.settle()
	a.mu.Lock()
	r := a.run
	a.mu.Unlock()
	if r != nil && r.moved() {
		return launch.Ending{Lives: true}
	}
	why := a.why(exit)
	if r == nil { // nobody follows it, or only to find it dead
		go a.close(true)
	}
	return why
}

// followed notes that the generation is.
func (a *aid) followed(r *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.run = r
}

// made says that nothing is added any more: it is closed with ctx, and at once if there
// is no generation that it was made for.
func (a *aid) made() {
	a.known()
	if a.dir == "" {
		a.undo()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.stop = context.AfterFunc(a.ctx, func() { a.close(false) })
	}
}

// ending says that it is not to be closed with ctx.
func (a *aid) ending() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over = true; a.stop != nil {
		a.stop()
	}
}

// why says what limits, and the daemon's own words, have to do with an exit.
func (a *aid) why(exit proc.Exit) launch.Ending {
	var e launch.Ending
	if a.limits != nil {
		var killed bool
		e.Cause, killed = a.limits.Death(a.ctx)
		e.Memory = killed && exit.Signal == syscall.SIGKILL
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	e.Cause = cmp.Or(e.Cause, a.said)
	return e
}

// close ends what was done for a generation that has ended, or that the broker
// leaves; with gone its limits and place are removed. It waits for stop_within for
// what the daemon has left behind, and ends it then, as systemd does
// (KillMode=control-group in systemd.kill(5)).
func (a *aid) close(gone bool) {
	a.once.Do(func() {
		a.ending()
		a.letGo(func() {
			if gone {
				a.clear()
			}
		})
	})
}

// letGo closes everything. The last is what takes time: limits, if there are any.
func (a *aid) letGo(limits func()) {
	defer a.broker.aids.drop(a.dir)
	if a.socket != nil {
		_ = a.socket.Close()
	}
	if a.limits != nil {
		limits()
		a.limits.Close()
	}
}

// clear removes the place, and what is left in it.
func (a *aid) clear() {
	err := a.remove(a.service.Policy.StopWithin)
	if left, ok := errors.AsType[*limit.PopulatedError](err); ok && a.ctx.Err() == nil {
		a.note(journal.Event{Kind: "stopped", Reason: "what it left behind is killed: " + left.Error()})
		_ = a.limits.Kill(a.ctx)
		err = a.remove(removeWithin)
	}
	if err != nil && a.ctx.Err() == nil {
		a.note(journal.Event{Kind: "fallback", Reason: "its cgroup stays: " + err.Error()})
	}
}

// removeWithin bounds the wait for killed processes to leave a cgroup.
const removeWithin = 5 * time.Second

func (a *aid) remove(within time.Duration) error {
	ctx, cancel := context.WithTimeout(a.ctx, within)
	defer cancel()
	return a.limits.Remove(ctx)
}

// note writes to the service's journal, about the generation.
func (a *aid) note(e journal.Event) {
	e.Generation = a.number
	a.launch.Note(a.root(), e)
}

// root is the runtime directory that the generation is in.
func (a *aid) root() string {
	return filepath.Dir(filepath.Dir(filepath.Dir(a.dir))) // root, instance, service, generation
}

// available finds out what can be limited, once, and removes what brokers have left
// that were killed. It blocks for 5 s for each manager that does not answer.
func (b *Broker) available(ctx context.Context, instance string) limit.Available {
	b.claim.Do(func() {
		claim := b.config.Claim
		if claim == nil {
			claim = func(ctx context.Context) limit.Available {
				return limit.Claim(ctx, limit.Managers(b.config.Env.EUID, b.config.Env.XDGRuntime))
			}
		}
		b.found = claim(ctx)
		living := b.places(instance)
		ctx, cancel := context.WithTimeout(ctx, sweepWithin)
		defer cancel()
		for _, root := range b.config.Env.Roots() {
			// What could not be removed is tried by the next broker.
			_, _ = limit.Sweep(ctx, root, instance, b.found, func(name string) bool { return living[name] })
		}
	})
	return b.found
}

// sweepWithin bounds the removal of what others have left.
const sweepWithin = 10 * time.Second

// places returns the names of the places of the generations that live.
func (b *Broker) places(instance string) map[string]bool {
	names := map[string]bool{}
	for _, f := range launch.Services(b.config.Env) {
		if f.Instance != instance {
			continue
		}
		for _, root := range b.config.Env.Roots() {
			entries, _ := launch.Generations(filepath.Join(root, f.Instance, f.DirName))
			for _, e := range entries {
				if place, err := limit.ParsePlace(e.Record.Place); err == nil && e.Alive {
					names[place.Name] = true
				}
			}
		}
	}
	return names
}
