//go:build linux

package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

// child is a process of ours that ends only when it is told to, and that
// nobody reaps before the test's end but the test.
type child struct {
	pid int
	in  *os.File
}

// end closes the child's input.
func (c *child) end() { c.in.Close() }

// startChild runs sh with a pipe as descriptor 3, which it also gets on
// descriptor 0, and out, if any, as standard output.
func startChild(t testing.TB, script string, out *os.File) *child {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Files: []*os.File{r, out, os.Stderr, r}})
	if err != nil {
		t.Fatal(err)
	}
	c := &child{pid: p.Pid, in: w}
	p.Release() // or package os would reap it
	t.Cleanup(func() {
		w.Close()
		syscall.Kill(c.pid, syscall.SIGKILL) // still ours: a zombie at most, or
		syscall.Wait4(c.pid, nil, 0, nil)    // the test reaped it just before
	})
	return c
}

// waitFor is the script of a child that ends with the given command.
func waitFor(command string) string { return "read x; " + command }

func mustID(t testing.TB, pid int) ID {
	t.Helper()
	id, err := Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustOpen(t testing.TB, id ID) *Handle {
	t.Helper()
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func mustWait(t testing.TB, h *Handle) {
	t.Helper()
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantGone(t testing.TB, id ID) {
	t.Helper()
	h, err := Open(id)
	if err == nil {
		h.Close()
	}
	if !errors.Is(err, ErrGone) {
		t.Errorf("Open(%+v) = %v, want ErrGone", id, err)
	}
}

func kernelAtLeast(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && b >= minor
}

func TestSelf(t *testing.T) {
	id, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if id.PID != os.Getpid() || id.Start == 0 || len(id.BootID) != 36 || !strings.HasPrefix(id.PIDNS, "pid:[") {
		t.Errorf("Self = %+v", id)
	}
	if again := mustID(t, os.Getpid()); again != id {
		t.Errorf("Of(own pid) = %+v, Self = %+v", again, id)
	}
	h := mustOpen(t, id)
	if !h.Alive() || h.PID() != os.Getpid() {
		t.Errorf("alive %v, pid %d", h.Alive(), h.PID())
	}
	if err := h.Signal(0); err != nil {
		t.Errorf("Signal(0) = %v", err)
	}
	if e, dead := h.Exit(); dead || e != (Exit{}) {
		t.Errorf("Exit = %v, %v", e, dead)
	}
	if _, _, err := h.Reap(); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("Reap of ourselves: %v", err)
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if _, err := Of(pid); !errors.Is(err, ErrGone) {
			t.Errorf("Of(%d) = %v", pid, err)
		}
	}
}

func TestOpenComparesIdentity(t *testing.T) {
	c := startChild(t, waitFor(":"), nil)
	id := mustID(t, c.pid)
	mustOpen(t, id)

	recycled := id
	recycled.Start++
	wantGone(t, recycled)

	rebooted := id
	rebooted.BootID = "00000000-0000-4000-8000-000000000000"
	wantGone(t, rebooted)

	elsewhere := id
	elsewhere.PIDNS = "pid:[1]"
	if _, err := Open(elsewhere); !errors.Is(err, ErrElsewhere) || errors.Is(err, ErrGone) {
		t.Errorf("other namespace: %v", err)
	}

	mustOpen(t, ID{PID: id.PID, Start: id.Start, PIDNS: id.PIDNS}) // what is unknown is not compared
	if id.PIDNS != "" {
		// But a pid of no known namespace is no process (R10).
		if _, err := Open(ID{PID: id.PID, Start: id.Start, BootID: id.BootID}); err != ErrUnproven {
			t.Errorf("without a pid namespace: %v", err)
		}
	}
	for _, bad := range []ID{{}, {PID: id.PID}, {PID: -1, Start: 1}} {
		if _, err := Open(bad); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Open(%+v) = %v, want EINVAL", bad, err)
		}
	}
}

// TestOpenRefusesThreads: a pid that has become the number of a thread.
func TestOpenRefusesThreads(t *testing.T) {
	tid := make(chan int)
	stop := make(chan struct{})
	defer close(stop)
	for range 2 { // one of them may be the main thread
		go func() {
			runtime.LockOSThread()
			tid <- unix.Gettid()
			<-stop
		}()
	}
	for range 2 {
		if n := <-tid; n != os.Getpid() {
			start, err := startOf(n)
			if err != nil {
				t.Fatal(err)
			}
			wantGone(t, ID{PID: n, Start: start, PIDNS: mustID(t, os.Getpid()).PIDNS})
		}
	}
}

func TestZombieIsDead(t *testing.T) {
	c := startChild(t, waitFor("exit 3"), nil)
	id := mustID(t, c.pid)
	h := mustOpen(t, id)
	if !h.Alive() {
		t.Fatal("dead at the start")
	}
	if _, ok, err := h.Reap(); ok || err != nil {
		t.Fatalf("Reap of a living child: %v, %v", ok, err)
	}
	c.end()
	mustWait(t, h)

	if again := mustID(t, c.pid); again != id {
		t.Errorf("no zombie: %+v", again)
	}
	wantGone(t, id)
	if h.Alive() {
		t.Error("a zombie is alive")
	}
	if err := h.Signal(syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("Signal = %v", err)
	}
	want := Exit{Known: true, Code: 3}
	if e, dead := h.Exit(); e != want || !dead {
		t.Errorf("Exit = %+v, %v", e, dead)
	}
	mustID(t, c.pid) // Exit took nothing away
	for range 2 {
		if e, ok, err := h.Reap(); e != want || !ok || err != nil {
			t.Errorf("Reap = %+v, %v, %v", e, ok, err)
		}
	}
	if _, err := Of(c.pid); !errors.Is(err, ErrGone) {
		t.Errorf("still there after Reap: %v", err)
	}
	wantGone(t, id)
}

func TestEndsOfChildren(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, command string
		want          string
	}{
		{"success", "exit 0", "exit status 0"},
		{"status", "exit 255", "exit status 255"},
		{"kill -9", "kill -9 $$", "signal: killed"},
		{"terminated", "kill -TERM $$", "signal: terminated"},
		{"no core", "ulimit -c 0; kill -ABRT $$", "signal: aborted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startChild(t, "cd "+dir+"; "+waitFor(tc.command), nil)
			h := mustOpen(t, mustID(t, c.pid))
			c.end()
			mustWait(t, h)
			peeked, dead := h.Exit()
			if peeked.String() != tc.want || !dead {
				t.Errorf("Exit = %v, %v; want %s", peeked, dead, tc.want)
			}
			if reaped, ok, err := h.Reap(); reaped != peeked || !ok || err != nil {
				t.Errorf("Reap = %+v, %v, %v; Exit was %+v", reaped, ok, err, peeked)
			}
		})
	}
}

func TestSignalKills(t *testing.T) {
	c := startChild(t, waitFor(":"), nil)
	h := mustOpen(t, mustID(t, c.pid))
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustWait(t, h)
	if e, _ := h.Exit(); e != (Exit{Known: true, Signal: syscall.SIGKILL}) {
		t.Errorf("Exit = %+v", e)
	}
}

// TestHostReaps: the host program takes the status away.
func TestHostReaps(t *testing.T) {
	c := startChild(t, waitFor("exit 9"), nil)
	h := mustOpen(t, mustID(t, c.pid))
	c.end()
	mustWait(t, h)
	if pid, err := syscall.Wait4(c.pid, nil, 0, nil); pid != c.pid {
		t.Fatal(pid, err)
	}
	if _, ok, err := h.Reap(); ok || !errors.Is(err, syscall.ECHILD) {
		t.Errorf("Reap = %v, %v; want ECHILD", ok, err)
	}
	e, dead := h.Exit()
	want := Exit{Known: true, Code: 9}
	if !kernelAtLeast(t, 6, 15) {
		want = Exit{} // no PIDFD_INFO_EXIT
	}
	if e != want || !dead {
		t.Errorf("Exit = %+v, %v; want %+v", e, dead, want)
	}
}

func TestFromPidfd(t *testing.T) {
	fd := -1
	cmd := exec.Command("/bin/sh", "-c", waitFor("exit 4"))
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &fd}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := FromPidfd(fd, cmd.Process.Pid)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v: not for the poller", flags, err)
	}
	if !h.Alive() || h.PID() != cmd.Process.Pid {
		t.Errorf("alive %v, pid %d", h.Alive(), h.PID())
	}
	in.Close()
	mustWait(t, h)
	if e, ok, err := h.Reap(); e.String() != "exit status 4" || !ok || err != nil {
		t.Errorf("Reap = %v, %v, %v", e, ok, err)
	}
	if err := cmd.Wait(); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("os.Process.Wait after Reap: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("the pidfd is open after Close: %v", err)
	}
}

// TestOthersChild learns the end of a process whose parent is another one,
// which is kept from reaping it until told.
func TestOthersChild(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// The inner process reads one line of the pipe, its parent then another.
	parent := startChild(t, `(read x; exit 7) <&3 & echo $!; kill -STOP $$; wait $!; echo "reaped $?"; read y`, w)
	w.Close()
	out := bufio.NewReader(r)
	line := func() string {
		t.Helper()
		s, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(s)
	}
	pid, err := strconv.Atoi(line())
	if err != nil {
		t.Fatal(err)
	}
	h := mustOpen(t, mustID(t, pid))
	awaitStopped(t, parent.pid)
	if _, err := io.WriteString(parent.in, "end\n"); err != nil {
		t.Fatal(err)
	}
	mustWait(t, h)
	if e, dead := h.Exit(); e != (Exit{}) || !dead {
		t.Errorf("zombie of another: Exit = %+v, %v; want unknown", e, dead)
	}
	if _, _, err := h.Reap(); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("Reap = %v, want ECHILD", err)
	}
	if err := syscall.Kill(parent.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := line(); got != "reaped 7" {
		t.Fatalf("parent said %q", got)
	}
	if !kernelAtLeast(t, 6, 15) {
		t.Skip("the kernel has no PIDFD_INFO_EXIT (Linux 6.15)")
	}
	for range 2 {
		if e, dead := h.Exit(); e != (Exit{Known: true, Code: 7}) || !dead {
			t.Errorf("Exit = %+v, %v", e, dead)
		}
	}
}

// awaitStopped blocks until our child has stopped.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("%v, %#x", err, ws)
	}
}

// TestStoppedIsAlive: only an end is an end.
func TestStoppedIsAlive(t *testing.T) {
	c := startChild(t, waitFor(":"), nil)
	id := mustID(t, c.pid)
	h := mustOpen(t, id)
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, c.pid)
	if !h.Alive() {
		t.Error("stopped is dead")
	}
	mustOpen(t, id)
}

func TestWaitCancelAndClose(t *testing.T) {
	c := startChild(t, waitFor(":"), nil)
	h := mustOpen(t, mustID(t, c.pid))

	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- h.Wait(ctx) }()
	go func() { errs <- h.Wait(t.Context()) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Wait = %v", err)
	}
	if err := h.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a dead context = %v", err)
	}
	if err := h.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := <-errs; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait during Close = %v", err)
	}

	if err := h.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close = %v", err)
	}
	if err := h.Wait(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Wait after Close = %v", err)
	}
	if err := h.Signal(0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Signal after Close = %v", err)
	}
	if _, _, err := h.Reap(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reap after Close = %v", err)
	}
	if e, dead := h.Exit(); dead || e.Known || !h.Alive() {
		t.Errorf("after Close: Exit = %v, %v, alive %v: nothing proves an end", e, dead, h.Alive())
	}
}

// TestDeadBeatsCancelled: of two news the better one.
func TestDeadBeatsCancelled(t *testing.T) {
	c := startChild(t, waitFor(":"), nil)
	h := mustOpen(t, mustID(t, c.pid))
	c.end()
	mustWait(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := h.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyWaiters: waiting costs goroutines, not threads.
func TestManyWaiters(t *testing.T) {
	const processes, each = 20, 10
	goroutines := runtime.NumGoroutine()
	before := threads(t)
	var handles []*Handle
	var children []*child
	for range processes {
		c := startChild(t, waitFor(":"), nil)
		children = append(children, c)
		handles = append(handles, mustOpen(t, mustID(t, c.pid)))
	}
	var waiters sync.WaitGroup
	for _, h := range handles {
		for range each {
			waiters.Go(func() {
				if err := h.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	// All are parked: on the pidfd in the poller, or on the handle's channels.
	for parked("Wait(", "[select") < processes*each || parked("watch(", "[IO wait") < processes {
		runtime.Gosched()
	}
	if n := threads(t); n > before+10 {
		t.Errorf("%d threads with %d waiters, %d before", n, processes*each, before)
	}
	for _, c := range children {
		c.end()
	}
	waiters.Wait()
	for _, h := range handles {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	// Close has waited for each handle's goroutine; those of this test and of
	// its contexts end by themselves.
	for runtime.NumGoroutine() > goroutines {
		if t.Context().Err() != nil {
			t.Fatal("goroutines left")
		}
		runtime.Gosched()
	}
}

// parked counts the goroutines that wait in a method of Handle in this state.
func parked(method, how string) int {
	buf := make([]byte, 4<<20)
	n := 0
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		state, _, _ := strings.Cut(g, "\n")
		if strings.Contains(g, ".(*Handle)."+method) && strings.Contains(state, how) {
			n++
		}
	}
	return n
}

func threads(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

// TestWithoutPoller: watch looks at intervals where it gets no event, as it
// always does on other systems.
func TestWithoutPoller(t *testing.T) {
	c := startChild(t, waitFor("exit 5"), nil)
	pidfd, err := unix.PidfdOpen(c.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(pidfd), "pidfd") // blocking: not in the poller
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	h := newHandle(c.pid, 0, handle{file: f, raw: raw})
	if h.await() { // does not return at all if the poller took the descriptor
		t.Fatal("a living process is dead")
	}
	done := make(chan error)
	go func() { done <- h.Wait(t.Context()) }()
	c.end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := startChild(t, waitFor("exit 6"), nil)
	h := mustOpen(t, mustID(t, c.pid))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for {
				h.Signal(0)
				if i == 0 {
					if e, ok, err := h.Reap(); err != nil || ok && e.Code != 6 {
						t.Errorf("Reap = %v, %v", e, err)
						return
					}
				}
				if e, dead := h.Exit(); dead {
					if e.Known && e.Code != 6 {
						t.Errorf("Exit = %+v", e)
					}
					return
				}
			}
		})
		wg.Go(func() {
			if err := h.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	c.end()
	wg.Wait()
}

// namedHelper names itself from a thread that is not its main one.
var namedHelper = reexec.Helper("named", func(args []string) {
	done := make(chan struct{})
	for range 2 {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() != os.Getpid() {
				SetName(args[0])
				done <- struct{}{}
			}
			select {}
		}()
	}
	<-done
	fmt.Println("named")
	io.Copy(io.Discard, os.Stdin)
})

func TestHostileName(t *testing.T) {
	for _, name := range []string{"plain", "a b", ") R 1 1 1 1 1 1", "((()))) (", "x)\n1 (y) S 1"} {
		cmd := reexec.Command(t, namedHelper, name)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := mustID(t, cmd.Process.Pid)
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "comm"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSuffix(string(comm), "\n"), name[:min(len(name), 15)]; got != want {
			t.Errorf("name is %q, want %q", got, want)
		}
		if id := mustID(t, cmd.Process.Pid); id != before {
			t.Errorf("named %q: %+v, before %+v", name, id, before)
		}
		mustOpen(t, before)
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// selfHelper prints what it knows of itself, with a /proc of its own pid
// namespace if told to.
var selfHelper = reexec.Helper("self", func(args []string) {
	if len(args) > 0 {
		reexec.Check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		reexec.Check(unix.Mount("proc", "/proc", "proc", 0, ""))
	}
	id, err := Self()
	fmt.Printf("%d %q %v\n", id.PID, id.PIDNS, errors.Is(err, errors.ErrUnsupported))
})

func TestOtherNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a pid namespace")
	}
	run := func(args ...string) (pid int, ns string, unsupported bool) {
		t.Helper()
		cmd := reexec.Command(t, selfHelper, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
		out, err := cmd.Output()
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("this root may not make a pid namespace: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(string(out), "%d %q %v\n", &pid, &ns, &unsupported); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		return pid, ns, unsupported
	}
	if _, _, unsupported := run(); !unsupported {
		t.Error("another namespace's /proc was believed")
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	pid, ns, _ := run("mount")
	if pid != 1 || ns == self.PIDNS || ns == "" {
		t.Errorf("in a new namespace: pid %d, %q; here %q", pid, ns, self.PIDNS)
	}
	if _, err := Open(ID{PID: pid, Start: 1, BootID: self.BootID, PIDNS: ns}); !errors.Is(err, ErrElsewhere) {
		t.Errorf("Open = %v, want ErrElsewhere", err)
	}
}

func TestBootTime(t *testing.T) {
	a, b := BootTime(), BootTime()
	if a <= 0 || b < a {
		t.Errorf("%v, then %v", a, b)
	}
	// Of one clock with the start times: this process began before now, and
	// not before its machine. USER_HZ is 100 on all of Go's systems.
	id, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if start := time.Duration(id.Start) * (time.Second / 100); start > a {
		t.Errorf("started at %v, now %v", start, a)
	}
}

func TestExitString(t *testing.T) {
	for want, e := range map[string]Exit{
		"unknown":                       {},
		"exit status 0":                 {Known: true},
		"exit status 3":                 {Known: true, Code: 3},
		"signal: killed":                {Known: true, Signal: syscall.SIGKILL},
		"signal: aborted (core dumped)": {Known: true, Signal: syscall.SIGABRT, Core: true},
	} {
		if got := e.String(); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
	if got, want := exitOf(syscall.WaitStatus(0x86)), (Exit{Known: true, Signal: syscall.SIGABRT, Core: true}); got != want {
		t.Errorf("exitOf = %+v", got)
	}
}

// TestChildren: those that live and those that have ended, and nobody else's.
func TestChildren(t *testing.T) {
	living, dead := startChild(t, waitFor(":"), nil), startChild(t, waitFor(":"), nil)
	h := mustOpen(t, mustID(t, dead.pid))
	dead.end()
	mustWait(t, h)
	list, err := Children()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, id := range list {
		pids = append(pids, id.PID)
		if got, err := Of(id.PID); err != nil || got != id {
			t.Errorf("%+v, and by its pid %+v, %v", id, got, err)
		}
	}
	for _, c := range []*child{living, dead} {
		if !slices.Contains(pids, c.pid) {
			t.Errorf("%d is not among %d", c.pid, pids)
		}
	}
	if slices.Contains(pids, os.Getpid()) || slices.Contains(pids, os.Getppid()) {
		t.Errorf("%d", pids)
	}
}
