package detach

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/proc"
)

// A tether is a job that ends what is in it with its last handle, which is this
// process's. The system makes a process that does not run, and lets it run when all else
// is done: of a creator that is ended in between, the process would stay, and hold what it
// has inherited, for ever. Package os's cannot be born in a job.
type tether struct{ job windows.Handle }

func newTether() (tether, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return tether{}, os.NewSyscallError("CreateJobObject", err)
	}
	t := tether{job}
	// What is in it may start daemons of its own before it is untied.
	if err := t.limit(windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK); err != nil {
		t.close()
		return tether{}, err
	}
	return t, nil
}

// untie has what is in the job outlive its handles. It stays in the job, which does
// nothing.
func (t tether) untie() error { return t.limit(windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK) }

func (t tether) limit(flags uint32) error {
	var l windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	l.BasicLimitInformation.LimitFlags = flags
	_, err := windows.SetInformationJobObject(t.job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&l)), uint32(unsafe.Sizeof(l)))
	return os.NewSyscallError("SetInformationJobObject", err)
}

func (t tether) close() { _ = windows.CloseHandle(t.job) }

// limitsOf returns the limits of a job, 0 being the calling process's.
func limitsOf(job windows.Handle) (l windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION, err error) {
	err = windows.QueryInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&l)), uint32(unsafe.Sizeof(l)), nil)
	return l, err
}

var isProcessInJob = windows.NewLazySystemDLL("kernel32.dll").NewProc("IsProcessInJob")

// inJob reports whether a process is in any job.
func inJob(process windows.Handle) (bool, error) {
	var in int32
	ok, _, err := isProcessInJob.Call(uintptr(process), 0, uintptr(unsafe.Pointer(&in)))
	if ok == 0 {
		return false, os.NewSyscallError("IsProcessInJob", err)
	}
	return in != 0, nil
}

const procThreadAttributeJobList = 0x2000d // PROC_THREAD_ATTRIBUTE_JOB_LIST, winbase.h

// creation is what a process is created with.
type creation struct {
	path, line, dir *uint16
	env             []uint16
	std             []windows.Handle // copies, which close closes
	inherited       []windows.Handle
}

func (d Daemon) prepare(files []*os.File) (c *creation, err error) {
	c = &creation{}
	defer func() {
		if err != nil {
			c.close()
			c = nil
		}
	}()
	if c.path, err = windows.UTF16PtrFromString(d.Path); err != nil {
		return c, err
	}
	if c.line, err = windows.UTF16PtrFromString(windows.ComposeCommandLine(append([]string{d.Path}, d.Args...))); err != nil {
		return c, err
	}
	if d.Dir != "" {
		if c.dir, err = windows.UTF16PtrFromString(d.Dir); err != nil {
			return c, err
		}
	}
	if c.env, err = block(d.Env); err != nil {
		return c, err
	}
	self := windows.CurrentProcess()
	for _, f := range files {
		var dup windows.Handle
		if err = windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, &dup, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			return c, os.NewSyscallError("DuplicateHandle", err)
		}
		c.std = append(c.std, dup)
	}
	c.inherited = append(c.inherited, c.std...)
	for _, h := range d.Handles {
		c.inherited = append(c.inherited, windows.Handle(h))
	}
	return c, nil
}

// block is an environment as the system has it: sorted by name, its variables end with a
// NUL each, and it with one more.
func block(env []string) ([]uint16, error) {
	name := func(e string) string { n, _, _ := strings.Cut(e, "="); return strings.ToUpper(n) }
	env = slices.Clone(env)
	slices.SortStableFunc(env, func(a, b string) int { return strings.Compare(name(a), name(b)) })
	var text []uint16
	for _, e := range env {
		if strings.IndexByte(e, 0) >= 0 {
			return nil, syscall.EINVAL
		}
		text = append(append(text, utf16.Encode([]rune(e))...), 0)
	}
	if len(env) == 0 {
		text = append(text, 0)
	}
	return append(text, 0), nil
}

// createProcess is the system's, but for the test of what it does in a job that limits the
// user interface.
var createProcess = windows.CreateProcess

// create creates the process in the job, and if that is none in its creator's alone.
func (c *creation) create(flags uint32, job tether) (*proc.Handle, error) {
	attributes, err := windows.NewProcThreadAttributeList(2)
	if err != nil {
		return nil, err
	}
	defer attributes.Delete()
	size := unsafe.Sizeof(job.job)
	if err := attributes.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&c.inherited[0]), uintptr(len(c.inherited))*size); err != nil {
		return nil, err
	}
	if job != (tether{}) {
		if err := attributes.Update(procThreadAttributeJobList, unsafe.Pointer(&job.job), size); err != nil {
			return nil, err
		}
	}
	si := windows.StartupInfoEx{ProcThreadAttributeList: attributes.List()}
	si.Cb = uint32(unsafe.Sizeof(si))
	si.Flags = windows.STARTF_USESTDHANDLES
	si.StdInput, si.StdOutput, si.StdErr = c.std[0], c.std[1], c.std[2]
	flags |= windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW | windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT
	var pi windows.ProcessInformation
	err = createProcess(c.path, c.line, nil, nil, true, flags, &c.env[0], c.dir, &si.StartupInfo, &pi)
	runtime.KeepAlive(c)
	if err != nil {
		return nil, err
	}
	_ = windows.CloseHandle(pi.Thread)
	return proc.FromHandle(pi.Process, int(pi.ProcessId)), nil
}

func (c *creation) close() {
	for _, h := range c.std {
		_ = windows.CloseHandle(h)
	}
}
