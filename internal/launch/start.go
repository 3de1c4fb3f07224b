package launch

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// ErrSelf says that this process is the service's daemon, not yet adopted.
var ErrSelf = errors.New("launched as the daemon of this service")

// CheckSelf returns ErrSelf if this process was launched as the daemon of the
// service and has not taken its listener.
func (b *Broker) CheckSelf() error {
	h := handover.Pending()
	if h != nil && h.Service == b.Def.Service && h.Instance == b.Def.Instance {
		return ErrSelf
	}
	return nil
}

// Start makes sure that the endpoint is bound and returns where it is.
func (b *Broker) Start(ctx context.Context, start time.Time) (runtimedir.Place, error) {
	o, err := b.Ensure(ctx, b.Mode(), StepConnect, proc.BootTime()-time.Since(start))
	if o.Conn != nil {
		_ = o.Conn.Close()
	}
	if err != nil {
		return o.Place, err
	}
	if o.Place.Dir == "" { // it attached by a guess
		if o.Place, err = b.find(); err != nil {
			return o.Place, err
		}
	}
	if o.Launched == nil {
		err = b.Suit(ctx, o.Place.Dir)
	}
	return o.Place, err
}

var errNoAnnouncement = errors.New("its endpoint accepts connections, but a foreign daemon does not announce when it is ready")

// AwaitReady waits until the service's generation is ready and calls progress
// with what it reports meanwhile. It blocks until then, until the generation
// has failed, or until ctx ends.
func (b *Broker) AwaitReady(ctx context.Context, progress func(message string, fraction float64)) error {
	place, err := b.find()
	if err != nil {
		return err
	}
	since := proc.BootTime()
	for {
		entries, err := b.generations(place)
		if err != nil {
			return b.fault(LaunchFailed, StageDirectory, err)
		}
		e := shown(place.Dir, entries)
		if e == nil {
			return b.fault(NotRunning, StageWait, errNotRunning)
		}
		ready, err := b.followReady(ctx, place, *e, progress)
		switch {
		case ready:
			return nil
		case ctx.Err() != nil:
			return b.DeadlineFault(ctx)
		case err != nil:
			if f, ok := errors.AsType[*Fault](err); ok && f.Class == Refusal {
				b.NoteRefusal(f)
			}
			return err
		}
		// It ended, which its record will say, or it had no place for one more
		// watcher: ask again a moment later.
		if f := b.Verdict(Lost{Since: since, Peer: e.Record.PID}); f != nil {
			return f
		}
		if sleep(ctx, minDialPause) != nil {
			return b.DeadlineFault(ctx)
		}
	}
}

// followReady watches one generation. Without an error it is ready, or it has
// ended.
func (b *Broker) followReady(ctx context.Context, place runtimedir.Place, e Entry, progress func(string, float64)) (bool, error) {
	if !e.Alive {
		return false, b.endedFault(e)
	}
	if e.Record.Definition.Foreign && !e.Record.Backend {
		announced, err := b.awaitBackend(ctx, e)
		if err != nil || !announced {
			return false, err
		}
	}
	c, err := DialControl(ctx, place, e.Name)
	if err != nil {
		// A cleaner may have removed its socket; the record tells it too.
		return e.Record.Phase == record.Ready, nil
	}
	defer c.Close()
	ready := false
	var last control.Progress
	ctx, heard, silent := b.watchSilence(ctx, e)
	_ = c.Watch(ctx, Nonce(), func(id control.Identity) bool {
		heard()
		ready = id.Phase == control.Phase(record.Ready)
		if id.Progress != nil && *id.Progress != last {
			last = *id.Progress
			progress(last.Message, last.Fraction)
		}
		return ready
	})
	if f := silent(); f != nil && !ready {
		return false, f
	}
	return ready, nil
}

// watchSilence asks whether a generation is hung whenever it has not been heard of
// for hang_after, and ends the context it returns if so. silent ends the watch and
// returns what was found.
func (b *Broker) watchSilence(parent context.Context, e Entry) (ctx context.Context, heard func(), silent func() *Fault) {
	ctx, cancel := context.WithCancel(parent)
	// A question under way goes on for a moment after the end: a generation that was
	// killed for its hanging ends the watch of it.
	asking, giveUp := context.WithCancel(context.WithoutCancel(parent))
	word := make(chan struct{}, 1)
	found := make(chan *Fault, 1)
	go func() {
		defer close(found)
		after := max(b.Def.HangAfter, minAsk)
		t := time.NewTimer(after)
		defer t.Stop()
		for began := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-word:
				began = time.Now()
			case <-t.C:
				if f := b.Hang(asking, Silence{Peer: e.Record.PID, For: time.Since(began)}); f != nil {
					found <- f
					cancel()
					return
				}
			}
			t.Reset(after)
		}
	}()
	heard = func() {
		select {
		case word <- struct{}{}:
		default:
		}
	}
	return ctx, heard, func() *Fault {
		cancel()
		defer giveUp()
		defer time.AfterFunc(lateWithin, giveUp).Stop()
		return <-found
	}
}

// endedFault says why a dead generation will not become ready.
func (b *Broker) endedFault(e Entry) error {
	r := e.Record
	if r.Failure == nil {
		r.Failure = settleVerdict(r)
	}
	if f := RecordedFault(r); f != nil {
		return f
	}
	return b.fault(NotRunning, StageWait, errNotRunning)
}

// awaitBackend waits for a program that was launched as a foreign daemon to
// show that it is an SDK backend after all. One that knows nothing of fastbind
// never will, so it gets as long as adopting may take, from its launch on.
func (b *Broker) awaitBackend(ctx context.Context, e Entry) (bool, error) {
	left := e.Record.Definition.Complete().AdoptWithin - (proc.BootTime() - e.Record.LaunchedBoot)
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	w, err := dirwatch.OpenFiles(e.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, b.fault(LaunchFailed, StageWait, err)
	}
	defer w.Close()
	for {
		r, err := record.Read(filepath.Join(e.Dir, record.FileName))
		if err != nil {
			return false, nil
		}
		if r.Backend || r.Phase.Final() {
			return r.Backend, nil
		}
		select {
		case <-ctx.Done():
			f := b.fault(Refusal, StageWait, errNoAnnouncement)
			f.Cure = "use --wait bound"
			return false, f
		case <-w.C():
		}
	}
}
