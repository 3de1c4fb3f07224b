package detach

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/proc"
)

// A Daemon is what to start. Nothing of it is taken from this process.
type Daemon struct {
	Path string   // the executable
	Args []string // after its name
	Env  []string // as it is: of two values for a name the system takes one
	Dir  string

	// Stdout and Stderr stay the caller's; nil is the null device. The standard input
	// always is.
	Stdout, Stderr *os.File

	// Handles are to be found under the same values in the process. They must be
	// inheritable, and stay the caller's.
	Handles []syscall.Handle
}

// A Job says what ties a started process to others.
type Job uint8

// The ties.
const (
	None    Job = iota // it is in no job of others
	Perhaps            // its starter's job let it go, but one outside of that may have it
	Tied               // it is in its starter's job, which can end it at any time
	Doomed             // and ends it when the last handle of the job is closed
)

// String says it for people.
func (j Job) String() string {
	switch j {
	case None:
		return "in no job"
	case Perhaps:
		return "perhaps in an outer job of its starter's"
	case Tied:
		return "in its starter's job"
	default:
		return "in its starter's job, which kills it when it is closed"
	}
}

// Start starts the process and returns it, which the caller closes. It does not wait for
// anything of it. Whoever is ended meanwhile leaves nothing behind, unless its job limits
// the user interface and lets nobody out. Errors are those of [os.StartProcess].
func Start(d Daemon) (*proc.Handle, Job, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, None, err
	}
	defer null.Close()
	files := []*os.File{null, d.Stdout, d.Stderr}
	for i, f := range files {
		if f == nil {
			files[i] = null
		}
	}
	job, err := newTether()
	if err != nil {
		return nil, None, err
	}
	defer job.close()
	c, err := d.prepare(files)
	if err != nil {
		return nil, None, &os.PathError{Op: "fork/exec", Path: d.Path, Err: err}
	}
	defer c.close()
	tie := away()
	h, err := c.create(windows.CREATE_BREAKAWAY_FROM_JOB, job)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		// The job does not let it go; or the file may not be executed, and then
		// this says so again.
		tie = ours()
		h, err = c.create(0, job)
	}
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		// Jobs do not nest where one of them limits the user interface, and then
		// our job alone can have it.
		h, err = c.create(0, tether{})
	}
	if err != nil {
		return nil, None, &os.PathError{Op: "fork/exec", Path: d.Path, Err: err}
	}
	if err := job.untie(); err != nil {
		_ = h.Signal(syscall.SIGKILL)
		_ = h.Close()
		return nil, None, err
	}
	return h, tie, nil
}

// away says what ties a child of ours that was created to leave our job. It leaves the
// outer ones up to the first that does not let it go, and that is no error. Which jobs we
// are in cannot be asked, only whether we are in any: also a daemon that was started by
// Start, and is in nothing but what is left of its tether, does not know.
func away() Job {
	if in, err := inJob(windows.CurrentProcess()); err == nil && !in {
		return None
	}
	return Perhaps
}

// ours says what ties a child of ours that our job did not let go. The only job that can
// be asked for its limits without a handle of it is our own, the innermost one: who is not
// doomed by that may be by an outer one, and is said to be tied.
func ours() Job {
	limits, err := limitsOf(0)
	switch flags := limits.BasicLimitInformation.LimitFlags; {
	case err == nil && flags&windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK != 0:
		return Perhaps // it lets go without being asked to
	case err == nil && flags&windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE != 0:
		return Doomed
	}
	return Tied
}
