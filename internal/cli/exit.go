package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// The exit statuses. With several names the highest counts.
const (
	exitDone        = 0
	exitOther       = 1 // any other failure, and findings of doctor
	exitUsage       = 2
	exitNotRunning  = 3
	exitLaunch      = 4
	exitRefused     = 5
	exitDeadline    = 6
	exitNoService   = 7
	exitHung        = 8
	exitThere       = 9   // of broker: the instance has one
	exitInterrupted = 130 // 128 + SIGINT, as a shell has it
)

func exitTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-status",
		Short: "What the exit statuses mean",
		Long: `0    done
1    another failure, or findings of doctor
2    the arguments make no sense
3    the service is not running
4    the launch failed; the message has the stage, the cause and the last log lines
5    refused, nothing was tried; the message has the reason
6    the deadline of --timeout has passed
7    no such service
8    the daemon is hung: it answers neither its clients nor its control endpoint
9    of fastbind broker: the instance has a broker; the message says which
130  interrupted

With several names the highest one counts. With --json the error is also the
member "error" of the object on stdout.`,
	}
}

var errInterrupted = errors.New("interrupted")

// A usageError is a mistake in the arguments.
type usageError struct{ text, hint string }

func (e *usageError) Error() string { return e.text }

// A quiet error has been reported already; only its exit status is left.
type quiet int

func (quiet) Error() string { return "reported" }

// A hinted error is another failure with advice.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// exitStatus maps an error.
func exitStatus(ctx context.Context, err error) int {
	var q quiet
	var f *launch.Fault
	var u *usageError
	var d *fileError
	var r *runtimedir.Refused
	var t *thereError
	var w *unit.Refused
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &q):
		return int(q)
	case errors.As(err, &u):
		return exitUsage
	case context.Cause(ctx) == errInterrupted && (errors.Is(err, errInterrupted) || errors.Is(err, context.Canceled)):
		return exitInterrupted
	case errors.As(err, &f):
		return classStatus(f.Class)
	case errors.As(err, &t):
		return exitThere
	case errors.As(err, &d), errors.As(err, &r), errors.As(err, &w), errors.Is(err, launch.ErrSelf):
		return exitRefused
	case errorsIsAny(err, context.DeadlineExceeded, os.ErrDeadlineExceeded):
		return exitDeadline
	}
	return exitOther
}

func classStatus(c launch.Class) int {
	switch c {
	case launch.LaunchFailed:
		return exitLaunch
	case launch.Refusal:
		return exitRefused
	case launch.Deadline:
		return exitDeadline
	case launch.NotRunning:
		return exitNotRunning
	case launch.NoService:
		return exitNoService
	case launch.Hung:
		return exitHung
	}
	return exitOther
}

func errorsIsAny(err error, targets ...error) bool {
	for _, t := range targets {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}

// end reports an error that no verb has reported and returns the exit status.
func (a *app) end(ctx context.Context, err error) int {
	status := exitStatus(ctx, err)
	var q quiet
	switch {
	case err == nil, errors.As(err, &q):
	case status == exitInterrupted && !a.json: // who pressed the key knows
	default:
		a.report(err)
	}
	if status == exitDone && a.out.failed() != nil {
		a.complain(a.out.failed())
		return exitOther
	}
	return status
}

// report prints an error: the object on stdout, or lines on stderr.
func (a *app) report(err error) {
	err = a.blame(err)
	if a.json && !a.streamed.Load() {
		a.print(failureReply{Schema: schema, Error: errorOf(err)})
		return
	}
	a.complain(err)
}

// blame returns err; of a deadline that is over it says who has the launch lock that
// others wait for.
func (a *app) blame(err error) error {
	f, ok := errors.AsType[*launch.Fault](err)
	if !ok || f.Class != launch.Deadline || f.Cure != "" {
		return err
	}
	if pid := a.named(f.Service).LockHolder(); pid != 0 {
		holder := strconv.Itoa(pid)
		f.Cure = "process " + holder + " has the launch lock; if it hangs: kill -9 " + holder
	}
	return err
}

// complain prints an error on stderr: one line, a hint, and of a failed launch
// the last lines of the log.
func (a *app) complain(err error) {
	io.WriteString(a.streams.Err, "fastbind: "+harmless(err.Error())+"\n")
	if hint := hintOf(err); hint != "" {
		io.WriteString(a.streams.Err, "hint: "+harmless(hint)+"\n")
	}
	var f *launch.Fault
	if errors.As(err, &f) && len(f.LogTail) > 0 {
		io.WriteString(a.streams.Err, "  last lines of "+harmless(f.Log)+":\n")
		for _, l := range f.LogTail {
			io.WriteString(a.streams.Err, "    "+harmless(l)+"\n")
		}
	}
}

// warn prints one line, and a hint, about something that stops nothing.
func (a *app) warn(text, hint string) {
	io.WriteString(a.streams.Err, "fastbind: "+harmless(text)+"\n")
	if hint != "" {
		io.WriteString(a.streams.Err, "hint: "+harmless(hint)+"\n")
	}
}

// hintOf returns one line of advice, or "".
func hintOf(err error) string {
	var u *usageError
	var h *hinted
	var d *fileError
	var f *launch.Fault
	var r *runtimedir.Refused
	var t *thereError
	var w *unit.Refused
	switch {
	case errors.As(err, &u):
		return u.hint
	case errors.As(err, &t):
		return "it follows definition files by itself; to end it: fastbind stop " + arguments(&launch.Fault{Service: standing.Service, Instance: t.broker.instance})
	case errors.As(err, &w):
		return w.Cure
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &d):
		return d.hint
	case !errors.As(err, &f):
		if errors.As(err, &r) {
			return r.Cure
		}
		return ""
	case f.Cure != "":
		return f.Cure
	}
	switch f.Class {
	case launch.NotRunning:
		return "run: fastbind start " + arguments(f)
	case launch.NoService:
		return "say how to start it: fastbind start " + arguments(f) + " -- COMMAND ARG…"
	case launch.LaunchFailed, launch.Hung:
		return "see: fastbind why " + arguments(f)
	case launch.Refusal, launch.Deadline:
	}
	return ""
}

// arguments name a service on a command line.
func arguments(f *launch.Fault) string {
	if f.Instance != "" && f.Instance != "default" {
		return "--instance " + f.Instance + " " + f.Service
	}
	return f.Service
}

// refusal is the fault of a definition that differs.
func refusal(d definition.Definition, text, cure string, diffs []definition.Difference) *launch.Fault {
	return &launch.Fault{Class: launch.Refusal, Service: d.Service, Instance: d.Instance, Stage: launch.StagePolicy,
		Err: errors.New(text), Status: -1, Differences: diffs, Cure: cure}
}
