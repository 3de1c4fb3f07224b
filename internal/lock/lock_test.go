//go:build linux

package lock

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

// holdHelper keeps its inherited descriptors until its standard input ends.
var holdHelper = reexec.Helper("hold", func([]string) {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
})

// ownHelper takes the lock on the path by itself and keeps it.
var ownHelper = reexec.Helper("own", func(args []string) {
	f, err := os.Open(args[0])
	reexec.Check(err)
	ok, err := Try(f)
	reexec.Check(err)
	fmt.Println("own", ok)
	io.Copy(io.Discard, os.Stdin)
	reexec.Check(Release(f))
})

// probeHelper tells what another process sees.
var probeHelper = reexec.Helper("probe", func(args []string) {
	held, err := Held(args[0])
	reexec.Check(err)
	f, err := os.Open(args[0])
	reexec.Check(err)
	ok, err := Try(f)
	reexec.Check(err)
	fmt.Println("held", held, "try", ok)
})

// child is a helper that has said its first line.
type child struct {
	*exec.Cmd
	line  string
	stdin io.Closer
	pidfd int
}

func startChild(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd, pidfd: -1}
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &c.pidfd}
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
	c.stdin = in
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		unix.Close(c.pidfd)
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("helper said %q: %v", line, err)
	}
	c.line = strings.TrimSpace(line)
	return c
}

// awaitDeath blocks until the child has ended, reaped or not.
func (c *child) awaitDeath(t *testing.T) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(p, -1); err == nil {
			return
		} else if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

func mustOpen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantTry(t *testing.T, f *os.File, want bool) {
	t.Helper()
	if got, err := Try(f); err != nil || got != want {
		t.Fatalf("Try = %v, %v; want %v", got, err, want)
	}
}

func wantHeld(t *testing.T, path string, want bool) {
	t.Helper()
	if got, err := Held(path); err != nil || got != want {
		t.Fatalf("Held = %v, %v; want %v", got, err, want)
	}
}

func TestDirectoryLockLivesInChild(t *testing.T) {
	dir := t.TempDir()
	f := mustOpen(t, dir)
	wantTry(t, f, true)
	wantTry(t, f, true) // through the same description, it is ours already

	cmd := reexec.Command(t, holdHelper)
	cmd.ExtraFiles = []*os.File{f}
	c := startChild(t, cmd)
	if err := f.Close(); err != nil { // close, never unlock
		t.Fatal(err)
	}
	wantHeld(t, dir, true)
	wantTry(t, mustOpen(t, dir), false)

	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.awaitDeath(t)
	wantHeld(t, dir, false) // a zombie holds nothing
	wantTry(t, mustOpen(t, dir), true)
}

func TestReleaseFreesChildsCopy(t *testing.T) {
	dir := t.TempDir()
	f := mustOpen(t, dir)
	wantTry(t, f, true)
	cmd := reexec.Command(t, holdHelper)
	cmd.ExtraFiles = []*os.File{f}
	startChild(t, cmd)
	if err := Release(f); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dir, false)
	if err := Release(f); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Release = %v", err)
	}
}

func TestProcessesSeeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "life")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	probe := func() string {
		out, err := reexec.Command(t, probeHelper, path).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	if got, want := probe(), "held false try true"; got != want {
		t.Errorf("free: other process: %s, want %s", got, want)
	}
	c := startChild(t, reexec.Command(t, ownHelper, path))
	if c.line != "own true" {
		t.Fatalf("owner said %q", c.line)
	}
	wantHeld(t, path, true)
	wantTry(t, mustOpen(t, path), false)
	if got, want := probe(), "held true try false"; got != want {
		t.Errorf("owned: other process: %s, want %s", got, want)
	}
	if got := Holder(path); got != c.Process.Pid {
		t.Errorf("held by %d, want %d", got, c.Process.Pid)
	}
	if got := Holder(t.TempDir()); got != 0 {
		t.Errorf("another directory is held by %d", got)
	}
	c.stdin.Close()
	c.awaitDeath(t)
	wantHeld(t, path, false)
	if got := Holder(path); got != 0 {
		t.Errorf("held by %d still", got)
	}
}

// TestReleaseDuringForks would fail with close alone: between fork and exec a
// child that has nothing to do with the lock carries a copy.
func TestReleaseDuringForks(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.Command("/bin/true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	for i := range 500 {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := Try(f)
		if err != nil || !ok {
			t.Fatalf("round %d: Try = %v, %v: still held by a fork", i, ok, err)
		}
		if err := Release(f); err != nil {
			t.Fatal(err)
		}
		// Probes leave nothing behind in a fork either.
		wantHeld(t, dir, false)
	}
}

func TestProbesDoNotSeeEachOther(t *testing.T) {
	dir := t.TempDir()
	// What a probe holds for a moment, held on:
	f := mustOpen(t, dir)
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dir, false)
	wantTry(t, mustOpen(t, dir), false) // the documented price
	f.Close()

	gate := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			<-gate
			for range 2000 {
				if held, err := Held(dir); held || err != nil {
					t.Errorf("Held = %v, %v with probes only", held, err)
					return
				}
			}
		})
	}
	close(gate)
	wg.Wait()
}

func TestDeletedDirectoryIsAnotherLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "service")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := mustOpen(t, dir)
	wantTry(t, old, true)
	waiter := mustOpen(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dir, false) // missing
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, dir, false)
	wantTry(t, mustOpen(t, dir), true)
	wantTry(t, waiter, false)
	if err := Release(old); err != nil {
		t.Fatal(err)
	}
	// The trap that callers compare inodes against: an orphan can be locked.
	wantTry(t, waiter, true)
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, filepath.Join(dir, "missing"), false)
	wantHeld(t, filepath.Join(dir, "missing", "too"), false)

	_, err := Held(filepath.Join(file, "x"))
	wantPathError(t, err, "open", syscall.ENOTDIR)

	f := mustOpen(t, file)
	f.Close()
	_, err = Try(f)
	wantPathError(t, err, "lock", fs.ErrClosed)
	wantPathError(t, Release(f), "unlock", fs.ErrClosed)
}

func wantPathError(t *testing.T, err error, op string, is error) {
	t.Helper()
	var pe *fs.PathError
	if !errors.As(err, &pe) || pe.Op != op || pe.Path == "" || !errors.Is(err, is) {
		t.Errorf("error is %#v (%v), want a *fs.PathError of %q that is %v", err, err, op, is)
	}
}

func TestHeldDoesNotWaitAtFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, false)
}

// TestKeepsPollerMode guards against Fd, which makes descriptors blocking.
func TestKeepsPollerMode(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	wantTry(t, r, true)
	c, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("flags %#x, %v: not nonblocking any more", flags, err)
		}
	})
	if err := Release(r); err != nil {
		t.Fatal(err)
	}
}
