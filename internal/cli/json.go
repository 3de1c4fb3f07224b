package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
)

// schema is the version of what --json prints. Members are added within a
// version; none changes its meaning or goes.
const schema = 1

// A member that has no value is null, never left out: no field here has
// omitempty, and every absent value is a nil pointer or slice.

type failureReply struct {
	Schema int        `json:"schema"`
	Error  *errorJSON `json:"error"`
}

// errorJSON is why something cannot be done, or has failed.
type errorJSON struct {
	Stage       *string          `json:"stage"`
	Status      *int             `json:"status"` // exit status of the process
	Signal      *string          `json:"signal"` // such as SIGKILL
	Errno       *string          `json:"errno"`  // such as ENOENT
	Message     string           `json:"message"`
	LogTail     []string         `json:"log_tail"`
	Log         *string          `json:"log"`
	RetryAt     *string          `json:"retry_at"`
	Service     *string          `json:"service"`
	Instance    *string          `json:"instance"`
	Differences []differenceJSON `json:"differences"`
	Hint        *string          `json:"hint"`
}

type differenceJSON struct {
	Field string  `json:"field"`
	Have  *string `json:"have"`
	Want  *string `json:"want"`
}

type progressJSON struct {
	Message  string   `json:"message"`
	Fraction *float64 `json:"fraction"`
}

// serviceJSON is what can be seen of a service.
type serviceJSON struct {
	Service    string  `json:"service"`
	Instance   string  `json:"instance"`
	Variant    *string `json:"variant"` // of policy coexist
	Phase      *string `json:"phase"`   // null: never launched
	Generation *uint64 `json:"generation"`
	PID        *int    `json:"pid"`
	Version    *string `json:"version"`
	Endpoint   *string `json:"endpoint"`

	// Endpoints are the paths of further endpoints, by their names.
	Endpoints map[string]string `json:"endpoints"`

	StartedAt     *string       `json:"started_at"`
	UptimeSeconds *int64        `json:"uptime_seconds"`
	Connections   *int          `json:"connections"`
	Leases        *int          `json:"leases"`
	EndsIn        *int64        `json:"ends_in_seconds"` // null: it does not end by itself
	Log           *string       `json:"log"`
	Progress      *progressJSON `json:"progress"`
	LastFailure   *errorJSON    `json:"last_failure"`
	RetryAt       *string       `json:"retry_at"`
	Definition    *string       `json:"definition"` // the file that defines it

	Payoff *payoffJSON `json:"payoff"` // of status and why
	SHA256 *string     `json:"sha256"` // of the executable, with status --hash

	HeldBy     *int     `json:"held_by"`      // pid of the standing broker that holds the endpoint
	Disabled   bool     `json:"disabled"`     // the user wants no broker to hold it
	NotInForce []string `json:"not_in_force"` // fields of the definition that nobody keeps
	Limits     []string `json:"limits"`       // what became of each limit

	// Environment are the variables in which the daemon and this client differ.
	Environment []differenceJSON `json:"environment"`
}

// print writes one object and a newline.
func (a *app) print(v any) {
	e := json.NewEncoder(a.out.w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// some returns a pointer to v, nil for the zero value: absent is null.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339)
	return &s
}

func differencesOf(list []definition.Difference) []differenceJSON {
	var out []differenceJSON
	for _, d := range list {
		out = append(out, differenceJSON{d.Field, some(d.Have), some(d.Want)})
	}
	return out
}

func progressOf(p *control.Progress) *progressJSON {
	if p == nil {
		return nil
	}
	out := &progressJSON{Message: p.Message}
	if p.Fraction >= 0 {
		out.Fraction = &p.Fraction
	}
	return out
}

// errorOf makes the object of an error.
func errorOf(err error) *errorJSON {
	if err == nil {
		return nil
	}
	out := &errorJSON{Message: err.Error(), Hint: some(hintOf(err))}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		out.Errno = some(errnoName(errno))
	}
	var f *launch.Fault
	if !errors.As(err, &f) {
		if errorsIsAny(err, context.DeadlineExceeded) {
			out.Stage = some(launch.StageWait)
		}
		return out
	}
	out.Stage, out.Service, out.Instance = some(f.Stage), some(f.Service), some(f.Instance)
	if f.Status >= 0 {
		out.Status = &f.Status
	}
	out.Signal = some(signalName(f.Signal))
	out.LogTail, out.Log, out.RetryAt = f.LogTail, some(f.Log), stamp(f.RetryAt)
	out.Differences = differencesOf(f.Differences)
	return out
}

// worst returns the error with the highest exit status.
func worst(ctx context.Context, errs []error) error {
	var w error
	for _, err := range errs {
		if w == nil || exitStatus(ctx, err) > exitStatus(ctx, w) {
			w = err
		}
	}
	return w
}

// reportAll ends a verb with several names: each error is reported, and the
// highest exit status remains.
func (a *app) reportAll(ctx context.Context, errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	if !a.json {
		for _, err := range errs {
			if exitStatus(ctx, err) != exitInterrupted {
				a.complainUnlessQuiet(err)
			}
		}
	}
	return quiet(exitStatus(ctx, worst(ctx, errs)))
}

func (a *app) complainUnlessQuiet(err error) {
	var q quiet
	if !errors.As(err, &q) {
		a.complain(err)
	}
}

// errorsOf makes the objects of several errors, quiet ones left out.
func errorsOf(errs []error) []errorJSON {
	var out []errorJSON
	for _, err := range errs {
		var q quiet
		if !errors.As(err, &q) {
			out = append(out, *errorOf(err))
		}
	}
	return out
}

// worstOf is the object of the error that sets the exit status, nil if that
// says all.
func worstOf(ctx context.Context, errs []error) *errorJSON {
	err := worst(ctx, errs)
	var q quiet
	if errors.As(err, &q) {
		return nil
	}
	return errorOf(err)
}

// line writes text to w, for people.
func line(w io.Writer, s string) { io.WriteString(w, s+"\n") }
