package detach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

const patience = time.Minute

// lookHelper prints what it has, and ends when its handle, the argument, does.
var lookHelper = reexec.Helper("look", func(args []string) {
	wd, _ := os.Getwd()
	fmt.Println("dir", wd)
	fmt.Println("env", len(os.Environ()), os.Getenv("GIVEN"), os.Getenv("SECRET"))
	n, err := os.Stdin.Read(make([]byte, 1))
	fmt.Println("stdin", n, err)
	fmt.Println("args", strings.Join(args[1:], "|"))
	fmt.Fprintln(os.Stderr, "stderr")
	h, err := strconv.ParseUint(args[0], 10, 64)
	reexec.Check(err)
	io.Copy(io.Discard, os.NewFile(uintptr(h), "given"))
})

// launchHelper starts a daemon when it is told to, prints what it is and what ties it, and
// stays.
var launchHelper = reexec.Helper("launch", func(args []string) {
	in := bufio.NewReader(os.Stdin)
	_, err := in.ReadString('\n')
	reexec.Check(err)
	exe, err := os.Executable()
	reexec.Check(err)
	reexec.Check(os.Setenv("REEXEC_HELPER", sleepHelper))
	h, job, err := Start(Daemon{Path: exe, Env: os.Environ(), Stdout: os.Stdout})
	reexec.Check(err)
	id, err := proc.Of(h.PID())
	reexec.Check(err)
	fmt.Println(id.PID, id.Start, int(job))
	io.Copy(io.Discard, in)
})

// sleepHelper says that it runs, and ends by being killed, or after the longest test.
var sleepHelper = reexec.Helper("sleep", func([]string) {
	fmt.Println("up")
	time.Sleep(5 * time.Minute)
})

// consoleHelper starts a daemon, sends all at its console the event, which is its argument,
// and prints whether that has ended another of its children, and the daemon.
var consoleHelper = reexec.Helper("console", func(args []string) {
	event, err := strconv.ParseUint(args[0], 10, 32)
	reexec.Check(err)
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt) // either event, and is not ended by it
	exe, err := os.Executable()
	reexec.Check(err)
	reexec.Check(os.Setenv("REEXEC_HELPER", sleepHelper))
	r, w, err := os.Pipe()
	reexec.Check(err)
	h, _, err := Start(Daemon{Path: exe, Env: os.Environ(), Stdout: w})
	reexec.Check(err)
	defer h.Signal(syscall.SIGKILL)
	child := exec.Command(exe)
	child.Stdout = w
	reexec.Check(child.Start())
	up := bufio.NewReader(r)
	for range 2 {
		_, err := up.ReadString('\n')
		reexec.Check(err)
	}
	reexec.Check(windows.GenerateConsoleCtrlEvent(uint32(event), 0))
	<-heard
	childEnded := child.Wait() != nil
	// Nothing is to happen: a moment is enough to see it if it does.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	fmt.Println(childEnded, h.Wait(ctx) == nil)
})

// endHelper starts a daemon, prints what it is, and ends before it has let it go.
var endHelper = reexec.Helper("end", func([]string) {
	exe, err := os.Executable()
	reexec.Check(err)
	reexec.Check(os.Setenv("REEXEC_HELPER", sleepHelper))
	job, err := newTether()
	reexec.Check(err)
	c, err := Daemon{Path: exe, Env: os.Environ()}.prepare([]*os.File{os.Stdin, os.Stdout, os.Stdout})
	reexec.Check(err)
	h, err := c.create(0, job)
	reexec.Check(err)
	id, err := proc.Of(h.PID())
	reexec.Check(err)
	fmt.Println(id.PID, id.Start)
	io.Copy(io.Discard, os.Stdin)
})

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t testing.TB, h *proc.Handle) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, h.Wait(ctx))
}

// helper returns what to start as a helper of this test.
func helper(t testing.TB, name string, args ...string) Daemon {
	t.Helper()
	cmd := reexec.Command(t, name, args...)
	env := slices.DeleteFunc(cmd.Env, func(v string) bool {
		return !strings.HasPrefix(v, "REEXEC_") && !strings.HasPrefix(strings.ToUpper(v), "SYSTEMROOT=")
	})
	return Daemon{Path: cmd.Path, Args: args, Env: env}
}

// TestGivenAlone: a daemon has what it is given and nothing else of its starter's (R4, R5,
// R17, R18).
func TestGivenAlone(t *testing.T) {
	t.Setenv("SECRET", "canary")
	dir := t.TempDir()
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	must(t, err)
	defer log.Close()

	// A pipe of the starter's that any child could inherit, and one that it is given.
	stray, strayEnd := inheritable(t)
	given, end := inheritable(t)
	defer given.Close()
	d := helper(t, lookHelper, strconv.FormatUint(uint64(given.Fd()), 10), "a b", `c"d`, "")
	d.Env = append(d.Env, "GIVEN=given")
	d.Dir, d.Stdout, d.Stderr = dir, log, log
	d.Handles = []syscall.Handle{syscall.Handle(given.Fd())}
	h, job, err := Start(d)
	must(t, err)
	defer h.Close()
	defer h.Signal(syscall.SIGKILL)
	if in := inAnyJob(t, windows.CurrentProcess()); !in && job != None {
		t.Errorf("it is %v, and we are in none", job)
	}

	must(t, strayEnd.Close())
	eof := make(chan error, 1)
	go func() { _, err := stray.Read(make([]byte, 1)); eof <- err }()
	select {
	case err := <-eof:
		if err != io.EOF {
			t.Errorf("the stray pipe: %v", err)
		}
	case <-time.After(patience):
		t.Error("the daemon has a pipe that it was not given")
	}
	if !h.Alive() {
		t.Error("the daemon ended before its handle did")
	}
	must(t, end.Close())
	await(t, h)
	if e, ok := h.Exit(); e.Code != 0 || !ok {
		t.Errorf("exit %v", e)
	}
	b, err := os.ReadFile(path)
	must(t, err)
	got := strings.Split(strings.ReplaceAll(string(b), "\r", ""), "\n")
	want := []string{"dir " + dir, "stdin 0 EOF", `args a b|c"d|`, "stderr"}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("no %q in %q", line, got)
		}
	}
	if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "env ") && strings.HasSuffix(s, " given ") }) {
		t.Errorf("another environment than the given one in %q", got)
	}
}

// inheritable returns a pipe whose ends any child could inherit.
func inheritable(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	for _, f := range []*os.File{r, w} {
		must(t, windows.SetHandleInformation(windows.Handle(f.Fd()), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT))
	}
	return r, w
}

// TestJobs: a daemon leaves its starter's job if it may, and its starter knows if it could
// not (R20).
func TestJobs(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []uint32 // of the starter's jobs, each in the one before
		want  Job
		lives bool
	}{
		{"none", nil, None, true},
		{"lets go", []uint32{kill | windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK}, Perhaps, true},
		{"lets all go", []uint32{kill | windows.JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK}, Perhaps, true},
		{"kills", []uint32{kill}, Doomed, false},
		{"keeps", []uint32{0}, Tied, true},
		{"outer kills", []uint32{kill, windows.JOB_OBJECT_LIMIT_BREAKAWAY_OK}, Perhaps, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.want == None && inAnyJob(t, windows.CurrentProcess()) {
				t.Skip("the tests run in a job")
			}
			var jobs []tether
			closeJobs := func() {
				for _, j := range jobs {
					j.close()
				}
				jobs = nil
			}
			defer closeJobs()
			for _, flags := range c.flags {
				j, err := newTether()
				must(t, err)
				jobs = append(jobs, j)
				must(t, j.limit(flags))
			}

			cmd := reexec.Command(t, launchHelper)
			in, err := cmd.StdinPipe()
			must(t, err)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			for _, j := range jobs {
				must(t, cmd.Process.WithHandle(func(p uintptr) { err = windows.AssignProcessToJobObject(j.job, windows.Handle(p)) }))
				must(t, err)
			}
			fmt.Fprintln(in, "go")
			id, got := launched(t, out)
			h, err := proc.Open(id)
			must(t, err)
			defer h.Close()
			defer h.Signal(syscall.SIGKILL)
			want := c.want
			if want == Doomed && !tells(jobs[0].job, c.flags[0]) {
				t.Log("this system does not tell a job's limits (Wine)")
				want = Tied
			}
			if got != want {
				t.Errorf("it is %v; want %v", got, want)
			}

			closeJobs()
			if !c.lives {
				await(t, h)
				return
			}
			_ = cmd.Process.Kill()
			_, _ = cmd.Process.Wait()
			// Nothing is to happen: a moment is enough to see it if it does.
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if err := h.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				e, _ := h.Exit()
				t.Errorf("the daemon died with its starter: %v, %v", err, e)
			}
		})
	}
	reexec.Used(sleepHelper)
}

const kill = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE

// launched reads what a launchHelper says of the daemon that it has started, which says
// that it is up, before or after that.
func launched(t testing.TB, out io.Reader) (id proc.ID, job Job) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for range 2 {
		if !lines.Scan() {
			t.Fatalf("launcher and daemon said too little: %v", lines.Err())
		}
		if lines.Text() != "up" {
			_, err := fmt.Sscan(lines.Text(), &id.PID, &id.Start, &job)
			must(t, err)
		}
	}
	return id, job
}

func inAnyJob(t testing.TB, process windows.Handle) bool {
	t.Helper()
	in, err := inJob(process)
	must(t, err)
	return in
}

// TestStartsAtOnce: a daemon can start another before it is let go itself, and that one is
// not ended with it.
func TestStartsAtOnce(t *testing.T) {
	inRead, in, err := os.Pipe()
	must(t, err)
	defer in.Close()
	defer inRead.Close()
	out, outWrite, err := os.Pipe()
	must(t, err)
	defer out.Close()
	defer outWrite.Close()
	job, err := newTether()
	must(t, err)
	defer job.close()
	c, err := helper(t, launchHelper).prepare([]*os.File{inRead, outWrite, os.Stderr})
	must(t, err)
	defer c.close()
	first, err := c.create(0, job)
	must(t, err)
	defer first.Close()
	defer first.Signal(syscall.SIGKILL)
	fmt.Fprintln(in, "go")
	id, got := launched(t, out)
	if got != Perhaps {
		t.Errorf("the second is %v; want %v", got, Perhaps)
	}
	second, err := proc.Open(id)
	must(t, err)
	defer second.Close()
	defer second.Signal(syscall.SIGKILL)
	must(t, first.Signal(syscall.SIGKILL))
	await(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := second.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second died with the first: %v", err)
	}
}

// TestNoNesting: a job that limits the user interface has none below it, and whoever is in
// one can start daemons all the same.
func TestNoNesting(t *testing.T) {
	// Wine sets no such limits: the system's refusal is replaced, what is done then is not.
	refusals := 0
	system := createProcess
	defer func() { createProcess = system }()
	createProcess = func(path, line *uint16, ps, ts *windows.SecurityAttributes, inherit bool, flags uint32, env, dir *uint16, si *windows.StartupInfo, pi *windows.ProcessInformation) error {
		if refusals < 2 { // to let it go, and to have it in a job of ours
			refusals++
			return windows.ERROR_ACCESS_DENIED
		}
		return system(path, line, ps, ts, inherit, flags, env, dir, si, pi)
	}
	h, job, err := Start(helper(t, sleepHelper))
	must(t, err)
	defer h.Close()
	defer h.Signal(syscall.SIGKILL)
	if job == None || job == Perhaps {
		t.Errorf("it is %v, and was not let go", job)
	}
	p, err := windows.OpenProcess(windows.PROCESS_QUERY_INFORMATION, false, uint32(h.PID()))
	must(t, err)
	defer windows.CloseHandle(p)
	if in, own := inAnyJob(t, p), inAnyJob(t, windows.CurrentProcess()); in != own {
		t.Errorf("it is in a job: %v; we are: %v", in, own)
	}
	if !h.Alive() {
		t.Error("it was ended with the job that it is not in")
	}
}

// TestConsole: neither Ctrl-C nor Ctrl-Break at its starter's console reaches a daemon,
// though they reach who is started otherwise (R19).
func TestConsole(t *testing.T) {
	for name, event := range map[string]int{"Ctrl-C": windows.CTRL_C_EVENT, "Ctrl-Break": windows.CTRL_BREAK_EVENT} {
		t.Run(name, func(t *testing.T) {
			if event == windows.CTRL_BREAK_EVENT && windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
				t.Skip("Wine tells nobody of it, and ends a thread of theirs")
			}
			cmd := reexec.Command(t, consoleHelper, strconv.Itoa(event))
			cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_CONSOLE}
			timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			out, err := cmd.Output()
			if got, want := string(out), "true false\n"; got != want || err != nil {
				t.Errorf("child and daemon have ended: %q, %v; want %q", got, err, want)
			}
		})
	}
	reexec.Used(sleepHelper)
}

// TestStarterEnds: whoever is ended while it starts a daemon takes that with it. What the
// system does in CreateProcess it does without asking, so that nobody else could.
func TestStarterEnds(t *testing.T) {
	cmd := reexec.Command(t, endHelper)
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var id proc.ID
	for lines := bufio.NewScanner(out); id.PID == 0; {
		if !lines.Scan() {
			t.Fatalf("the starter said too little: %v", lines.Err())
		}
		_, _ = fmt.Sscan(lines.Text(), &id.PID, &id.Start) // or the daemon says that it is up
	}
	h, err := proc.Open(id)
	must(t, err)
	defer h.Close()
	must(t, cmd.Process.Kill())
	await(t, h)
	reexec.Used(sleepHelper)
}

// tells reports whether the system says what a job's limits are.
func tells(job windows.Handle, flags uint32) bool {
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	err := windows.QueryInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)), nil)
	return err == nil && limits.BasicLimitInformation.LimitFlags&flags == flags
}

func TestStartFails(t *testing.T) {
	if h, _, err := Start(Daemon{Path: filepath.Join(t.TempDir(), "missing.exe")}); h != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("started what is missing: %v, %v", h, err)
	}
	d := helper(t, sleepHelper)
	d.Dir = filepath.Join(t.TempDir(), "missing")
	if h, _, err := Start(d); err == nil {
		h.Signal(syscall.SIGKILL)
		h.Close()
		t.Error("started in a directory that is missing")
	}
}
