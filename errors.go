package fastbind

import (
	"context"
	"errors"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
)

// Conditions to branch on, with errors.Is. A caller whose own time was up gets
// an error that is context.DeadlineExceeded or context.Canceled.
var (
	// ErrLaunchFailed: the daemon could not be launched, or died before it
	// answered. The *Error says in which stage, and what is known of it.
	ErrLaunchFailed = errors.New("launch failed")

	// ErrRefused: nothing was tried, for a reason that the *Error states: an
	// unusable directory, a foreign owner, a policy, a spent spawn budget.
	ErrRefused = errors.New("refused")

	// ErrHung: the daemon answers neither this connection nor its control
	// endpoint. Unless Service.OnHang is HangReport it was replaced, and the next
	// dial reaches another one. A daemon that is only busy is never called hung,
	// nor is a foreign one, which cannot be asked.
	ErrHung = errors.New("hung")

	// ErrNotRunning: no generation of the service is alive.
	ErrNotRunning = errors.New("not running")

	// ErrNoService: the service was never launched in this instance.
	ErrNoService = errors.New("no such service")

	// ErrSelfDial: this process was launched as the daemon of the service it
	// dials, and has not adopted its listener: its main does not reach
	// daemon.Run. It would wait for itself.
	ErrSelfDial = errors.New("this process was launched as the daemon of the service it dials; does its main call daemon.Run?")

	// ErrAlreadyBound: another daemon serves the endpoint.
	ErrAlreadyBound = launch.ErrAlreadyBound

	// ErrInvalidEndpoint: the endpoint's address cannot be bound or dialled.
	ErrInvalidEndpoint = launch.ErrInvalidEndpoint
)

// An Error is why a service cannot be used. Its condition is one of the
// sentinels above, or the caller's context error; Err, which errors.Is and
// errors.As see too, is the cause, with its syscall.Errno if it had one.
type Error struct {
	Service, Instance string

	// Stage is what was being done: directory, connect, lock, executable,
	// prepare, bind, spawn, adopt, bound, load, serve, budget, policy, stop,
	// control, wait.
	Stage      string
	Generation uint64 // 0: none was made
	Err        error

	ExitStatus int    // of the process, -1 if unknown or none
	Signal     string // that ended it, or ""
	Unknown    bool   // nobody saw it end: its launcher had left

	Log     string   // path of the daemon's log, or ""
	LogTail []string // the last lines that the generation wrote, at most 10

	// RetryAt is when a dial may launch again, zero if it may at once.
	RetryAt time.Time

	// Differences are the fields that led to a refusal by policy.
	Differences []Difference

	// Hint is one line of advice for a person, or "".
	Hint string

	fault *launch.Fault
}

// A Difference is a field in which the running daemon is not what this caller
// would have launched.
type Difference struct {
	Field string
	Have  string // of the daemon
	Want  string // of this caller
}

// Error is one line: service, stage, cause and exit. It holds no advice.
func (e *Error) Error() string { return e.fault.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's condition.
func (e *Error) Is(target error) bool {
	switch e.fault.Class {
	case launch.LaunchFailed:
		return target == ErrLaunchFailed
	case launch.Refusal:
		return target == ErrRefused
	case launch.NotRunning:
		return target == ErrNotRunning
	case launch.NoService:
		return target == ErrNoService
	case launch.Hung:
		return target == ErrHung
	case launch.Deadline:
	}
	return false
}

// publicError makes an *Error of a *launch.Fault and leaves other errors alone.
func publicError(err error) error {
	f, ok := err.(*launch.Fault)
	if !ok {
		return err
	}
	if f.Class == launch.Deadline && f.Err == nil {
		f.Err = context.DeadlineExceeded
	}
	return &Error{
		Service: f.Service, Instance: f.Instance, Stage: f.Stage, Generation: f.Generation, Err: f.Err,
		ExitStatus: f.Status, Signal: f.Signal, Unknown: f.Unknown, Log: f.Log, LogTail: f.LogTail,
		RetryAt: f.RetryAt, Differences: differences(f.Differences), Hint: f.Cure, fault: f,
	}
}

func differences(list []definition.Difference) []Difference {
	var out []Difference
	for _, d := range list {
		out = append(out, Difference(d))
	}
	return out
}
