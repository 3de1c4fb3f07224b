package broker

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// run is a generation that has not ended.
type run struct {
	place    runtimedir.Place
	entry    launch.Entry
	launched *launch.Generation // if this broker has
	handle   *proc.Handle       // nil until it is known
	found    bool               // it serves already
	hold     *control.Client    // its end would end our hold; nil of a foreign daemon
	launch   *launch.Broker     // the service's when it was found
	end      context.CancelFunc
}

func nameOf(dir string) string { return filepath.Base(dir) }

// follow watches a generation to its end.
func (b *Broker) follow(s *service, r *run) {
	if old := s.runs[r.entry.Number]; old != nil {
		if r.hold != nil { // it is watched: only the hold is new
			if old.hold != nil {
				_ = old.hold.Close()
			}
			old.hold = r.hold
		}
		if r.handle != nil {
			_ = r.handle.Close()
		}
		return
	}
	ctx, end := context.WithCancel(s.ctx)
	r.end, r.launch = end, s.launch
	s.runs[r.entry.Number] = r
	if s.Definition.Foreign && !r.entry.Record.Backend {
		b.under.Go(func() { b.awaitForeign(ctx, s, r) })
	} else {
		b.under.Go(func() { b.converse(ctx, s, r) })
	}
	b.under.Go(func() { b.awaitEnd(ctx, s, r) })
}

// awaitEnd tells of the generation's end.
func (b *Broker) awaitEnd(ctx context.Context, s *service, r *run) {
	if r.launched != nil && r.launched.Ended != nil {
		select {
		case <-r.launched.Ended:
		case <-ctx.Done():
			return
		}
	} else if r.handle == nil || r.handle.Wait(ctx) != nil {
		return
	}
	number := r.entry.Number
	b.followHeir(ctx, s, r)
	b.post(ctx, s.key, func(s *service) supervise.Event {
		delete(s.runs, number)
		r.close()
		if r.wasReady() {
			b.next(s, supervise.Served{Number: number}) // who watched it may have been too late
		}
		return s.exited(r)
	})
}

func (r *run) close() {
	r.end()
	if r.hold != nil {
		_ = r.hold.Close()
	}
	if r.handle != nil {
		_ = r.handle.Close()
	}
}

// exited makes the event of a generation's end of what is on record.
func (s *service) exited(r *run) supervise.Event {
	e := supervise.Exited{Number: r.entry.Number, Waiting: s.held != nil && s.held.Socket().Waits()}
	rec, err := record.Read(filepath.Join(r.entry.Dir, record.FileName))
	if err != nil {
		e.End = supervise.EndUnknown
		return e
	}
	e.Asked = rec.Stopped
	e.End = endOf(rec)
	if f := launch.RecordedFault(rec); f != nil {
		e.Reason = f.Error()
	}
	return e
}

func endOf(r record.Record) supervise.End {
	f := r.Failure
	switch {
	case f == nil && r.Phase == record.Gone:
		return supervise.EndClean
	case f == nil, f.Unknown:
		return supervise.EndUnknown
	case f.Signal == "killed":
		return supervise.EndKilled
	case f.Signal == "terminated", f.Signal == "interrupt", f.Signal == "hangup":
		return supervise.EndTerminated
	case f.Signal != "":
		return supervise.EndSignal
	case f.Status == 0:
		return supervise.EndClean
	}
	return supervise.EndStatus
}

// converse watches what a backend says of itself, and takes our hold on it.
func (b *Broker) converse(ctx context.Context, s *service, r *run) {
	unheld := r.launched != nil
	for ctx.Err() == nil {
		c, err := launch.DialControl(ctx, r.place, r.entry.Name)
		if err != nil {
			return // it is dead, or an outsider has deleted its endpoint
		}
		settled, bound := false, false
		_ = c.Watch(ctx, launch.Nonce(), func(id control.Identity) bool {
			if bound = unheld && id.Phase != control.Phase(record.Launching); bound {
				return true
			}
			settled = b.said(ctx, s, r, id)
			return settled
		})
		if bound {
			unheld = false
			_ = c.Close()
			b.under.Go(func() { b.takeHold(ctx, s, r) })
			continue
		}
		_ = c.Close()
		if settled {
			return
		}
		// It had no place for one more who watches: ask again.
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// takeHold makes true what a generation that we have launched was told: that we hold
// its listener. One that is ending already keeps to it without that.
func (b *Broker) takeHold(ctx context.Context, s *service, r *run) {
	within, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	c, f, err := b.askForHold(within, r)
	for err != nil && again(within) { // a broker before us may be taken for the holder still
		c, f, err = b.askForHold(within, r)
	}
	if err != nil {
		return
	}
	_ = f.Close() // we have it
	b.post(ctx, s.key, func(s *service) supervise.Event {
		if s.runs[r.entry.Number] == r && r.hold == nil {
			r.hold = c
		} else {
			_ = c.Close()
		}
		return nil
	})
}

func (b *Broker) askForHold(ctx context.Context, r *run) (*control.Client, *os.File, error) {
	c, err := launch.DialControl(ctx, r.place, r.entry.Name)
	if err != nil {
		return nil, nil, err
	}
	f, err := c.Hold(ctx, b.config.Holder)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, f, nil
}

// followHeir looks, when a backend ends, whether it has a successor that somebody else
// has launched: that one has the listener, and takes its hold over.
func (b *Broker) followHeir(ctx context.Context, s *service, r *run) {
	entries, err := launch.Generations(r.place.Dir)
	e, ok := launch.Serving(r.place.Dir, entries)
	if err != nil || !ok || e.Record.Succeeds != r.entry.Name {
		return
	}
	number := r.entry.Number
	adopted := b.adopt(ctx, r.launch, r.place)
	b.post(ctx, s.key, func(s *service) supervise.Event {
		if a, ok := adopted(s).(supervise.Adopted); ok && a.Run.Number != number {
			return supervise.Succeeded{Number: number, Run: a.Run}
		}
		return nil
	})
}

// askAgain is the time between two attempts at a control endpoint that is crowded.
const askAgain = 100 * time.Millisecond

// said tells what a backend says, and reports whether there is no more to hear.
func (b *Broker) said(ctx context.Context, s *service, r *run, id control.Identity) bool {
	number := r.entry.Number
	switch id.Phase {
	case control.Ready:
		b.tell(s, supervise.Served{Number: number})
		return true
	case control.Draining:
		// Phases that followed each other fast are told as one.
		if r.wasReady() {
			b.tell(s, supervise.Served{Number: number})
		}
		b.followHeir(ctx, s, r)
		b.tell(s, supervise.Leaving{Number: number})
		return true
	case control.Phase(record.Gone), control.Phase(record.Failed):
		return true
	}
	return false
}

// wasReady reports whether the record says that the generation has been ready.
func (r *run) wasReady() bool {
	rec, err := record.Read(filepath.Join(r.entry.Dir, record.FileName))
	return err == nil && rec.WasReady
}

// awaitForeign tells when a foreign daemon serves. It announces nothing.
func (b *Broker) awaitForeign(ctx context.Context, s *service, r *run) {
	b.tell(s, supervise.Served{Number: r.entry.Number})
}

// known has the generation's process opened, once it is on record.
func (r *run) known() error {
	if r.handle != nil {
		return nil
	}
	rec, err := record.Read(filepath.Join(r.entry.Dir, record.FileName))
	if err != nil {
		return err
	}
	r.entry.Record = rec
	r.handle, err = r.entry.Open()
	return err
}
