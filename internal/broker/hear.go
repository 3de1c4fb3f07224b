package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// hear tells what a foreign daemon says of itself. announced is closed when that is
// READY=1. It ends when the aid's socket is closed.
func (b *Broker) hear(s *service, r *run, announced chan struct{}) {
	a := r.aid
	if a.events == nil {
		close(a.heard)
		return
	}
	b.under.Go(func() {
		defer close(a.heard)
		for {
			select {
			case e, ok := <-a.events:
				if !ok {
					return
				}
				if e.State == notify.Ready && announced != nil {
					close(announced)
					announced = nil
				}
				if e.Main != (proc.ID{}) {
					b.moveMain(s, r, e.Main)
				}
				a.hears(e)
				b.post(s.ctx, s.key, func(s *service) supervise.Event { return b.said(s, r, e) })
			case done := <-a.sync:
				close(done)
			}
		}
	})
}

// hears keeps why the daemon fails, if it says so.
func (a *aid) hears(e notify.Event) {
	var why []string
	if e.Errno != 0 {
		why = append(why, e.Errno.Error())
	}
	for _, w := range []string{e.BusError, e.VarlinkError} {
		if w != "" {
			why = append(why, w)
		}
	}
	if len(why) > 0 {
		a.mu.Lock()
		a.said = "it says: " + strings.Join(why, ", ")
		a.mu.Unlock()
	}
}

// moveMain makes another process the main one: its end is the generation's.
func (b *Broker) moveMain(s *service, r *run, to proc.ID) {
	h, err := proc.Open(to)
	if err != nil {
		return // it has ended; the one before it tells the end
	}
	if !r.setMain(h) {
		_ = h.Close()
		return
	}
	// Whoever looks for the generation finds it by that.
	_ = r.aid.launch.AppendRecord(r.place, r.entry, record.MainLines(to.PID, to.Start)...)
	b.under.Go(func() { b.awaitMain(r.ctx, s, r, h) })
}

// setMain reports whether h is a new main process.
func (r *run) setMain(h *proc.Handle) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.entry.Record.PID
	if r.launched != nil {
		was = r.launched.PID
	}
	if r.handle != nil {
		was = r.handle.PID()
	}
	if was == h.PID() {
		return false
	}
	if r.handle != nil {
		_ = r.handle.Close() // nobody waits for its end any more
	}
	r.handle, r.other = h, true
	return true
}

// said deals with a message. It is run by the loop.
func (b *Broker) said(s *service, r *run, e notify.Event) supervise.Event {
	number := r.number
	if s.runs[number] != r {
		return nil
	}
	if why := e.Refused + e.Problem; why != "" && !r.warned {
		r.warned = true // once: a daemon may go on like that
		s.note(journal.Event{Kind: "fallback", Generation: number, PID: e.From, Reason: "a message to NOTIFY_SOCKET does not count, or not wholly: " + why})
	}
	if e.Status != nil {
		r.status = *e.Status
	}
	var events []supervise.Event
	if e.ExtendBy > 0 {
		events = append(events, supervise.Extended{Number: number, By: e.ExtendBy})
	}
	// READY=1 is told by whoever looks for that sign: another may be the one.
	if e.State == notify.Stopping {
		events = append(events, supervise.Leaving{Number: number})
	}
	every := time.Duration(0)
	if e.WatchdogEvery != nil {
		every = *e.WatchdogEvery
	}
	switch {
	case e.Pulse == notify.Trigger:
		events = append(events, supervise.Despaired{Number: number})
	case e.Pulse == notify.Alive, every > 0:
		events = append(events, supervise.Alive{Number: number, Every: every})
	}
	for _, event := range events {
		b.next(s, event)
	}
	return nil
}

// A sight is where a daemon's readiness is looked for, as it was when its generation
// was first followed.
type sight struct {
	sign   probe.Sign
	target probe.Target
	given  bool // by the definition
	close  func()
}

// sight is made by the loop.
func (s *service) sight(r *run) sight {
	t := sight{sign: s.Sign, given: s.Sign.Kind != "", close: func() {}}
	if !t.given {
		t.sign = probe.Sign{Kind: probe.Accept}
	}
	log, offset := r.entry.Record.Log, r.entry.Record.LogOffset
	if e, _, err := r.known(); err == nil || e.Record.Log != "" {
		log, offset = e.Record.Log, e.Record.LogOffset
	}
	t.target = probe.Target{Network: "unix", Address: r.place.Sock(), Log: log, LogOffset: offset,
		Dir: s.Definition.Dir, Env: s.launch.Contract(), Unaccepted: r.unaccepted}
	if s.held != nil {
		if c, err := s.held.Socket().Copy(); err == nil {
			t.target.Listener, t.close = descriptor(c.FD()), func() { _ = c.Close() }
		}
	}
	return t
}

// awaitReady tells when a foreign daemon serves.
func (b *Broker) awaitReady(ctx context.Context, s *service, r *run, t sight, announced chan struct{}) {
	defer t.close()
	var err error
	switch {
	case t.sign.Kind != probe.Notify:
		err = probe.New(t.sign, t.target).Await(ctx)
	case r.found:
		// It may have said so while no broker heard it, or was never told to.
		err = b.announcedOrAccepts(ctx, t, announced)
	case r.aid.socket == nil:
		err = errors.ErrUnsupported
	default:
		t.target.Announced = announced
		err = probe.New(t.sign, t.target).Await(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && t.given:
		// No look can tell. Whoever waits is not to wait for ever for that.
		r.aid.note(journal.Event{Kind: "fallback", Reason: "taken for ready, since nobody can tell: " + err.Error()})
	}
	_ = r.aid.launch.AppendRecord(r.place, r.entry, record.PhaseLines(record.Ready, proc.BootTime())...)
	b.tell(s, supervise.Served{Number: r.number})
}

// announcedOrAccepts waits for whatever comes first.
func (b *Broker) announcedOrAccepts(ctx context.Context, t sight, announced <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan struct{})
	go func() {
		defer close(said)
		select {
		case <-announced:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := probe.New(probe.Sign{Kind: probe.Accept}, t.target).Await(ctx)
	cancel()
	<-said
	select {
	case <-announced:
		return nil
	default:
		return err
	}
}
