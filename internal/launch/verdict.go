package launch

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

var (
	errStoppedUnanswered = errors.New("the daemon was stopped before it answered")
	errLauncherLeft      = errors.New("the launcher ended before it had started the daemon")
	errRecordDeleted     = errors.New("the process is gone, and so is its record: the service's directory was deleted")
)

// A Lost connection ended before its first byte.
type Lost struct {
	Since time.Duration // boot-time clock when the dial began
	Peer  int           // pid of who listened when it was made, 0 if unknown
	Reset bool          // it was reset, not ended
}

// verdictWithin bounds the wait for a process that is dying to be dead, and for
// who saw it die to write that down. It takes a few milliseconds; on an
// overloaded machine 100 ms was too little, and a launcher that lived was said to
// have left.
const verdictWithin = time.Second

// ending reports whether the generation has failed or its process is dead or
// dying: its descriptors are closed before it counts as dead.
func (e Entry) ending() bool {
	return !e.Alive || e.Record.Failure != nil || proc.Exiting(e.Record.PID)
}

// Verdict returns why a connection was lost, nil if its generation lives. It
// waits, at most a second, for a generation that is dying and for who saw it die
// to write that down.
func (b *Broker) Verdict(l Lost) *Fault {
	place, err := b.find()
	if err != nil {
		return b.unrecorded(l)
	}
	for end := time.Now().Add(verdictWithin); ; time.Sleep(verdictPause) {
		entries, err := Generations(place.Dir)
		if err != nil {
			return b.unrecorded(l)
		}
		e := l.generation(entries)
		if e == nil && slices.ContainsFunc(entries, func(e Entry) bool { return e.Alive && !e.Record.Backend }) {
			return nil // a child of it may have listened, and may be the one that ended
		}
		if e == nil {
			return b.unrecorded(l)
		}
		ending := e.ending() || l.Reset && e.Record.Phase == record.Draining
		// A daemon that has drained, or a foreign one, has ended it by itself; a
		// backend that is gone without a drain was killed by a stop, and so may
		// one be that drained.
		own := !l.Reset && e.Record.Phase == record.Gone && !e.Record.Killed && (e.Record.Drained || !e.Record.Backend)
		if !ending || own {
			return nil
		}
		if !e.Alive && told(*e) || time.Now().After(end) {
			return b.lostTo(*e)
		}
	}
}

// unrecorded is the verdict where an outsider has deleted what was on record: a
// listener whose process is gone has reset who was in its queue, and so has one
// of our own making that its daemon never came to call its own. Who was accepted by
// a process that is gone was not answered either.
func (b *Broker) unrecorded(l Lost) *Fault {
	if l.Peer == 0 {
		return nil
	}
	for end := time.Now().Add(unrecordedWithin); ; time.Sleep(verdictPause) {
		_, err := proc.Of(l.Peer)
		if err == proc.ErrGone || err == nil && (proc.Exiting(l.Peer) || l.Reset && l.Peer == os.Getpid()) {
			f := b.fault(LaunchFailed, StageServe, errRecordDeleted)
			f.Unknown = true
			return f
		}
		if time.Now().After(end) {
			return nil
		}
	}
}

// unrecordedWithin bounds the wait for a launcher that lost the same connection,
// where the daemon had not come to listen itself, to end.
const unrecordedWithin = 200 * time.Millisecond

const verdictPause = 2 * time.Millisecond

// generation picks the one that the connection was to: the daemon itself once
// it listens, before that the launcher, is what the kernel names as the peer.
// Whoever failed since the dial began is the answer to a peer that is unknown.
func (l Lost) generation(entries []Entry) *Entry {
	for _, match := range []func(Entry) bool{
		func(e Entry) bool { return l.Peer != 0 && e.Record.PID == l.Peer },
		// A long-lived launcher has launched several: a dead or dying one lost it,
		// and none that had failed before there was a connection to lose.
		func(e Entry) bool {
			f := e.Record.Failure
			before := f != nil && !f.Unknown && f.At < l.Since
			dying := !e.Alive || e.Record.PID != 0 && proc.Exiting(e.Record.PID)
			return l.Peer != 0 && e.Record.Launcher == l.Peer && dying && !before
		},
		func(e Entry) bool {
			f := e.Record.Failure
			return f != nil && !f.Unknown && f.At > l.Since
		},
		func(e Entry) bool { return l.Peer != 0 && e.Record.Launcher == l.Peer },
	} {
		for i := range entries {
			if thisBoot(entries[i].Record) && match(entries[i]) {
				return l.outlived(entries, &entries[i])
			}
		}
	}
	return nil
}

// outlived returns e, unless that was dead when the dial began and its successor,
// which has the queue since, has failed later: then that.
func (l Lost) outlived(entries []Entry, e *Entry) *Entry {
	after := func(f *record.Failure) bool { return f != nil && !f.Unknown && f.At > l.Since }
	if e.Alive || after(e.Record.Failure) {
		return e
	}
	for i := range entries {
		if h := &entries[i]; h.Record.Succeeds == e.Name && after(h.Record.Failure) {
			return h
		}
	}
	return e
}

// lostTo is the fault of a connection to a generation that has ended.
func (b *Broker) lostTo(e Entry) *Fault {
	r := e.Record
	if r.Phase == record.Gone || (r.Phase == record.Draining || r.Stopped) && r.Failure == nil {
		f := b.fault(LaunchFailed, StageServe, errStoppedUnanswered)
		f.Generation, f.Log = r.Generation, r.Log
		return f
	}
	if r.Failure == nil {
		r.Failure = settleVerdict(r)
	}
	if r.Failure == nil {
		f := b.fault(LaunchFailed, StageSpawn, errLauncherLeft)
		f.Generation = r.Generation
		return f
	}
	return RecordedFault(r)
}

// told reports whether no more will be said of the end of a dead generation:
// how its process ended is known, or nobody lives who would write it. A daemon
// that says why it fails cannot say how it ends.
func told(e Entry) bool {
	r := e.Record
	switch f := r.Failure; {
	case r.Phase == record.Gone, !launcherLives(r):
		return true
	case f == nil:
		return false
	default:
		return f.Status >= 0 || f.Signal != "" || f.Unknown || r.PID == 0
	}
}

// launcherLives reports whether a process with the launcher's number lives. It
// only decides how long to wait, so a stranger of that number does no harm.
func launcherLives(r record.Record) bool {
	_, err := proc.Of(r.Launcher)
	return err == nil
}

// setExit notes how the process ended.
func setExit(f *record.Failure, exit proc.Exit) {
	f.Unknown = !exit.Known
	if exit.Known && exit.Signal == 0 {
		f.Status = exit.Code
	}
	if exit.Signal != 0 {
		f.Signal = exit.Signal.String()
	}
}

// stageOf is the stage that a generation in the record's phase was in.
func stageOf(r record.Record) string {
	if r.Failure != nil {
		return r.Failure.Stage
	}
	switch {
	case r.WasReady, r.Definition.Foreign && !r.Backend && r.Phase == record.Bound:
		return StageServe
	case r.Phase == record.Loading:
		return StageLoad
	case r.Backend && r.Phase == record.Launching && r.Definition.Bind == definition.BindDaemon:
		return StageBind
	}
	return StageAdopt
}
