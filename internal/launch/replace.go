package launch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
	"github.com/fastbind/fastbind/internal/version"
)

var (
	errVersion     = errors.New("the daemon runs another build")
	errForeignHand = errors.New("the daemon knows nothing of fastbind and cannot hand its listener over")
	errNotWanted   = errors.New("the build that this client would launch does not meet what is wanted")
)

// limits are what this dial and its definition demand of the version.
func (b *Broker) limits() (version.Limits, error) {
	var l version.Limits
	var err error
	if b.Want != "" {
		if l.Want, err = version.ParseWant(b.Want); err != nil {
			return l, err
		}
	}
	if b.Def.MinVersion != "" {
		if l.Floor, err = version.ParseWant(">=" + b.Def.MinVersion); err != nil {
			return l, err
		}
	}
	for _, a := range b.Def.AllowVersions {
		w, err := version.ParseWant(a)
		if err != nil {
			return l, err
		}
		l.Allow = append(l.Allow, w)
	}
	return l, nil
}

// judged reports whether the build of who answers matters to this client at all.
func (b *Broker) judged() bool {
	return b.Want != "" || b.Def.OnVersion == definition.VersionReplace || b.Def.OnVersion == definition.VersionRefuse
}

// judge says what to do about the generation that answered at the endpoint in
// dir. Where it is of this client's own build that costs one readlink.
func (b *Broker) judge(dir string) (version.Action, *Fault) {
	if !b.judged() {
		return version.Use, nil
	}
	limits, err := b.limits()
	if err != nil {
		return version.RefuseIt, b.fault(Refusal, StagePolicy, err)
	}
	want := b.build()
	name, err := runtimedir.ReadCurrent(dir)
	if err != nil {
		// A cleaner may have removed it: whoever lives owns the endpoint.
		if owner := b.owner(dir); owner != "" {
			name, err = owner, nil
		}
	}
	if err == nil && genBuild(name) == buildDigest(want) && (b.unlimited() || version.Meets(want.Version, limits)) {
		return version.Use, nil
	}
	var r record.Record
	if err == nil {
		r, err = record.Read(filepath.Join(dir, name, record.FileName))
	}
	if err != nil {
		if b.Want == "" && b.Def.OnVersion == definition.VersionReplace {
			return version.Use, nil // nobody can replace what nobody knows
		}
		return version.RefuseIt, b.fault(Refusal, StagePolicy, err)
	}
	action, diffs := version.Decide(version.Policy(b.Def.OnVersion), buildOf(r), want, limits)
	if action == version.Use {
		return action, nil
	}
	f := b.fault(Refusal, StagePolicy, errVersion)
	f.Generation, f.Differences = r.Generation, differencesOf(diffs)
	f.Cure = "run: fastbind restart " + b.Def.Service
	if action == version.WaitForReplace {
		switch {
		case r.Definition.Foreign && !r.Backend && r.PID != 0:
			f.Err = errForeignHand
			return version.RefuseIt, f
		case !version.Meets(want.Version, limits):
			// A successor of ours would be excluded too, and replaced without end.
			f.Err = errNotWanted
			f.Cure = "install a version that is wanted, or want another one"
			return version.RefuseIt, f
		}
	}
	return action, f
}

// unlimited reports that no version is excluded as such.
func (b *Broker) unlimited() bool {
	return b.Want == "" && b.Def.MinVersion == "" && len(b.Def.AllowVersions) == 0
}

func differencesOf(list []version.Difference) []definition.Difference {
	var out []definition.Difference
	for _, d := range list {
		out = append(out, definition.Difference(d))
	}
	return out
}

// Suit makes sure that the generation at the endpoint in dir is one this client
// accepts. One of another build is replaced as the policy says: to an outdated
// one that is acceptable a successor is started, if nobody else is at it, and
// nil returned at once; one that is excluded is waited out, until a successor
// has taken over or nobody serves any more.
func (b *Broker) Suit(ctx context.Context, dir string) error {
	since := proc.BootTime()
	for {
		action, f := b.judge(dir)
		switch action {
		case version.Use:
			return nil
		case version.RefuseIt:
			b.Note(filepath.Dir(filepath.Dir(dir)), refusedEvent(f))
			return f
		case version.UseAndReplace:
			// What comes of it is the successor's affair and is on record; who
			// is served meanwhile has no complaint.
			_ = b.succeed(ctx, since)
			return nil
		}
		if err := b.succeed(ctx, since); err != nil {
			return err
		}
		err := b.awaitTakeover(ctx, dir, since)
		if _, ok := serving(dir); !ok {
			return nil // a dial launches
		}
		if err != nil {
			return err
		}
		// Somebody else may hold the lock.
		if sleep(ctx, settlePause) != nil {
			return b.DeadlineFault(ctx)
		}
	}
}

// settlePause is the time between two looks at a succession in which nobody can be
// waited for: somebody else holds the launch lock, for milliseconds.
const settlePause = time.Millisecond

// serving is the living generation that current names, unless it drains: it hands
// its listener to nobody any more, and a successor that was about to ask for it has
// failed for that.
func serving(dir string) (Entry, bool) {
	entries, err := Generations(dir)
	if err != nil {
		return Entry{}, false
	}
	e, ok := Current(dir, entries)
	return e, ok && e.Alive && e.Record.Phase != record.Draining
}

// succeed starts a successor to the generation that serves, unless one lives
// already or somebody else is at it.
func (b *Broker) succeed(ctx context.Context, since time.Duration) error {
	o, err := b.Ensure(ctx, Succeeds, StepLock, since)
	if o.Conn != nil {
		_ = o.Conn.Close()
	}
	return err
}

// Replace starts a successor whatever builds there are, and waits until it has
// taken over: the generation before drains. A service whose daemon cannot hand
// over is a *Fault of class Refusal.
func (b *Broker) Replace(ctx context.Context) error {
	place, err := b.find()
	if err != nil {
		return err
	}
	since := proc.BootTime()
	forced := *b
	forced.force = true
	for before := current(place.Dir); ; {
		switch e, ok := serving(place.Dir); {
		case !ok:
			return b.fault(NotRunning, StagePolicy, errNotRunning)
		case !e.Record.Backend:
			return b.fault(Refusal, StagePolicy, errForeignHand)
		case e.Name != before:
			return nil
		}
		if err := forced.succeed(ctx, since); err != nil {
			return err
		}
		err := forced.awaitTakeover(ctx, place.Dir, since)
		if _, ok := serving(place.Dir); err != nil && ok {
			return err
		}
		if sleep(ctx, settlePause) != nil {
			return b.DeadlineFault(ctx)
		}
	}
}

// awaitTakeover waits until current moves, or the successor has failed. It
// returns nil too when there is no successor any more: look again.
func (b *Broker) awaitTakeover(ctx context.Context, dir string, since time.Duration) error {
	before := current(dir)
	for {
		w, err := dirwatch.Open(dir)
		if err != nil {
			return nil
		}
		entries, err := Generations(dir)
		if err != nil || current(dir) != before {
			w.Close()
			return nil
		}
		var successor *Entry
		for i, e := range entries {
			if e.Record.Succeeds == before && e.Name != before {
				successor = &entries[i]
				break
			}
		}
		if successor != nil && successor.Alive && unadopted(*successor) {
			w.Close()
			return nil // who looks again under the lock ends it
		}
		if successor == nil || !successor.Alive {
			w.Close()
			if successor != nil {
				return b.successorFault(*successor, since)
			}
			return nil
		}
		files, err := dirwatch.OpenFiles(successor.Dir)
		if err != nil {
			w.Close()
			continue // it is gone
		}
		tick := time.NewTimer(takeoverLookEvery)
		select {
		case <-w.C():
		case <-files.C():
		case <-tick.C: // a killed successor writes nothing
		case <-ctx.Done():
		}
		tick.Stop()
		files.Close()
		w.Close()
		if ctx.Err() != nil {
			return b.DeadlineFault(ctx)
		}
	}
}

// unadopted reports whether a successor's time to show itself is over. Its
// launcher ends it, if that lives.
func unadopted(e Entry) bool {
	return !e.Record.Backend && proc.BootTime()-e.Record.LaunchedBoot > e.Record.Definition.Complete().AdoptWithin+time.Second
}

// takeoverLookEvery bounds how long the death of a successor goes unnoticed.
const takeoverLookEvery = 100 * time.Millisecond

// successorFault is why a successor that this dial waited for will not take
// over, nil if it ended before the dial began.
func (b *Broker) successorFault(e Entry, since time.Duration) error {
	r := e.Record
	if r.Failure == nil {
		r.Failure = settleVerdict(r)
		if r.Failure == nil {
			return nil
		}
		r.Failure.At = proc.BootTime()
	}
	if r.Failure.At <= since {
		return nil
	}
	f := RecordedFault(r)
	f.Cure = "the daemon before goes on serving; see: fastbind why " + b.Def.Service
	return f
}

// recent are the replacements that the flap detector may still count.
func recent(list []record.Replacement, now time.Duration) []record.Replacement {
	var out []record.Replacement
	for _, r := range list {
		if now-r.At < version.FlapWindow && r.At <= now {
			out = append(out, r)
		}
	}
	return out[max(0, len(out)-maxHistory):]
}

// maxHistory bounds the replacements in a record; the detector counts fewer.
const maxHistory = 8

func replacements(list []record.Replacement) []version.Replacement {
	var out []version.Replacement
	for _, r := range list {
		out = append(out, version.Replacement{At: r.At, From: r.From, To: r.To})
	}
	return out
}

// AskForListener asks the generation in the given directory for its listener, as
// its successor. The connection is the proof that the successor lives: it is to
// be kept until TakeOver, and closing it before lets the old one go on alone.
func AskForListener(ctx context.Context, place runtimedir.Place, genName string) (*control.Client, *os.File, error) {
	c, err := DialControl(ctx, place, genName)
	if err != nil {
		return nil, nil, err
	}
	f, err := c.Handover(ctx)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, f, nil
}
