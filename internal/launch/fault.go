package launch

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/record"
)

// The stages a launch can fail in.
const (
	StageDirectory  = "directory"  // finding, verifying or making directories
	StageConnect    = "connect"    // connecting, for another reason than that nobody is there
	StageLock       = "lock"       // taking the launch lock
	StageExecutable = "executable" // finding the program
	StagePrepare    = "prepare"    // record, life lock, control endpoint, log
	StageBind       = "bind"       // binding and listening, by the broker or by the daemon
	StageSpawn      = "spawn"      // fork and exec
	StageAdopt      = "adopt"      // the daemon taking what it inherited
	StageBound      = "bound"      // bind "daemon": listening within the budget
	StageLoad       = "load"       // the daemon loading its state
	StageServe      = "serve"      // the daemon serving
	StageBudget     = "budget"     // too many launches have failed just now
	StageWait       = "wait"       // the caller's deadline
	StageStop       = "stop"       // ending a generation
	StagePolicy     = "policy"     // a refusal by the definition's policy
	StageControl    = "control"    // asking the daemon at its control endpoint
)

// A Class says what a caller can do about a fault.
type Class uint8

// The classes.
const (
	LaunchFailed Class = iota // the launch failed for everyone who waited for it
	Refusal                   // nothing was tried, for a stated reason
	Deadline                  // the caller's time was up
	NotRunning                // there is no living generation
	NoService                 // nobody ever defined it here
	Hung                      // its generation answers neither its clients nor its control endpoint
)

// A Fault is why a service cannot be used now.
type Fault struct {
	Class      Class
	Service    string
	Instance   string
	Stage      string
	Generation uint64 // 0: none was made
	Err        error  // the cause

	Status  int    // exit status, -1 if unknown or none
	Signal  string // the signal that ended the process, or ""
	Unknown bool   // nobody saw the process end

	Log     string // path, or ""
	LogTail []string
	RetryAt time.Time // with StageBudget: when a dial may launch again

	Differences []definition.Difference // of a refusal
	Cure        string                  // one line of advice, or ""
}

func (f *Fault) Error() string {
	s := strconv.Quote(f.Service)
	if f.Instance != "default" && f.Instance != "" {
		s += " of instance " + strconv.Quote(f.Instance)
	}
	switch f.Class {
	case LaunchFailed:
		s += ": failed in stage " + f.Stage
	case Refusal:
		s += ": refused in stage " + f.Stage
	case Deadline:
		s += ": no answer within the deadline, stage " + f.Stage
	case NotRunning, NoService, Hung:
	}
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	switch {
	case f.Signal != "":
		s += " (signal: " + f.Signal + ")"
	case f.Status > 0:
		s += " (exit status " + strconv.Itoa(f.Status) + ")"
	case f.Unknown:
		s += " (exit status unknown: launcher left)"
	}
	for i, d := range f.Differences {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		s += sep + d.String()
	}
	if !f.RetryAt.IsZero() {
		s += ", retry after " + f.RetryAt.Format(time.TimeOnly)
	}
	return s
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Bind error kinds, as stored in a record.
const (
	BindInvalidEndpoint = "invalid-endpoint"
	BindAlreadyBound    = "already-bound"
	BindSystem          = "system"
	BindOther           = "other"
)

// KindHung is the kind, as stored in a record, of the failure of a generation
// that was killed because it was hung.
const KindHung = "hung"

// KindMemory is that of one that the kernel killed for want of memory.
const KindMemory = "memory"

// The classes of bind errors. A daemon's bind error is one of the first two,
// or wraps a syscall.Errno, or is another error.
var (
	ErrInvalidEndpoint = errors.New("invalid endpoint")
	ErrAlreadyBound    = errors.New("already bound")
)

// BindKind classifies an error of binding, also one that user code returned raw.
func BindKind(err error) string {
	errno, ok := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, ErrAlreadyBound):
		return BindAlreadyBound
	case errors.Is(err, ErrInvalidEndpoint):
		return BindInvalidEndpoint
	case !ok:
		return BindOther
	}
	switch errno {
	case syscall.EADDRINUSE, syscall.EEXIST, syscall.EISCONN:
		return BindAlreadyBound
	case syscall.EINVAL, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.ENOENT, syscall.ELOOP, syscall.EAFNOSUPPORT:
		return BindInvalidEndpoint
	}
	return BindSystem
}

// A Cause is an error that was read back from a record: the words of who saw
// it, the errno and the bind error's class as they were.
type Cause struct {
	Text  string
	Errno syscall.Errno
	Kind  string
}

func (c *Cause) Error() string { return c.Text }

// Is makes a cause match the class of its bind error.
func (c *Cause) Is(target error) bool {
	return target == ErrAlreadyBound && c.Kind == BindAlreadyBound ||
		target == ErrInvalidEndpoint && c.Kind == BindInvalidEndpoint
}

// Unwrap returns the errno, if there was one.
func (c *Cause) Unwrap() error {
	if c.Errno == 0 {
		return nil
	}
	return c.Errno
}

// newFailure makes what is written into a record.
func newFailure(stage string, err error, at time.Duration, now time.Time) record.Failure {
	f := record.Failure{Stage: stage, Status: -1, At: at, Time: now}
	if err != nil {
		f.Cause = err.Error()
		f.Errno, _ = errors.AsType[syscall.Errno](err)
		if stage == StageBind {
			f.Kind = BindKind(err)
		}
	}
	return f
}

// Bounds of the log tail that a fault carries.
const (
	tailLines = 10
	tailBytes = 4 << 10
)

// RecordedFault makes a fault of the failure in a record, nil if it has none.
func RecordedFault(r record.Record) *Fault {
	if r.Failure == nil {
		return nil
	}
	f := &Fault{
		Class: LaunchFailed, Service: r.Definition.Service, Instance: r.Definition.Instance,
		Stage: r.Failure.Stage, Generation: r.Generation,
		Err:    &Cause{Text: r.Failure.Cause, Errno: r.Failure.Errno, Kind: r.Failure.Kind},
		Status: r.Failure.Status, Signal: r.Failure.Signal,
		// A process that was there, and whose end nobody has seen.
		Unknown: r.PID != 0 && r.Failure.Status < 0 && r.Failure.Signal == "",
		Log:     r.Log,
	}
	if r.Log != "" {
		f.LogTail = logTail(r)
	}
	if r.Failure.Kind == KindHung {
		f.Class = Hung
	}
	return f
}

// logTail returns the last lines that a generation wrote, and none of a later
// one's. The log may have been moved aside, once or more often; what a
// generation that lived beside the next one wrote cannot be told apart.
func logTail(r record.Record) (lines []string) {
	if r.LogInode.IsZero() {
		lines, _ = journal.Tail(r.Log, r.LogOffset, tailLines, tailBytes)
		return lines
	}
	for _, path := range []string{r.Log, r.Log + ".1"} {
		if at, err := endpoint.Inode(path); err == nil && at == r.LogInode {
			lines, _ = journal.TailTo(path, r.LogOffset, r.LogEnd, tailLines, tailBytes)
			return lines
		}
	}
	return nil
}

// refusedEvent is what the journal keeps of a refusal.
func refusedEvent(f *Fault) journal.Event {
	e := journal.Event{Kind: "refused", Generation: f.Generation, Reason: errText(f.Err),
		Fields: []journal.Field{{Key: "stage", Value: f.Stage}}}
	for _, d := range f.Differences {
		e.Fields = append(e.Fields, journal.Field{Key: "differs " + d.Field, Value: strings.TrimPrefix(d.String(), d.Field+": ")})
	}
	return e
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// NoteRefusal journals a refusal that the caller decided on. A service that does
// not exist has no journal.
func (b *Broker) NoteRefusal(f *Fault) {
	if place, err := b.find(); err == nil {
		b.Note(place.Root, refusedEvent(f))
	}
}

// NoteFallback journals that a tool goes on without the service, and how long
// its dial had taken by then; 0 if it was no dial.
func (b *Broker) NoteFallback(reason error, after time.Duration) {
	place, err := b.find()
	if err != nil {
		return
	}
	b.Note(place.Root, journal.Event{Kind: "fallback", Reason: reason.Error(), Fields: []journal.Field{
		{Key: "after_us", Value: strconv.FormatInt(after.Microseconds(), 10), Number: true}}})
}
