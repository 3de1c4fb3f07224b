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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// holdHelper keeps its inherited handles until its standard input ends, or closes
// those that it is told.
var holdHelper = reexec.Helper("hold", func(args []string) {
	fmt.Println("ready")
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		h, err := strconv.ParseUint(s.Text(), 10, 64)
		reexec.Check(err)
		reexec.Check(windows.CloseHandle(windows.Handle(h)))
		fmt.Println("closed")
	}
})

// ownHelper takes the lock on the path by itself and keeps it. With a second argument it
// has a child that inherits the file and lives as long as the standard input.
var ownHelper = reexec.Helper("own", func(args []string) {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	reexec.Check(err)
	ok, err := Try(f)
	reexec.Check(err)
	if len(args) > 1 {
		copied, err := inheritable(f)
		reexec.Check(err)
		cmd := exec.Command(args[1])
		cmd.Env = append(os.Environ(), "REEXEC_HELPER="+holdHelper)
		cmd.Stdin = os.Stdin
		cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{copied}}
		reexec.Check(cmd.Start())
		reexec.Check(windows.CloseHandle(windows.Handle(copied)))
	}
	fmt.Println("own", ok)
	io.Copy(io.Discard, os.Stdin)
	reexec.Check(Release(f))
})

// createHelper makes a life lock and keeps it.
var createHelper = reexec.Helper("create", func(args []string) {
	f, err := Create(args[0])
	reexec.Check(err)
	fmt.Println("created")
	io.Copy(io.Discard, os.Stdin)
	reexec.Check(f.Close())
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

// exitHelper ends at once.
var exitHelper = reexec.Helper("exit", func([]string) {})

// child is a helper that has said its first line.
type child struct {
	*exec.Cmd
	line string
	in   io.WriteCloser
	out  *bufio.Reader
}

func start(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.terminate() })
	c.out = bufio.NewReader(out)
	c.read(t)
	return c
}

func (c *child) read(t *testing.T) {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("helper said %q: %v", line, err)
	}
	c.line = strings.TrimSpace(line)
}

// terminate is TerminateProcess, and returns when the child is dead.
func (c *child) terminate() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// startWith starts a child that inherits f, and returns its handle there.
func startWith(t *testing.T, f *os.File) (*child, uintptr) {
	t.Helper()
	copied, err := inheritable(f)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.CloseHandle(copied)
	cmd := reexec.Command(t, holdHelper)
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: []syscall.Handle{copied}}
	return start(t, cmd), uintptr(copied)
}

// inheritable returns a copy of f's handle that a child can inherit.
func inheritable(f *os.File) (copied syscall.Handle, err error) {
	self := windows.CurrentProcess()
	err = windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, (*windows.Handle)(&copied), 0, true, windows.DUPLICATE_SAME_ACCESS)
	return copied, err
}

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
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

// TestLifeLockLivesInChildren: every copy keeps it, and the last one's end frees it,
// by closing or by TerminateProcess.
func TestLifeLockLivesInChildren(t *testing.T) {
	path := filepath.Join(t.TempDir(), "life")
	wantHeld(t, path, false)
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, true)
	one, _ := startWith(t, f)
	two, inTwo := startWith(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, true)
	one.terminate()
	wantHeld(t, path, true)
	fmt.Fprintln(two.in, inTwo)
	two.read(t)
	wantHeld(t, path, false) // two still lives

	if _, err := Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create of what is there = %v", err)
	}
}

func TestTerminateFreesLifeLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "life")
	c := start(t, reexec.Command(t, createHelper, path))
	wantHeld(t, path, true)
	// It can be read, renamed, and looked at.
	if _, err := os.ReadFile(path); err != nil {
		t.Error(err)
	}
	moved := path + ".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, false)
	wantHeld(t, moved, true)
	c.terminate()
	wantHeld(t, moved, false)
	if err := os.Remove(moved); err != nil {
		t.Error(err)
	}
}

// TestCopiesDoNotFree: whatever becomes of a child's copy, the lock stays.
func TestCopiesDoNotFree(t *testing.T) {
	path := newFile(t)
	f := mustOpen(t, path)
	wantTry(t, f, true)
	wantTry(t, f, true) // through the same file it is ours already
	wantTry(t, f, true)
	wantTry(t, mustOpen(t, path), false)
	wantHeld(t, path, true)
	if b, err := os.ReadFile(path); string(b) != "content" || err != nil {
		t.Errorf("a locked file reads %q, %v", b, err)
	}

	one, inOne := startWith(t, f)
	two, _ := startWith(t, f)
	fmt.Fprintln(one.in, inOne)
	one.read(t)
	wantHeld(t, path, true)
	two.terminate()
	one.terminate()
	wantHeld(t, path, true)
	if err := f.Close(); err != nil { // no copy is left
		t.Fatal(err)
	}
	wantHeld(t, path, false)
	wantTry(t, mustOpen(t, path), true)
}

func TestReleaseFreesIt(t *testing.T) {
	path := newFile(t)
	f := mustOpen(t, path)
	wantTry(t, f, true)
	startWith(t, f)
	if err := Release(f); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, false)
	if err := Release(f); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Release = %v", err)
	}
	if err := Release(mustOpen(t, path)); err != nil {
		t.Errorf("Release of what was not locked = %v", err)
	}
}

func TestProcessesSeeEachOther(t *testing.T) {
	path := newFile(t)
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
	for name, end := range map[string]func(*child){
		"released":   func(c *child) { c.in.Close(); c.Wait() },
		"terminated": func(c *child) { c.terminate() },
	} {
		c := start(t, reexec.Command(t, ownHelper, path))
		if c.line != "own true" {
			t.Fatalf("%s: owner said %q", name, c.line)
		}
		wantHeld(t, path, true)
		wantTry(t, mustOpen(t, path), false)
		if got, want := probe(), "held true try false"; got != want {
			t.Errorf("%s: other process: %s, want %s", name, got, want)
		}
		end(c)
		wantHeld(t, path, false)
	}
}

// TestTerminateFreesWhatAChildHas: no launch lock outlives its owner (R37).
func TestTerminateFreesWhatAChildHas(t *testing.T) {
	path := newFile(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, reexec.Command(t, ownHelper, path, exe))
	if c.line != "own true" {
		t.Fatalf("owner said %q", c.line)
	}
	// Wait would wait for the child, which has the standard error too.
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, path, false)
	wantTry(t, mustOpen(t, path), true)
	c.in.Close() // the child's end
}

// TestOneOwner: of many at once one has it.
func TestOneOwner(t *testing.T) {
	path := newFile(t)
	for range 50 {
		gate := make(chan struct{})
		owners := make(chan *os.File, 8)
		var all sync.WaitGroup
		for range cap(owners) {
			f := mustOpen(t, path)
			all.Go(func() {
				<-gate
				if ok, err := Try(f); err != nil {
					t.Error(err)
				} else if ok {
					owners <- f
				}
			})
		}
		close(gate)
		all.Wait()
		if len(owners) != 1 {
			t.Fatalf("%d owners", len(owners))
		}
		if err := Release(<-owners); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReleaseDuringSpawns: what is started meanwhile carries no copy.
func TestReleaseDuringSpawns(t *testing.T) {
	path := newFile(t)
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
				if err := reexec.Command(t, exitHelper).Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	for i := range 200 {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := Try(f); err != nil || !ok {
			t.Fatalf("round %d: Try = %v, %v: still held", i, ok, err)
		}
		if err := Release(f); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, path, false)
		life := path + strconv.Itoa(i)
		f, err = Create(life)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, life, false)
		if err := os.Remove(life); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProbesDoNotSeeEachOther(t *testing.T) {
	path := newFile(t)
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			<-gate
			for range 1000 {
				if held, err := Held(path); held || err != nil {
					t.Errorf("Held = %v, %v with probes only", held, err)
					return
				}
			}
		})
	}
	close(gate)
	wg.Wait()
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, filepath.Join(dir, "missing"), false)
	wantHeld(t, filepath.Join(dir, "missing", "too"), false)
	wantPathError(t, func() error { _, err := Held(dir); return err }(), "open", fs.ErrPermission)
	wantPathError(t, func() error { _, err := Create(filepath.Join(dir, "missing", "life")); return err }(), "create", fs.ErrNotExist)
	wantPathError(t, func() error { _, err := Create("a\x00b"); return err }(), "create", syscall.EINVAL)

	f := mustOpen(t, file)
	f.Close()
	_, err := Try(f)
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
