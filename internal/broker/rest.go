package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// Left is what the broker before has left of a service. It is zero if that is nothing.
type Left struct {
	File  *os.File     // a listener, or nil
	Inode record.Inode // of the listener's names

	Further []launch.Left // those of the service's further endpoints

	// Same: that broker was this very process, which has executed another program. The
	// rest is so of no other.
	Same    bool
	Run     supervise.Run // the generation that serves, or is about to
	Leaving bool          // it has been asked to end, or ends by itself
	Owed    bool          // nobody runs, and somebody would be launched in its time
	Runs    []LeftRun     // all that have not ended
}

// A LeftRun is what was had of a generation.
type LeftRun struct {
	Number uint64
	Hold   *os.File // the connection that is our hold on it, or nil
	Notify *os.File // the socket that it notifies, or nil
	Status string   // what it has said of itself there
}

// Files are all files of what is left, with nil ones.
func (l *Left) Files() []**os.File {
	files := []**os.File{&l.File}
	for i := range l.Further {
		files = append(files, &l.Further[i].File)
	}
	for i := range l.Runs {
		files = append(files, &l.Runs[i].Hold, &l.Runs[i].Notify)
	}
	return files
}

// Close closes the files that nobody has taken.
func (l *Left) Close() {
	for _, f := range l.Files() {
		if *f != nil {
			_ = (*f).Close()
			*f = nil
		}
	}
}

// run is what is left of a generation, nil if that is nothing.
func (l *Left) run(number uint64) *LeftRun {
	if l == nil {
		return nil
	}
	if i := slices.IndexFunc(l.Runs, func(r LeftRun) bool { return r.Number == number }); i >= 0 {
		return &l.Runs[i]
	}
	return nil
}

// ErrBusy says that a broker does not come to rest.
var ErrBusy = errors.New("the broker is busy; try again")

// Rest brings the broker to rest and has f called, with what it holds by the names of
// the services' directories. Meanwhile nothing is half done: no launch or other effect
// is under way, nothing is received from daemons that is not dealt with, and what
// happens waits. A process that executes another program in f loses nothing of what it
// is called with. The files are copies, close-on-exec, and closed when f returns; then
// all goes on. f does not call the broker.
//
// The error is f's; ErrBusy if there is no rest before ctx ends, with whom that is
// waited for; or ErrEnded.
func (b *Broker) Rest(ctx context.Context, f func(map[string]Left) error) error {
	if err := b.workers.rest(ctx, &b.under); err != nil {
		return fmt.Errorf("%w (%s)", ErrBusy, cmp.Or(b.occupied(), "something is under way"))
	}
	defer b.workers.work(&b.under)
	for _, a := range b.aids.all() {
		resume, err := a.pause(ctx)
		if err != nil {
			return fmt.Errorf("%w (%s: its daemon says more than can be dealt with)", ErrBusy, a.service.Definition.Service)
		}
		defer resume()
	}
	var err error
	if cerr := b.call(ctx, func() {
		if len(b.leaving) > 0 {
			err = fmt.Errorf("%w (a service is being let go)", ErrBusy)
			return
		}
		var left map[string]Left
		left, err = b.passing()
		defer func() {
			for _, l := range left {
				l.Close()
			}
		}()
		if err == nil {
			fill := b.spare.Rest()
			defer func() {
				if fill(); b.spares.Load() {
					b.quiet.Reset(spareAfter)
				}
			}()
			err = f(left)
		}
	}); cerr != nil {
		return cerr
	}
	return err
}

// occupied names those for whom something is under way.
func (b *Broker) occupied() string {
	var names []string
	_ = b.call(context.Background(), func() {
		for name, s := range b.names {
			if s.machine.Busy() {
				names = append(names, name+": "+s.machine.State.String())
			}
		}
	})
	if slices.Sort(names); len(names) > maxOccupied {
		names = append(names[:maxOccupied], "…")
	}
	return strings.Join(names, ", ")
}

// maxOccupied bounds an error's text.
const maxOccupied = 8

// pause has nothing received from the daemon, and returns when all that was is dealt
// with but for what the loop does.
func (a *aid) pause(ctx context.Context) (resume func(), err error) {
	if a.events == nil {
		return func() {}, nil
	}
	if resume, err = a.socket.Pause(ctx); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	select {
	case a.sync <- done:
	case <-a.heard:
	case <-ctx.Done():
		resume()
		return nil, ctx.Err()
	}
	return resume, nil
}

// passing is what the broker would leave to itself. It is run by the loop.
func (b *Broker) passing() (map[string]Left, error) {
	all := map[string]Left{}
	for _, s := range b.services {
		l, err := s.passing()
		all[s.launch.DirName()] = l // with what is to be closed
		if err != nil {
			return all, fmt.Errorf("%s: %w", s.Definition.Service, err)
		}
	}
	return all, nil
}

func (s *service) passing() (l Left, err error) {
	m := s.machine
	run := m.Run
	run.Number = supervise.Generation(run.Number)
	l = Left{Same: true, Run: run, Leaving: m.State == supervise.Draining, Owed: m.Owed()}
	if s.held != nil {
		all, err := s.held.Copies(func(launch.Left) string { return "listener" })
		if err != nil {
			return l, err
		}
		l.File, l.Inode, l.Further = all[0].File, all[0].Inode, all[1:]
	}
	for _, r := range s.runs {
		if _, err := os.Lstat(r.entry.Dir); err != nil {
			continue // its directory was deleted: it ends by itself
		}
		left := LeftRun{Number: r.entry.Number, Status: r.status}
		if r.hold != nil {
			left.Hold, err = r.hold.File()
		}
		if err == nil && r.aid.socket != nil {
			left.Notify, err = r.aid.socket.File()
		}
		if l.Runs = append(l.Runs, left); err != nil {
			return l, err
		}
	}
	return l, nil
}

// resume goes on with a listener, and with those who had it, as this process's former
// program has left them.
func (b *Broker) resume(ctx context.Context, as Service, l *launch.Broker, h *launch.Holding, left *Left) func(*service) supervise.Event {
	var main, dead, leaving = (*run)(nil), (*run)(nil), []*run(nil)
	entries, _ := launch.Generations(h.Place.Dir)
	for _, e := range entries {
		lr, serves := left.run(e.Number), e.Number == left.Run.Number
		if !serves && lr == nil {
			continue
		}
		r, err := find(h.Place, e, lr)
		if err == nil {
			b.assist(ctx, as, l, r, lr)
		}
		switch {
		case err == nil && serves:
			main = r
			b.takeHoldAgain(ctx, h, r, left)
		case err == nil:
			leaving = append(leaving, r)
		case serves && errors.Is(err, proc.ErrGone) && !e.Alive:
			dead = &run{place: h.Place, entry: e, number: e.Number} // it is on record how it has ended
		}
	}
	return func(s *service) supervise.Event {
		b.keep(s, h)
		for _, r := range leaving {
			b.follow(s, r)
		}
		adopted := supervise.Adopted{Run: left.Run, Listener: true}
		switch {
		case dead != nil:
			b.next(s, adopted)
			return s.exited(dead)
		case main != nil:
			b.follow(s, main)
			adopted.Run.Number = main.number
			adopted.Run.Ready = adopted.Run.Ready || main.entry.Record.WasReady
			if b.next(s, adopted); left.Leaving {
				return supervise.Leaving{Number: main.number}
			}
			return nil
		case left.Owed:
			b.next(s, supervise.Bound{})
			return supervise.Requested{Verb: supervise.VerbLaunch}
		}
		return supervise.Bound{}
	}
}

// takeHoldAgain takes our hold on a backend that the former program had none on.
func (b *Broker) takeHoldAgain(ctx context.Context, h *launch.Holding, r *run, left *Left) {
	if r.hold != nil || !left.Run.Backend || left.Leaving {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	// It may be dying, end, or be stopped.
	r.hold, _, _ = r.aid.launch.TakeHold(ctx, h, r.entry)
}

// holdOf is the hold that a connection is.
func holdOf(f **os.File) *control.Client {
	if *f == nil {
		return nil
	}
	conn, err := net.FileConn(*f)
	_ = (*f).Close()
	if *f = nil; err != nil {
		return nil
	}
	return control.NewClient(conn)
}

// A former program's children are ours, and to be reaped by nobody else.

// raise waits for the end of the children that this process has from its former
// program, puts on record how they have ended as far as nobody does who follows them,
// and reaps them after that.
func (b *Broker) raise(ctx context.Context) {
	children, _ := proc.Children()
	for _, id := range children {
		if h, err := proc.Open(id); err == nil {
			b.under.Go(func() {
				defer h.Close()
				if h.Wait(ctx) == nil {
					b.bury(ctx, id, h)
				}
			})
		}
	}
}

// bury reaps a child that has ended.
func (b *Broker) bury(ctx context.Context, id proc.ID, h *proc.Handle) {
	var followed context.Context
	_ = b.call(ctx, func() {
		for _, s := range b.services {
			for _, r := range s.runs {
				if r.entry.Record.PID == id.PID && r.entry.Record.Start == id.Start && !r.moved() {
					followed = r.ctx
				}
			}
		}
	})
	if followed != nil {
		<-followed.Done() // that is on record by then, or we end
	}
	if ctx.Err() != nil {
		return // the next parent reaps it
	}
	exit, _ := h.Exit()
	for _, f := range launch.Services(b.config.Env) {
		for _, root := range b.config.Env.Roots() {
			place := runtimedir.Place{Root: root, Dir: filepath.Join(root, f.Instance, f.DirName)}
			entries, _ := launch.Generations(place.Dir)
			for _, e := range entries {
				if r := e.Record; r.PID == id.PID && r.Start == id.Start && r.Failure == nil && !r.Phase.Final() {
					launch.Of(b.config.Env, f, b.config.Client).RecordEnd(place, e, id.PID, exit, launch.Ending{})
				}
			}
		}
	}
	_, _, _ = h.Reap()
}

// disown says of the services that the former program held, and this one does not know,
// that they are held no more.
func (b *Broker) disown(ctx context.Context) {
	for _, f := range launch.Services(b.config.Env) {
		if b.names[f.Service] != nil {
			continue
		}
		for _, root := range b.config.Env.Roots() {
			if launch.Holder(filepath.Join(root, f.Instance, f.DirName)) == b.config.Holder {
				l := launch.Of(b.config.Env, f, b.config.Client)
				b.workers.do(&b.under, func() {
					ctx, cancel := context.WithTimeout(ctx, letGoWithin)
					defer cancel()
					_ = l.LetGo(ctx, b.config.Holder)
				})
			}
		}
	}
}
