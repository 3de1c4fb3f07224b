package broker

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// run is a generation that has not ended. What mu does not guard belongs to the loop,
// or does not change once it is followed.
type run struct {
	place    runtimedir.Place
	entry    launch.Entry
	number   uint64             // by which the machine knows it
	launched *launch.Generation // if this broker has
	began    time.Duration      // boot-time clock when it was, 0 of one that was found
	found    bool               // it serves already
	asked    bool               // this broker has asked it to end
	hold     *control.Client    // its end would end our hold; nil of a foreign daemon
	aid      *aid
	ctx      context.Context // ends with it, or with our interest in it
	end      context.CancelFunc
	looking  sync.WaitGroup // the goroutine that looks for its readiness

	status  string // what it says of itself
	warned  bool   // that some message of it does not count
	readyAt time.Time
	stall   stall
	used    time.Duration // boot-time clock: when somebody was seen to need it last, or it was found

	mu     sync.Mutex      // guards the fields below
	held   *launch.Holding // what it serves from, as far as we have that, by shareOf
	handle *proc.Handle    // of the main process, nil until it is known
	other  bool            // the main process is not the one that was launched or found
	ours   []*net.UnixConn // connections of ours that nobody has accepted
}

func nameOf(dir string) string { return filepath.Base(dir) }

// backend reports whether the generation implements the contract.
func (r *run) backend(s *service) bool {
	return !s.Definition.Foreign || r.entry.Record.Backend
}

// run returns the generation of that directory, nil if it is not watched.
func (s *service) run(dir string) *run {
	for _, r := range s.runs {
		if r.entry.Dir == dir {
			return r
		}
	}
	return nil
}

// lives reports whether a generation may live that is not the current one any more.
func (s *service) lives() bool {
	for _, r := range s.runs {
		r.mu.Lock()
		alive := r.handle == nil || r.handle.Alive()
		r.mu.Unlock()
		if alive && r.number != s.machine.Run.Number {
			return true
		}
	}
	return false
}

// follow watches a generation to its end. It gives it the number by which the machine
// knows it.
func (b *Broker) follow(s *service, r *run) {
	if old := s.run(r.entry.Dir); old != nil {
		r.number = old.number
		if r.hold != nil { // it is watched: only the hold is new
			if old.hold != nil {
				_ = old.hold.Close()
			}
			old.hold = r.hold
			if held := r.serving(); held != nil {
				old.serves(held)
				if held.Told() != nil {
					b.holdOn(old.ctx, s, old, held.Told())
				}
			}
		}
		if r.handle != nil {
			_ = r.handle.Close()
		}
		giveUp(r.held)
		return
	}
	ctx, end := context.WithCancel(s.ctx)
	r.ctx, r.end = ctx, end
	r.number = r.entry.Number
	for nth := 1; s.runs[r.number] != nil; nth++ {
		r.number = supervise.Distinct(r.entry.Number, nth)
	}
	s.runs[r.number] = r
	r.used = proc.BootTime()
	b.reweigh()
	h := r.handle // as it was found
	r.aid.followed(r)
	if r.backend(s) {
		if held := r.serving(); held != nil && held.Told() != nil {
			b.holdOn(ctx, s, r, held.Told())
		}
		r.looking.Go(func() { b.converse(ctx, s, r) })
	} else {
		announced := make(chan struct{})
		if ready := r.entry.Record.WasReady; !ready {
			sight := s.sight(r)
			r.looking.Go(func() { b.awaitReady(ctx, s, r, sight, announced) })
		}
		b.hear(s, r, announced) // from now on it may end, which waits for who looks
	}
	b.under.Go(r.looking.Wait)
	if r.launched != nil && r.launched.Ended != nil {
		b.under.Go(func() { b.awaitChild(ctx, s, r) })
	} else if h != nil {
		b.under.Go(func() { b.awaitMain(ctx, s, r, h) })
	}
}

// awaitChild tells of the end of a process that this broker has launched, unless it
// has made another one the main process by then.
func (b *Broker) awaitChild(ctx context.Context, s *service, r *run) {
	select {
	case <-r.launched.Ended:
	case <-ctx.Done():
		return
	}
	if !r.moved() {
		b.over(s, r)
	}
}

// awaitMain tells of the end of a main process that is no child of ours, as long as
// it is that.
func (b *Broker) awaitMain(ctx context.Context, s *service, r *run, h *proc.Handle) {
	if h.Wait(ctx) != nil {
		return // or another one is the main process now
	}
	r.aid.settle()
	if !r.isMain(h) {
		return
	}
	exit := exitOf(h)
	r.aid.launch.RecordEnd(r.place, r.entry, h.PID(), exit, r.aid.why(exit))
	b.over(s, r)
}

// exitOf returns how a dead process ended. Of somebody else's child that is known when
// its parent has reaped it.
func exitOf(h *proc.Handle) proc.Exit {
	for end := time.Now().Add(reapedWithin); ; time.Sleep(5 * time.Millisecond) {
		if exit, _ := h.Exit(); exit.Known || time.Now().After(end) {
			return exit
		}
	}
}

// reapedWithin bounds the wait for a dead daemon's parent, as a rule the first process,
// to reap it.
const reapedWithin = 200 * time.Millisecond

// over tells that the generation has ended. Whoever looks at it has ended before, so
// that no connection of ours passes for a client.
func (b *Broker) over(s *service, r *run) {
	r.end()
	r.looking.Wait()
	b.endHold(r)
	number := r.number
	b.followHeir(s.ctx, s, r)
	b.post(s.ctx, s.key, func(s *service) supervise.Event {
		if s.runs[number] != r {
			return nil
		}
		delete(s.runs, number)
		s.withdraw(r)
		r.close()
		b.under.Go(func() { r.aid.close(true) })
		if r.wasReady() {
			b.next(s, supervise.Served{Number: number}) // who watched it may have been too late
		}
		return s.exited(r)
	})
}

// close gives up what this broker has of a generation, but for its limits.
func (r *run) close() {
	r.end()
	if r.hold != nil {
		_ = r.hold.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handle != nil {
		_ = r.handle.Close()
	}
	giveUp(r.held)
	for _, c := range r.ours {
		_ = c.Close()
	}
	r.ours = nil
}

// moved reports whether another process is the main one by now.
func (r *run) moved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.other
}

func (r *run) isMain(h *proc.Handle) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handle == h
}

// serves notes what the generation serves from.
func (r *run) serves(from *launch.Holding) {
	from = shareOf(from)
	r.mu.Lock()
	defer r.mu.Unlock()
	giveUp(r.held)
	r.held = from
}

// serving returns that.
func (r *run) serving() *launch.Holding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// unaccepted keeps a connection of ours that nobody has accepted.
func (r *run) unaccepted(c *net.UnixConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ours = append(r.ours, c)
}

// taken closes those that somebody has accepted meanwhile: they pass for clients.
func (r *run) taken() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ours = slices.DeleteFunc(r.ours, func(c *net.UnixConn) bool {
		accepted, err := backlog.Accepted(c)
		if accepted && err == nil {
			_ = c.Close() // again, if it is stall.ours
		}
		return accepted && err == nil
	})
}

// withdraw takes our own connections out of the queue that a dead generation has left,
// if no others are in it: nobody is to be launched for them.
func (s *service) withdraw(r *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.held == nil || len(r.ours) == 0 {
		return
	}
	ours := map[backlog.Inode]bool{}
	for _, c := range r.ours {
		if inode, err := backlog.InodeOf(c); err == nil {
			ours[inode] = true
		}
	}
	waiting, err := backlog.Waiting(descriptor(s.held.Socket().FD()))
	if err != nil {
		return
	}
	for _, inode := range waiting {
		if !ours[inode] {
			return // who is launched for a client meets ours too
		}
	}
	for range waiting {
		if s.held.Socket().Discard() != nil {
			return
		}
	}
}

// exited makes the event of a generation's end of what is on record.
func (s *service) exited(r *run) supervise.Event {
	e := supervise.Exited{Number: r.number, Waiting: s.held != nil && s.held.Waits()}
	rec, err := record.Read(filepath.Join(r.entry.Dir, record.FileName))
	if err != nil {
		e.End = supervise.EndUnknown
		s.failed(launch.StageServe, "its record cannot be read: "+err.Error())
		return e
	}
	if e.Asked = rec.Stopped; r.asked {
		reason := "asked to"
		if rec.Killed {
			reason = "killed: it did not end in time"
		}
		s.note(journal.Event{Kind: "stopped", Generation: r.entry.Number, PID: rec.PID, Reason: reason})
	}
	e.End = endOf(rec)
	switch f := launch.RecordedFault(rec); {
	case f != nil:
		e.Reason = f.Error()
		if !rec.Stopped {
			s.failed(f.Stage, e.Reason)
		}
	case rec.Phase != record.Gone && !rec.Stopped:
		// Its parent has not reaped it, and nobody else can tell.
		e.Reason = "the process is gone, exit status unknown"
		s.failed(launch.StageServe, e.Reason)
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
	case f.Kind == launch.KindMemory:
		return supervise.EndMemory
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
			settled = b.says(ctx, s, r, id)
			return settled
		})
		if bound {
			unheld = false
			_ = c.Close()
			b.holdOn(ctx, s, r, nil)
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
// its listener. One that is ending already keeps to it without that. It returns what the
// hold's life is, and when it tells of its queue no more (see launch.TakeHold), or nil.
func (b *Broker) takeHold(ctx context.Context, s *service, r *run, held *launch.Holding) (*control.Client, <-chan struct{}) {
	within, cancel := context.WithTimeout(ctx, adoptWithin)
	defer cancel()
	c, told, err := r.aid.launch.TakeHold(within, held, r.entry)
	for err != nil && r.ctx.Err() == nil && again(within) { // a broker before us may be taken for the holder still
		c, told, err = r.aid.launch.TakeHold(within, held, r.entry)
	}
	if err != nil {
		return nil, nil
	}
	b.post(s.ctx, s.key, func(s *service) supervise.Event {
		if s.runs[r.number] == r && r.hold == nil {
			r.hold = c
		} else {
			_ = c.Close()
		}
		return nil
	})
	return c, told
}

// followHeir looks, when a backend ends, whether it has a successor that somebody else
// has launched: that one has the listener, and takes its hold over.
func (b *Broker) followHeir(ctx context.Context, s *service, r *run) {
	entries, err := launch.Generations(r.place.Dir)
	e, ok := launch.Serving(r.place.Dir, entries)
	if err != nil || !ok || e.Record.Succeeds != r.entry.Name {
		return
	}
	number := r.number
	adopted := b.adopt(ctx, r.aid.service, r.aid.launch, r.place, nil)
	b.post(ctx, s.key, func(s *service) supervise.Event {
		if a, ok := adopted(s).(supervise.Adopted); ok && a.Run.Number != number {
			return supervise.Succeeded{Number: number, Run: a.Run}
		}
		return nil
	})
}

// askAgain is the time between two attempts at a control endpoint that is crowded.
const askAgain = 100 * time.Millisecond

// says tells what a backend says, and reports whether there is no more to hear.
func (b *Broker) says(ctx context.Context, s *service, r *run, id control.Identity) bool {
	number := r.number
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

// known returns the generation as it is on record now, and its main process.
func (r *run) known() (launch.Entry, *proc.Handle, error) {
	e := r.entry
	rec, err := record.Read(filepath.Join(e.Dir, record.FileName))
	if err == nil {
		e.Record = rec
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handle == nil && err == nil {
		r.handle, err = e.Open()
	}
	if r.handle == nil {
		return e, nil, err
	}
	return e, r.handle, nil
}
