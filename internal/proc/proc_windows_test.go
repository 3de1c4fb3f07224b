package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// endHelper ends with the exit code that it is told, when its standard input ends.
var endHelper = reexec.Helper("end", func(args []string) {
	io.Copy(io.Discard, os.Stdin)
	code, err := strconv.ParseUint(args[0], 10, 32)
	reexec.Check(err)
	windows.ExitProcess(uint32(code))
})

// parentHelper starts a child, which ends with code 7 when its standard input ends, and
// waits for it.
var parentHelper = reexec.Helper("parent", func(args []string) {
	cmd := exec.Command(args[0], "7")
	cmd.Env = append(os.Environ(), "REEXEC_HELPER="+endHelper)
	cmd.Stdin = os.Stdin
	reexec.Check(cmd.Start())
	fmt.Println(cmd.Process.Pid)
	_ = cmd.Wait()
})

// A child is a process of ours that ends only when it is told to. No handle of it is
// kept but those of the test.
type child struct {
	pid int
	in  io.Closer
}

func (c *child) end() { c.in.Close() }

func startChild(t testing.TB, code uint32) *child {
	t.Helper()
	cmd := reexec.Command(t, endHelper, strconv.FormatUint(uint64(code), 10))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{pid: cmd.Process.Pid, in: in}
}

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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
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

func TestSelf(t *testing.T) {
	id, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if id.PID != os.Getpid() || id.Start == 0 {
		t.Errorf("Self = %+v", id)
	}
	// 100 ns since 1601: this process began in the last hour, and not after now.
	ft := windows.Filetime{LowDateTime: uint32(id.Start), HighDateTime: uint32(id.Start >> 32)}
	if ago := time.Since(time.Unix(0, ft.Nanoseconds())); ago < -time.Second || ago > time.Hour {
		t.Errorf("started %v ago", ago)
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
	if err := h.Signal(syscall.SIGTERM); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Signal(SIGTERM) = %v", err)
	}
	if e, dead := h.Exit(); dead || e != (Exit{}) {
		t.Errorf("Exit = %v, %v", e, dead)
	}
	if e, ok, err := h.Reap(); ok || err != nil {
		t.Errorf("Reap of ourselves: %v, %v, %v", e, ok, err)
	}
	// Windows would open ourselves by the three numbers after ours too.
	for _, pid := range []int{0, -1, 1 << 30, 1 << 40, os.Getpid() + 1, os.Getpid() + 3} {
		if _, err := Of(pid); !errors.Is(err, ErrGone) {
			t.Errorf("Of(%d) = %v", pid, err)
		}
	}
}

func TestOpenComparesIdentity(t *testing.T) {
	c := startChild(t, 0)
	id := mustID(t, c.pid)
	mustOpen(t, id)
	recycled := id
	recycled.Start++
	wantGone(t, recycled)
	for _, bad := range []ID{{}, {PID: id.PID}, {PID: -1, Start: 1}} {
		if _, err := Open(bad); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Open(%+v) = %v, want EINVAL", bad, err)
		}
	}
	if other := mustID(t, startChild(t, 0).pid); other.Start == id.Start {
		t.Errorf("two processes began at %d", id.Start)
	}
}

// TestEnds: every exit code is told, that of a living process included.
func TestEnds(t *testing.T) {
	for _, code := range []uint32{0, 3, 255, 259, 0xc0000005} {
		c := startChild(t, code)
		id := mustID(t, c.pid)
		h := mustOpen(t, id)
		if _, ok, err := h.Reap(); ok || err != nil || !h.Alive() {
			t.Fatalf("Reap of a living child: %v, %v", ok, err)
		}
		c.end()
		mustWait(t, h)
		if h.Alive() {
			t.Errorf("%d: alive after its end", code)
		}
		want := Exit{Known: true, Code: int(code)}
		for range 2 {
			if e, dead := h.Exit(); e != want || !dead {
				t.Errorf("Exit = %+v, %v; want %+v", e, dead, want)
			}
			if e, ok, err := h.Reap(); e != want || !ok || err != nil {
				t.Errorf("Reap = %+v, %v, %v", e, ok, err)
			}
		}
		if err := h.Signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
			t.Errorf("Signal = %v", err)
		}
		wantGone(t, id)
	}
}

func TestKill(t *testing.T) {
	c := startChild(t, 0)
	h := mustOpen(t, mustID(t, c.pid))
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	mustWait(t, h)
	if e, dead := h.Exit(); e != (Exit{Known: true, Code: 1}) || !dead {
		t.Errorf("Exit = %+v, %v", e, dead)
	}
}

// TestTerminateDenied: to whom a termination is denied, because it has begun, the process is
// gone; who has no right to it is told so as long as the process lives.
func TestTerminateDenied(t *testing.T) {
	for _, c := range []struct {
		err  error
		code uint32
		want bool
	}{
		{windows.ERROR_ACCESS_DENIED, 0, true},
		{windows.ERROR_ACCESS_DENIED, 1, true},
		{windows.ERROR_ACCESS_DENIED, stillActive, false},
		{windows.ERROR_INVALID_HANDLE, 1, false},
		{nil, 1, false},
	} {
		if got := alreadyEnding(c.err, c.code); got != c.want {
			t.Errorf("%v with exit code %d: %t", c.err, c.code, got)
		}
	}

	c := startChild(t, 0)
	p, err := openProcess(c.pid, mayLook)
	if err != nil {
		t.Fatal(err)
	}
	h := FromHandle(p, c.pid)
	defer h.Close()
	if err := h.Signal(syscall.SIGKILL); !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Errorf("a living process that is not ours to terminate: %v", err)
	}
	c.end()
	mustWait(t, h)
	if err := h.Signal(syscall.SIGKILL); err != ErrGone {
		t.Errorf("a dead one: %v", err)
	}
}

// TestOthersChild: the end of a process is known to who is not its parent.
func TestOthersChild(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(t, parentHelper, exe)
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
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	h := mustOpen(t, mustID(t, pid))
	in.Close()
	mustWait(t, h)
	if e, dead := h.Exit(); e != (Exit{Known: true, Code: 7}) || !dead {
		t.Errorf("Exit = %+v, %v", e, dead)
	}
}

func TestFromHandle(t *testing.T) {
	c := startChild(t, 4)
	p, err := windows.OpenProcess(mayLook, false, uint32(c.pid))
	if err != nil {
		t.Fatal(err)
	}
	h := FromHandle(p, c.pid)
	if !h.Alive() || h.PID() != c.pid {
		t.Errorf("alive %v, pid %d", h.Alive(), h.PID())
	}
	if err := h.Signal(syscall.SIGKILL); !errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		t.Errorf("Signal through a handle that may not: %v", err)
	}
	c.end()
	mustWait(t, h)
	if e, ok, err := h.Reap(); e.Code != 4 || !ok || err != nil {
		t.Errorf("Reap = %v, %v, %v", e, ok, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := windows.GetProcessId(p); err == nil {
		t.Error("the handle is open after Close")
	}
}

func TestWaitCancelAndClose(t *testing.T) {
	c := startChild(t, 0)
	h := mustOpen(t, mustID(t, c.pid))

	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { errs <- h.Wait(ctx) }()
	go func() { errs <- h.Wait(t.Context()) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Wait = %v", err)
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

func TestDeadBeatsCancelled(t *testing.T) {
	c := startChild(t, 0)
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

// TestManyWaiters: waiting costs goroutines, not threads, and nothing is left after.
func TestManyWaiters(t *testing.T) {
	const processes, each = 12, 10
	goroutines := runtime.NumGoroutine()
	var handles []*Handle
	var children []*child
	for range processes {
		c := startChild(t, 0)
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
	for _, c := range children {
		c.end()
	}
	waiters.Wait()
	for _, h := range handles {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := startChild(t, 6)
	h := mustOpen(t, mustID(t, c.pid))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				h.Signal(0)
				if e, ok, err := h.Reap(); err != nil || ok && e.Code != 6 {
					t.Errorf("Reap = %v, %v", e, err)
					return
				}
				if e, dead := h.Exit(); dead {
					if e.Code != 6 {
						t.Errorf("Exit = %+v", e)
					}
					return
				}
				runtime.Gosched()
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
	// Closing beside every use.
	h = mustOpen(t, mustID(t, os.Getpid()))
	for range 8 {
		wg.Go(func() {
			for h.Signal(0) == nil {
				h.Alive()
				runtime.Gosched()
			}
		})
		wg.Go(func() { _ = h.Wait(t.Context()) })
	}
	time.Sleep(10 * time.Millisecond)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestBootTime(t *testing.T) {
	a, b := BootTime(), BootTime()
	if a <= 0 || b < a {
		t.Errorf("%v, then %v", a, b)
	}
}
