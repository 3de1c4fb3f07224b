package fastbind

import (
	"context"
	"time"

	"github.com/fastbind/fastbind/internal/record"
)

// A Phase is a stage in a generation's life. None ever stands for another.
type Phase string

// The phases, in the order of a life without failure.
const (
	Launching = Phase(record.Launching) // the broker prepares or starts it
	Bound     = Phase(record.Bound)     // the endpoint accepts connections
	Loading   = Phase(record.Loading)   // the daemon loads its state; clients queue
	Ready     = Phase(record.Ready)     // the daemon serves
	Draining  = Phase(record.Draining)  // no new connections; accepted ones are served
	Gone      = Phase(record.Gone)      // ended as it was meant to
	Failed    = Phase(record.Failed)    // ended otherwise
)

// Progress is how far a daemon has loaded.
type Progress struct {
	Message  string  // what it is doing, for people
	Fraction float64 // done, 0 to 1; negative if it cannot tell
}

// A Status is what can be seen of a service without changing anything.
type Status struct {
	Service, Instance string
	Phase             Phase
	Generation        uint64 // 0: none on record
	PID               int    // 0: no living process, or not known yet
	Version           string // as the daemon says, else of its definition
	Endpoint          Endpoint
	StartedAt         time.Time // zero without a generation
	Log               string    // path, "" if there is none
	Progress          *Progress // nil if the daemon tells none
	Connections       int       // served now, as the daemon says; 0 if it does not
	Leases            int       // held, likewise
	EndsAt            time.Time // when it ends by itself if nothing changes; zero if it does not

	// LastFailure is the newest failure on record, which may be of an earlier
	// generation than the one above; nil if there is none.
	LastFailure *Error

	// RetryAt is when a dial may launch again; zero if it may at once.
	RetryAt time.Time

	// Differences are the contracted environment variables in which this
	// process differs from the one that launched the generation.
	Differences []Difference
}

// Alive reports whether a process serves, or is about to.
func (s Status) Alive() bool { return s.PID != 0 || s.Phase == Launching }

// Status looks at the service. It starts nothing, deletes nothing and takes no
// lock; it blocks for reading some files and at most 300 ms for the daemon's
// answer, so that a hung daemon has a status too. The error is ErrNoService for
// a service that was never launched in the instance.
func (s Service) Status(ctx context.Context) (Status, error) {
	b, err := s.broker()
	if err != nil {
		return Status{}, publicError(err)
	}
	in, err := b.Inspect(ctx)
	if err != nil {
		return Status{}, publicError(err)
	}
	st := Status{
		Service: b.Def.Service, Instance: b.Def.Instance, Phase: Phase(in.Phase),
		Endpoint: Endpoint{in.Place.Sock()}, RetryAt: in.RetryAt, Differences: differences(in.Environment),
	}
	if in.LastFailure != nil {
		st.LastFailure = publicError(in.LastFailure).(*Error)
	}
	if e := in.Shown; e != nil {
		st.Generation, st.StartedAt, st.Log = e.Number, e.Record.Launched, e.Record.Log
		st.Version = e.Record.Version
		if st.Version == "" {
			st.Version = e.Record.Definition.Version
		}
		if e.Alive {
			st.PID = e.Record.PID
		}
	}
	if id := in.Identity; id != nil {
		st.PID, st.Version, st.Connections, st.Leases = id.PID, id.Version, id.Connections, id.Leases
		if id.EndsIn >= 0 {
			st.EndsAt = time.Now().Add(id.EndsIn)
		}
		if id.Progress != nil {
			st.Progress = &Progress{id.Progress.Message, id.Progress.Fraction}
		}
	}
	return st, nil
}
