package detach

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

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
	None   Job = iota // it is in no job
	Tied              // it is in its starter's job, which can end it at any time
	Doomed            // and ends it when the last handle of the job is closed
)

// String says it for people.
func (j Job) String() string {
	switch j {
	case None:
		return "in no job"
	case Tied:
		return "in its starter's job"
	default:
		return "in its starter's job, which kills it when it is closed"
	}
}

// Start starts the process and returns it, which the caller closes. It does not wait for
// anything of it. Errors are those of [os.StartProcess].
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
	attr := &os.ProcAttr{Dir: d.Dir, Env: d.Env, Files: files}
	if attr.Env == nil {
		attr.Env = []string{} // nil would be ours
	}
	argv := append([]string{d.Path}, d.Args...)
	start := func(flags uint32) (*os.Process, error) {
		attr.Sys = &syscall.SysProcAttr{
			CreationFlags:              windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW | flags,
			AdditionalInheritedHandles: d.Handles,
		}
		return os.StartProcess(d.Path, argv, attr)
	}
	p, err := start(windows.CREATE_BREAKAWAY_FROM_JOB)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		// The job does not let it go; or the file may not be executed, and then
		// this says so again.
		p, err = start(0)
	}
	if err != nil {
		return nil, None, err
	}
	defer p.Release()
	h, err := handle(p)
	if err != nil {
		_ = p.Kill() // nobody could watch it
		return nil, None, err
	}
	job := None
	if werr := p.WithHandle(func(p uintptr) { job = jobOf(windows.Handle(p)) }); werr != nil {
		job = Tied // not known
	}
	return h, job, nil
}

// handle makes a handle of our own of package os's.
func handle(p *os.Process) (h *proc.Handle, err error) {
	werr := p.WithHandle(func(from uintptr) {
		self := windows.CurrentProcess()
		var dup windows.Handle
		if err = windows.DuplicateHandle(self, windows.Handle(from), self, &dup, 0, false, windows.DUPLICATE_SAME_ACCESS); err == nil {
			h = proc.FromHandle(dup, p.Pid)
		}
	})
	if werr != nil {
		err = werr
	}
	return h, os.NewSyscallError("DuplicateHandle", err)
}

var isProcessInJob = windows.NewLazySystemDLL("kernel32.dll").NewProc("IsProcessInJob")

// jobOf says what ties a child of ours. The only job that can be asked for its limits
// without a handle of it is our own, the innermost one: what is in one of its outer jobs
// alone is said to be tied, whatever that job does.
func jobOf(child windows.Handle) Job {
	var in int32
	if ok, _, _ := isProcessInJob.Call(uintptr(child), 0, uintptr(unsafe.Pointer(&in))); ok != 0 && in == 0 {
		return None
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	err := windows.QueryInformationJobObject(0, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)), nil)
	if err == nil && limits.BasicLimitInformation.LimitFlags&windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE != 0 {
		return Doomed
	}
	return Tied
}
