package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/reexec"
)

// The tests of Windows run where there is no go command and no shell (internal/wine): the
// test's own executable is every process in them.

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "broker" { // launched on demand, by the executable that asked
		os.Exit(command(os.Args[1:]))
	}
	os.Exit(reexec.Main(m))
}

// deadline is generous: a wait for something to happen ends here.
const deadline = 4 * time.Minute

// daemonHelper is an SDK daemon that tells each client who it is, line by line: its pid,
// its generation, and what the client said.
var daemonHelper = reexec.Helper("daemon", func([]string) { daemon.Run[telling]() })

type telling struct{}

func (telling) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (telling) Load(ctx context.Context, inst *daemon.Instance) (uint64, error) {
	fmt.Fprintf(os.Stderr, "generation %d loads\n", inst.Generation())
	if how := os.Getenv("FAIL"); how != "" {
		return 0, errors.New(how)
	}
	d, _ := time.ParseDuration(os.Getenv("LOAD"))
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return inst.Generation(), ctx.Err()
}

func (telling) Serve(ctx context.Context, ln net.Listener, generation uint64) error {
	takes, _ := strconv.Atoi(os.Getenv("TAKES"))
	for n := 1; ; n++ {
		if generation == 1 && n == takes+1 && takes > 0 { // and nobody else
			<-ctx.Done()
			return nil
		}
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				fmt.Fprintf(conn, "%d %d %s", os.Getpid(), generation, line)
			}
		}()
	}
}

// world gives a test a runtime directory of its own, and takes care that nothing of it
// lives on.
func world(t *testing.T) {
	t.Helper()
	t.Setenv("FASTBIND_RUNTIME_DIR", filepath.Join(t.TempDir(), "run"))
}

// service is one whose daemon is the helper.
func service(t *testing.T, env ...string) fastbind.Service {
	t.Helper()
	daemonIsUsed()
	s := fastbind.Service{Name: "telling", Env: append([]string{"REEXEC_HELPER=" + daemonHelper}, env...)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := s.Stop(ctx); err != nil && !errors.Is(err, fastbind.ErrNotRunning) && !errors.Is(err, fastbind.ErrNoService) {
			t.Error(err)
		}
	})
	return s
}

func daemonIsUsed() { reexec.Used(daemonHelper) }

// An answer is what a daemon says of itself.
type answer struct {
	pid, generation int
}

// ask sends a line on a connection and returns the answer.
func ask(c net.Conn, r *bufio.Reader) (a answer, err error) {
	_ = c.SetDeadline(time.Now().Add(deadline))
	if _, err = fmt.Fprintln(c, "hello"); err != nil {
		return a, err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return a, err
	}
	var said string
	_, err = fmt.Sscan(line, &a.pid, &a.generation, &said)
	if err == nil && said != "hello" {
		err = fmt.Errorf("answered %q", line)
	}
	return a, err
}

// dialAndAsk is a client's whole life.
func dialAndAsk(ctx context.Context, s fastbind.Service) (answer, error) {
	c, err := fastbind.Dial(ctx, s)
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	return ask(c, bufio.NewReader(c))
}

func mustAsk(t *testing.T, s fastbind.Service) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	a, err := dialAndAsk(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// kill9 ends a process as TerminateProcess does, and waits until it is dead.
func kill9(t *testing.T, pid int) {
	t.Helper()
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(h)
	if err := windows.TerminateProcess(h, 1); err != nil {
		t.Fatal(err)
	}
	if e, err := windows.WaitForSingleObject(h, uint32(deadline.Milliseconds())); err != nil || e != windows.WAIT_OBJECT_0 {
		t.Fatal(e, err)
	}
}

// isDead reports whether the process has ended.
func isDead(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return true
	}
	defer windows.CloseHandle(h)
	e, err := windows.WaitForSingleObject(h, 0)
	return err == nil && e == windows.WAIT_OBJECT_0
}

// TestLife: one daemon for all dials; a stop ends it; the next dial launches the next,
// after a stop and after TerminateProcess (R9).
func TestLife(t *testing.T) {
	world(t)
	s := service(t)
	first := mustAsk(t, s)
	if again := mustAsk(t, s); again != first {
		t.Errorf("a second dial is answered by %+v, the first by %+v", again, first)
	}
	st, err := s.Status(t.Context())
	if err != nil || st.Phase != fastbind.Ready || st.PID != first.pid {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !isDead(first.pid) {
		t.Error("stop has returned, and the process lives (R24)")
	}
	second := mustAsk(t, s)
	if second.generation != 2 {
		t.Errorf("after a stop it is %+v", second)
	}
	kill9(t, second.pid)
	third := mustAsk(t, s)
	if third.generation != 3 {
		t.Errorf("after a kill it is %+v", third)
	}
	log, err := os.ReadFile(st.Log)
	if err != nil || !strings.Contains(string(log), "generation 1 loads\n") {
		t.Errorf("the log says %q, %v", log, err)
	}
}

// TestLoadFails: why it failed reaches who waits, with the log's last line and the exit
// status (R3), and three failures are enough for a while.
func TestLoadFails(t *testing.T) {
	world(t)
	s := service(t, "FAIL=no index")
	for range 3 {
		_, err := dialAndAsk(t.Context(), s)
		var f *fastbind.Error
		if !errors.As(err, &f) || !errors.Is(err, fastbind.ErrLaunchFailed) || f.Stage != "load" || !strings.Contains(err.Error(), "no index") {
			t.Fatalf("%+v", err)
		}
		if f.ExitStatus != 1 {
			t.Errorf("exit status %d", f.ExitStatus)
		}
		if !slices.ContainsFunc(f.LogTail, func(l string) bool { return strings.Contains(l, "no index") }) {
			t.Errorf("the log's last lines are %q", f.LogTail)
		}
	}
	_, err := dialAndAsk(t.Context(), s)
	var f *fastbind.Error
	if !errors.As(err, &f) || !errors.Is(err, fastbind.ErrRefused) || f.RetryAt.IsZero() {
		t.Errorf("the fourth launch: %+v", err)
	}
}

// clientHelper dials once it is told to, and says who has answered.
var clientHelper = reexec.Helper("client", func(args []string) {
	fmt.Println("waiting")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	reexec.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	a, err := dialAndAsk(ctx, helperService(args))
	reexec.Check(err)
	fmt.Println(a.pid, a.generation)
})

func helperService(args []string) fastbind.Service {
	return fastbind.Service{Name: "telling", Env: append([]string{"REEXEC_HELPER=" + daemonHelper}, args...)}
}

// A process is one of the test's own, with its output by lines.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, helper string, args ...string) *process {
	t.Helper()
	p := &process{cmd: reexec.Command(t, helper, args...)}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Errorf("process %d: %q, %v", p.cmd.Process.Pid, line, err)
	}
	return strings.TrimSpace(line)
}

// crowdSize is how many client processes come at once.
const crowdSize = 32

// TestCrowd: however many processes dial at once, one daemon is launched, and no client
// has an error (R1).
func TestCrowd(t *testing.T) {
	world(t)
	s := service(t, "LOAD=300ms")
	var clients []*process
	for range crowdSize {
		clients = append(clients, start(t, clientHelper, "LOAD=300ms"))
	}
	for _, c := range clients {
		c.line(t)
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { _, _ = io.WriteString(c.in, "go\n") })
	}
	wg.Wait()
	var answers []string
	for _, c := range clients {
		answers = append(answers, c.line(t))
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	slices.Sort(answers)
	if distinct := slices.Compact(slices.Clone(answers)); len(answers) != crowdSize || len(distinct) != 1 {
		t.Errorf("%d clients, answered by %q", len(answers), distinct)
	}
	if a := mustAsk(t, s); answers[0] != strconv.Itoa(a.pid)+" 1" {
		t.Errorf("it is %+v; the crowd was answered by %q", a, answers[0])
	}
}

// launcherHelper launches, and ends itself as TerminateProcess does before the n-th step.
var launcherHelper = reexec.Helper("launcher", func(args []string) {
	n, err := strconv.Atoi(args[0])
	reexec.Check(err)
	launch.OnStep = func(s launch.Step) {
		if int(s) == n {
			fmt.Println("reached")
			_ = windows.TerminateProcess(windows.CurrentProcess(), 9)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	_, err = dialAndAsk(ctx, helperService(nil))
	reexec.Check(err)
	fmt.Println("served")
})

// unreached are the steps that a cold launch of this kind does not come to, and why.
var unreached = map[launch.Step]string{
	launch.StepConnect:    "a dial looks itself before it runs the protocol",
	launch.StepPause:      "nobody else holds the lock",
	launch.StepRestore:    "a pipe's name cannot be deleted",
	launch.StepSucceed:    "it succeeds nobody",
	launch.StepOwn:        "only a standing broker asks it",
	launch.StepAwaitBound: "the broker binds",
	launch.StepAbandon:    "nothing fails",
}

// TestFaults: TerminateProcess of the launcher before each step. Whatever was half done,
// the next dial succeeds unaided, and one daemon serves (I1, I4).
func TestFaults(t *testing.T) {
	for _, step := range launch.Steps() {
		t.Run(step.String(), func(t *testing.T) {
			world(t)
			s := service(t)
			p := start(t, launcherHelper, strconv.Itoa(int(step)))
			said := p.line(t)
			_ = p.cmd.Wait()
			why, never := unreached[step]
			if want := map[bool]string{true: "served", false: "reached"}[never]; said != want {
				t.Fatalf("the launcher says %q, want %q (%s)", said, want, why)
			}
			a := mustAsk(t, s)
			if b := mustAsk(t, s); a != b {
				t.Errorf("served by %+v and %+v", a, b)
			}
			st, err := s.Status(t.Context())
			if err != nil || st.PID != a.pid {
				t.Errorf("status %+v, %v; served by %+v", st, err, a)
			}
		})
	}
}

// TestDaemonKilledAtOnce: TerminateProcess of the daemon as soon as it has a pid, while it
// loads, and when it is ready. Who waits on it has the reason, and the next dial succeeds.
func TestDaemonKilledAtOnce(t *testing.T) {
	world(t)
	s := service(t, "LOAD=1h")
	for _, phase := range []fastbind.Phase{fastbind.Launching, fastbind.Loading} {
		c, err := fastbind.Dial(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		pid := awaitPhase(t, s, phase)
		kill9(t, pid)
		_, err = ask(c, bufio.NewReader(c))
		if !errors.Is(err, fastbind.ErrLaunchFailed) {
			t.Errorf("killed when it was %s: %v", phase, err)
		}
		_ = c.Close()
	}
	quick := service(t)
	a := mustAsk(t, quick)
	kill9(t, a.pid)
	if b := mustAsk(t, quick); b.generation != a.generation+1 {
		t.Errorf("after %+v comes %+v", a, b)
	}
}

// awaitPhase waits until the daemon is in the phase, or has left it, and returns its pid.
func awaitPhase(t *testing.T, s fastbind.Service, phase fastbind.Phase) int {
	t.Helper()
	order := []fastbind.Phase{fastbind.Launching, fastbind.Bound, fastbind.Loading, fastbind.Ready, fastbind.Draining}
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		st, err := s.Status(t.Context())
		if err == nil && st.PID != 0 && slices.Index(order, st.Phase) >= slices.Index(order, phase) {
			return st.PID
		}
		if time.Now().After(end) {
			t.Fatalf("not %s: %+v, %v", phase, st, err)
		}
	}
}

// TestDrain: a stop serves who is connected, and meanwhile the next dial launches the
// next one beside it, though the pipe's name is still there (I3).
func TestDrain(t *testing.T) {
	world(t)
	s := service(t)
	c, err := fastbind.Dial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	old, err := ask(c, r)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		if st, err := s.Status(t.Context()); err == nil && st.Phase == fastbind.Draining {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not drain")
		}
	}
	next := mustAsk(t, s)
	for next == old { // it says that it drains a moment before it lets nobody in
		next = mustAsk(t, s)
	}
	if next.generation != old.generation+1 {
		t.Errorf("in the drain of %+v a dial is served by %+v", old, next)
	}
	if still, err := ask(c, r); err != nil || still != old {
		t.Errorf("who was connected is served by %+v, %v", still, err)
	}
	_ = c.Close()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Fatal("the stop does not end")
	}
	if !isDead(old.pid) {
		t.Error("the old one lives")
	}
	if again := mustAsk(t, s); again != next {
		t.Errorf("then %+v, not %+v", again, next)
	}
}

// draining launches a generation, has it drain, and keeps a connection to it until the
// test ends, before the cleanup of services that were made before. It returns when nobody else is let in.
func draining(t *testing.T, s fastbind.Service) answer {
	t.Helper()
	s.StopWithin = deadline
	c, err := fastbind.Dial(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ask(c, bufio.NewReader(c))
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
	t.Cleanup(func() {
		_ = c.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(os.Getenv("FASTBIND_RUNTIME_DIR"), "default", s.Name)
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		entries, err := launch.Generations(dir)
		if len(entries) == 1 && entries[0].Record.Shut {
			return a
		}
		if time.Now().After(end) {
			t.Fatalf("it lets in whoever comes: %+v, %v", entries, err)
		}
	}
}

// within is a dial that must not wait for a drain's end.
func within(t *testing.T, s fastbind.Service) (answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return dialAndAsk(ctx, s)
}

// TestFailsBesideDrain: whatever becomes of the next generation while an old one drains,
// which keeps the pipe's name, a dial launches another one, or is told why none comes (I2,
// I4).
func TestFailsBesideDrain(t *testing.T) {
	served := func(t *testing.T, s fastbind.Service, generation int) {
		t.Helper()
		if a, err := within(t, s); err != nil || a.generation != generation {
			t.Errorf("served by %+v, %v; want generation %d", a, err, generation)
		}
	}
	t.Run("killed", func(t *testing.T) {
		world(t)
		s := service(t)
		draining(t, s)
		next := mustAsk(t, s)
		kill9(t, next.pid)
		served(t, s, next.generation+1)
	})
	t.Run("load fails", func(t *testing.T) {
		world(t)
		s, failing := service(t), service(t, "FAIL=no index")
		draining(t, s)
		for range 2 {
			if _, err := within(t, failing); !errors.Is(err, fastbind.ErrLaunchFailed) || !strings.Contains(err.Error(), "no index") {
				t.Fatal(err)
			}
		}
		served(t, s, 4)
	})
	t.Run("budget is spent", func(t *testing.T) {
		world(t)
		s, failing := service(t), service(t, "FAIL=no index")
		draining(t, s)
		for range 3 {
			if _, err := within(t, failing); !errors.Is(err, fastbind.ErrLaunchFailed) {
				t.Fatal(err)
			}
		}
		_, err := within(t, failing)
		var f *fastbind.Error
		if !errors.As(err, &f) || !errors.Is(err, fastbind.ErrRefused) || f.RetryAt.IsZero() {
			t.Errorf("the fourth launch: %+v", err)
		}
	})
	t.Run("launcher killed", func(t *testing.T) {
		world(t)
		s := service(t)
		draining(t, s)
		p := start(t, launcherHelper, strconv.Itoa(int(launch.StepSpawn)))
		if said := p.line(t); said != "reached" {
			t.Fatalf("the launcher says %q", said)
		}
		_ = p.cmd.Wait()
		served(t, s, 3)
	})
}

// idleCycles is how often the daemon is dialled when it may be about to end by itself.
const idleCycles = 25

// TestIdleExit: a dial that meets an idle exit is served, by the old or the next one (R23).
func TestIdleExit(t *testing.T) {
	world(t)
	s := service(t)
	s.IdleExit = time.Millisecond
	generations := map[int]bool{}
	for i := range idleCycles {
		a := mustAsk(t, s)
		generations[a.generation] = true
		time.Sleep(time.Duration(i%5) * 300 * time.Microsecond)
	}
	if len(generations) < 2 {
		t.Errorf("%d dials met no idle exit", idleCycles)
	}
	t.Logf("%d dials were served by %d generations", idleCycles, len(generations))
}

// TestUpgrade: a successor takes over under load, and no client has an error (R14).
func TestUpgrade(t *testing.T) {
	world(t)
	s := service(t)
	old := mustAsk(t, s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	served := map[int]int{} // by generation
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := dialAndAsk(context.WithoutCancel(ctx), s)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				served[a.generation]++
				mu.Unlock()
			}
		})
	}
	for range 3 {
		rctx, cancel := context.WithTimeout(t.Context(), deadline)
		if err := s.Restart(rctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	stop()
	wg.Wait()
	now := mustAsk(t, s)
	if now.generation != old.generation+3 {
		t.Errorf("after three restarts %+v comes after %+v", now, old)
	}
	if !isDead(old.pid) {
		for end := time.Now().Add(deadline); !isDead(old.pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Error("the first one lives on")
				break
			}
		}
	}
	t.Logf("served by generation: %v", served)
}

// TestOnlyListedHandles: a parent's further inheritable pipe is not the daemon's: its
// other end sees the end of it while the daemon lives (R5). Nor is the launcher's output.
func TestOnlyListedHandles(t *testing.T) {
	world(t)
	s := service(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := reexec.Command(t, strayHelper, fmt.Sprint(w.Fd()))
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{syscall.Handle(w.Fd())}}
	if err := windows.SetHandleInformation(windows.Handle(w.Fd()), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output() // ends when nobody holds its output any more
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan string, 1)
	go func() {
		b, err := io.ReadAll(r)
		end <- fmt.Sprintf("%q %v", b, err)
	}()
	select {
	case got := <-end:
		if want := `"stray" <nil>`; got != want {
			t.Errorf("read %s, want %s", got, want)
		}
	case <-time.After(deadline):
		t.Error("somebody holds the launcher's pipe")
	}
	if a := mustAsk(t, s); strings.TrimSpace(string(out)) != fmt.Sprint(a.pid, a.generation) {
		t.Errorf("the launcher was served by %q; now it is %+v", out, a)
	}
}

// strayHelper launches with an inheritable handle of its own.
var strayHelper = reexec.Helper("stray", func(args []string) {
	h, err := strconv.Atoi(args[0])
	reexec.Check(err)
	handle := windows.Handle(h)
	reexec.Check(windows.SetHandleInformation(handle, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT))
	_, err = windows.Write(handle, []byte("stray"))
	reexec.Check(err)
	a, err := dialAndAsk(context.Background(), helperService(nil))
	reexec.Check(err)
	fmt.Println(a.pid, a.generation)
})

// slayerHelper launches, and ends the daemon as TerminateProcess does before the n-th step.
var slayerHelper = reexec.Helper("slayer", func(args []string) {
	n, err := strconv.Atoi(args[0])
	reexec.Check(err)
	s := helperService([]string{"LOAD=1h"})
	slain := false
	launch.OnStep = func(step launch.Step) {
		if int(step) != n || slain {
			return
		}
		slain = true
		st, err := s.Status(context.Background())
		reexec.Check(err)
		h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(st.PID))
		reexec.Check(err)
		reexec.Check(windows.TerminateProcess(h, 9))
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	_, err = dialAndAsk(ctx, s)
	var f *fastbind.Error
	if !errors.As(err, &f) || !errors.Is(err, fastbind.ErrLaunchFailed) {
		reexec.Check(fmt.Errorf("not a failed launch: %w", err))
	}
	fmt.Println(f.Stage, f.ExitStatus)
})

// TestDaemonKilledAtStep: TerminateProcess of the daemon before each step that its
// launcher does after it has started it. The launcher has the reason, and the next dial
// succeeds (I2, I4).
func TestDaemonKilledAtStep(t *testing.T) {
	for _, step := range []launch.Step{launch.StepCloseCopies, launch.StepUnlock, launch.StepDone} {
		t.Run(step.String(), func(t *testing.T) {
			world(t)
			s := service(t)
			p := start(t, slayerHelper, strconv.Itoa(int(step)))
			if said := p.line(t); said != "adopt 9" && said != "load 9" {
				t.Errorf("the launcher was told %q", said)
			}
			if err := p.cmd.Wait(); err != nil {
				t.Error(err)
			}
			if a := mustAsk(t, s); a.generation != 2 {
				t.Errorf("then it is %+v", a)
			}
		})
	}
}

// byHandHelper is a daemon that a user has started.
var byHandHelper = reexec.Helper("byhand", func([]string) {
	daemon.Run[telling](daemon.For(fastbind.Service{Name: "telling"}))
})

// TestByHand: a daemon that is started by hand serves the service's clients, and a second
// one is told that there is one.
func TestByHand(t *testing.T) {
	world(t)
	s := service(t)
	p := start(t, byHandHelper)
	pid := awaitPhase(t, s, fastbind.Ready)
	if pid != p.cmd.Process.Pid {
		t.Errorf("the daemon is %d, and was started as %d", pid, p.cmd.Process.Pid)
	}
	if a := mustAsk(t, s); a.pid != pid {
		t.Errorf("served by %+v", a)
	}
	again := reexec.Command(t, byHandHelper)
	var said strings.Builder
	again.Stderr = &said
	if err := again.Run(); err == nil || !strings.Contains(said.String(), fastbind.ErrAlreadyBound.Error()) {
		t.Errorf("the second one: %v, %q", err, said.String())
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it was stopped, and ends with %v", err)
	}
}

// TestSelfBinder: with bind policy "daemon" the daemon claims the pipe itself, under its
// launcher's lock.
func TestSelfBinder(t *testing.T) {
	world(t)
	s := service(t)
	s.Bind, s.BoundWithin = fastbind.BindDaemon, time.Minute
	a := mustAsk(t, s)
	if b := mustAsk(t, s); a != b {
		t.Errorf("served by %+v and %+v", a, b)
	}
}

// TestSelfBinderBesideDrain: the next daemon that binds itself claims the name beside the
// connections of the one that drains, and so does one that is started by hand.
func TestSelfBinderBesideDrain(t *testing.T) {
	t.Run("launched", func(t *testing.T) {
		world(t)
		s := service(t)
		s.Bind, s.BoundWithin = fastbind.BindDaemon, time.Minute
		old := draining(t, s)
		a, err := within(t, s)
		if err != nil || a.generation != old.generation+1 {
			t.Fatalf("in the drain of %+v a dial is served by %+v, %v", old, a, err)
		}
		if b := mustAsk(t, s); a != b {
			t.Errorf("served by %+v and %+v", a, b)
		}
	})
	t.Run("by hand", func(t *testing.T) {
		world(t)
		s := service(t)
		old := draining(t, s)
		p := start(t, byHandHelper)
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if st, err := s.Status(t.Context()); err == nil && st.Phase == fastbind.Ready {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("it does not serve beside %+v", old)
			}
		}
		if a, err := within(t, s); err != nil || a.pid != p.cmd.Process.Pid {
			t.Errorf("served by %+v, %v; started %d", a, err, p.cmd.Process.Pid)
		}
	})
}

// tiedHelper launches from within a job that lets nobody out.
var tiedHelper = reexec.Helper("tied", func([]string) {
	job, err := windows.CreateJobObject(nil, nil)
	reexec.Check(err)
	reexec.Check(windows.AssignProcessToJobObject(job, windows.CurrentProcess()))
	a, err := dialAndAsk(context.Background(), helperService(nil))
	reexec.Check(err)
	fmt.Println(a.pid, a.generation)
})

// TestTied: a daemon that cannot leave its launcher's job says so where one looks for why
// it has ended (R20).
func TestTied(t *testing.T) {
	world(t)
	s := service(t)
	p := start(t, tiedHelper)
	said := p.line(t)
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if a := mustAsk(t, s); said != fmt.Sprint(a.pid, a.generation) {
		t.Errorf("launched %q, then served by %+v", said, a)
	}
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	journal, err := os.ReadFile(strings.TrimSuffix(st.Log, ".log") + ".journal")
	if err != nil || !strings.Contains(string(journal), "in its starter's job") {
		t.Errorf("the journal has %q, %v", journal, err)
	}
}

// TestForeignIsRefused: what cannot be done is said at once, and nothing is left of it.
func TestForeignIsRefused(t *testing.T) {
	world(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := fastbind.Service{Name: "foreign", Foreign: true, Command: []string{exe}}
	_, err = fastbind.Dial(t.Context(), s)
	if !errors.Is(err, fastbind.ErrRefused) || !strings.Contains(err.Error(), "can inherit no listener on Windows") {
		t.Errorf("%v", err)
	}
	if st, err := s.Status(t.Context()); err == nil && st.Alive() {
		t.Errorf("%+v", st)
	}
}
