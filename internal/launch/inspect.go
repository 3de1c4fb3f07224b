package launch

import (
	"context"
	"errors"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Status is what can be seen of a service without changing anything.
type Status struct {
	Place       runtimedir.Place
	Generations []Entry // the newest first

	// Shown is the generation that the rest is about: the one current names,
	// or a living one if that is dead. Nil if there is none. If somebody accepts
	// at the endpoint and none lives, it has no number and pid, and an Err.
	Shown *Entry
	Phase record.Phase

	// Identity is the daemon's own answer, nil if it gave none.
	Identity *control.Identity

	// LastFailure is the newest failure on record, nil if there is none.
	LastFailure *Fault

	// Further are the names of the further endpoints that the shown generation was
	// launched with, or that are held.
	Further []string

	// Environment are the contracted variables in which this client differs
	// from the shown generation.
	Environment []definition.Difference

	// Held: a standing broker holds the endpoint, and launches for who connects.
	Held bool

	// RetryAt is when a dial may launch again, zero if it may now.
	RetryAt time.Time
}

// Alive reports whether the shown generation lives.
func (s Status) Alive() bool { return s.Shown != nil && s.Shown.Alive }

// identifyWithin bounds the question to a control endpoint: a stopped daemon
// accepts and never answers, and its status is wanted all the same.
const identifyWithin = 300 * time.Millisecond

// Inspect looks at the service. It takes no lock, starts nothing and deletes
// nothing; it blocks for reading some files and at most 300 ms for the daemon's
// answer. A service that never ran here is a *Fault of class NoService.
func (b *Broker) Inspect(ctx context.Context) (Status, error) {
	place, err := b.find()
	if err != nil {
		return Status{}, err
	}
	s := Status{Place: place}
	if s.Generations, err = b.generations(place); err != nil {
		return s, b.listFault(place, err)
	}
	s.Shown = shown(place.Dir, s.Generations)
	s.Held = Holder(place.Dir) != ""
	if (s.Shown == nil || !s.Shown.Alive) && !s.Held && accepts(place) {
		s.Shown = &Entry{Dir: place.Dir, Alive: true, Err: errUnrecorded, Record: record.Record{Phase: record.Bound}}
	}
	if s.Shown != nil && s.Shown.Err == nil {
		s.Further = s.Shown.Record.Definition.Endpoints
	}
	if s.Held && !s.Alive() {
		s.Further = heldFurther(place.Dir)
	}
	s.LastFailure = lastFailure(s.Generations)
	now := proc.BootTime()
	if a := admit(s.Generations, current(place.Dir), now, now, false); a.retry > now {
		s.RetryAt = time.Now().Add(a.retry - now)
	}
	if s.Held && !s.Alive() {
		s.Phase = record.Bound
		return s, nil
	}
	if s.Shown == nil {
		s.Phase = record.Gone
		return s, nil
	}
	if s.Shown.Err == errUnrecorded {
		s.Phase = record.Bound
		return s, nil
	}
	s.Environment = environ.Diff(s.Shown.Record.Variables, b.Contract())
	if s.Phase = recordedPhase(*s.Shown); s.Shown.Alive && (s.Shown.Record.Backend || s.Shown.Locked) {
		if id, err := Identify(ctx, place, *s.Shown); err == nil {
			s.Identity = &id
			s.Phase = record.Phase(id.Phase)
		}
	}
	return s, nil
}

// errUnrecorded stands for the record of a generation that has none.
var errUnrecorded = errors.New("somebody accepts at its endpoint, and no living generation is on record")

// accepts reports whether somebody accepts connections at the endpoint.
func accepts(place runtimedir.Place) bool {
	conn, reach, _ := endpoint.Connect(context.Background(), place.Sock())
	if conn != nil {
		_ = conn.Close()
	}
	return reach == endpoint.Reached || reach == endpoint.Busy
}

func (b *Broker) find() (runtimedir.Place, error) {
	place, err := b.Env.Find(b.Def.Instance, b.DirName())
	switch {
	case err == runtimedir.ErrNotPlaced:
		return place, b.fault(NoService, StageDirectory, errNoService)
	case err != nil:
		if _, refused := errors.AsType[*runtimedir.Refused](err); !refused {
			return place, b.fault(LaunchFailed, StageDirectory, err)
		}
		return place, b.DirectoryFault(err)
	}
	return place, nil
}

// shown picks the generation that a status is about.
func shown(dir string, entries []Entry) *Entry {
	e, ok := Current(dir, entries)
	if ok && e.Alive {
		return &e
	}
	for i := range entries {
		if entries[i].Alive {
			return &entries[i]
		}
	}
	if ok {
		return &e
	}
	if len(entries) > 0 {
		return &entries[0]
	}
	return nil
}

// recordedPhase is the phase as far as files tell it.
func recordedPhase(e Entry) record.Phase {
	switch {
	case e.Alive && e.Record.PID == 0:
		return record.Launching
	case e.Alive || e.Record.Phase.Final():
		return e.Record.Phase
	case settleVerdict(e.Record) != nil:
		return record.Failed
	}
	return record.Gone
}

func lastFailure(entries []Entry) *Fault {
	for _, e := range entries {
		r := e.Record
		if r.Failure == nil && !e.Alive && !e.Unproven && e.Err == nil {
			r.Failure = settleVerdict(r)
		}
		if f := RecordedFault(r); f != nil && !r.Reset {
			return f
		}
	}
	return nil
}

// Identify asks a generation's control endpoint who it is.
func Identify(ctx context.Context, place runtimedir.Place, e Entry) (control.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, identifyWithin)
	defer cancel()
	c, err := DialControl(ctx, place, e.Name)
	if err != nil {
		return control.Identity{}, err
	}
	defer c.Close()
	return c.Identify(ctx, Nonce())
}

// DialControl connects to the control endpoint of a generation.
func DialControl(ctx context.Context, place runtimedir.Place, genName string) (*control.Client, error) {
	conn, _, err := endpoint.Connect(ctx, place.Ctl(genName))
	if err != nil {
		return nil, err
	}
	return control.NewClient(conn), nil
}
