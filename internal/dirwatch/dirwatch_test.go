//go:build linux

package dirwatch

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

// quiet is how long a test listens for what must not come.
const quiet = 30 * time.Millisecond

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, open func(...string) (*Watcher, error), paths ...string) *Watcher {
	t.Helper()
	var w *Watcher
	eventually(t, "open does not poll", func() (ok bool) {
		var err error
		w, err = open(paths...)
		must(t, err)
		if _, ok = w.source.(inotify); !ok {
			w.Close()
		}
		return ok
	})
	t.Cleanup(w.Close)
	return w
}

// eventually waits for an inotify instance: other packages' tests have all that a user may
// have, for moments.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(quiet) {
		if time.Now().After(end) {
			t.Fatalf("not within the test's deadline: %s; is there no inotify instance left?", what)
		}
	}
}

// wantWake waits for a wake-up, and then until those that belong to the same
// change have passed.
func wantWake(t testing.TB, w *Watcher) {
	t.Helper()
	select {
	case <-w.C():
	case <-t.Context().Done():
		t.Fatal("no wake-up")
	}
	settle(w)
}

// settle receives until nothing comes for a while.
func settle(w *Watcher) {
	for {
		select {
		case <-w.C():
		case <-time.After(quiet):
			return
		}
	}
}

func wantQuiet(t testing.TB, w *Watcher) {
	t.Helper()
	select {
	case <-w.C():
		t.Error("woken without a reason")
	case <-time.After(quiet):
	}
}

func TestNames(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	w := mustOpen(t, Open, dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	out := func(name string) string { return filepath.Join(other, name) }
	var l net.Listener
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"bind", func() (err error) { l, err = net.Listen("unix", in("sock")); return err }},
		{"link", func() error { return os.Link(in("sock"), in("keep")) }},
		{"rename", func() error { return os.Rename(in("keep"), in("kept")) }},
		{"rename over", func() error { return os.Rename(in("kept"), in("sock")) }}, // same inode: nothing happens
		{"unlink", func() error { return os.Remove(in("sock")) }},
		{"symlink", func() error { return os.Symlink("1", in("current")) }},
		{"mkdir", func() error { return os.Mkdir(in("1"), 0o700) }},
		{"move out", func() error { return os.Rename(in("1"), out("1")) }},
		{"move in", func() error { return os.Rename(out("1"), in("2")) }},
		{"rmdir", func() error { return os.Remove(in("2")) }},
	} {
		must(t, step.do())
		if step.name == "rename over" {
			// rename(2) of one link over another of the same file.
			wantQuiet(t, w)
			continue
		}
		t.Run(step.name, func(t *testing.T) { wantWake(t, w) })
	}
	l.Close()
	wantQuiet(t, w)
	must(t, os.WriteFile(out("elsewhere"), nil, 0o600))
	wantQuiet(t, w)
}

func TestContent(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "record"))
	must(t, err)
	defer f.Close()
	names := mustOpen(t, Open, dir)
	files := mustOpen(t, OpenFiles, dir)
	for range 3 {
		_, err := f.WriteString("line\n")
		must(t, err)
		wantWake(t, files)
	}
	must(t, f.Truncate(0))
	wantWake(t, files)
	_, err = f.ReadAt(make([]byte, 1), 0)
	if err == nil {
		t.Fatal("not truncated")
	}
	wantQuiet(t, files) // reading is no change
	wantQuiet(t, names)

	must(t, os.Remove(f.Name()))
	wantWake(t, names)
	wantWake(t, files)
	_, err = f.WriteString("to nobody\n")
	must(t, err)
	wantQuiet(t, files)
}

func TestDirectoryItself(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(dir string) error
	}{
		{"renamed", func(dir string) error { return os.Rename(dir, dir+".old") }},
		{"removed", os.Remove},
		{"rm -rf", func(dir string) error {
			for i := range 10 {
				if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(i), "x"), 0o700); err != nil {
					return err
				}
			}
			return os.RemoveAll(dir)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "service")
			must(t, os.Mkdir(dir, 0o700))
			w := mustOpen(t, Open, dir)
			must(t, tc.do(dir))
			wantWake(t, w)
			w.Close()
		})
	}
}

// TestHeldDirectory: the directory is open somewhere, as it is while it is
// locked, and its parent is where its deletion shows.
func TestHeldDirectory(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "service")
	must(t, os.Mkdir(dir, 0o700))
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	alone := mustOpen(t, Open, dir)
	both := mustOpen(t, Open, dir, parent)
	must(t, os.Remove(dir))
	wantWake(t, both)
	wantQuiet(t, alone) // if this fails some day, the package comment is too modest
	must(t, os.Mkdir(dir, 0o700))
	wantWake(t, both) // the parent is watched on
	f.Close()
	wantWake(t, alone)
}

// TestRegisterLookWait: nothing falls between Open and the first wait.
func TestRegisterLookWait(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, Open, dir)
	must(t, os.WriteFile(filepath.Join(dir, "early"), nil, 0o600))
	settle(w)
	must(t, os.WriteFile(filepath.Join(dir, "late"), nil, 0o600))
	wantWake(t, w)
}

func TestManyEvents(t *testing.T) {
	dir := t.TempDir()
	w := mustOpen(t, Open, dir)
	const events = 10_000
	for i := range events / 2 {
		name := filepath.Join(dir, strconv.Itoa(i))
		must(t, os.Symlink("x", name))
		must(t, os.Remove(name))
	}
	if n := len(w.C()); n > 1 {
		t.Errorf("%d wake-ups wait", n)
	}
	wantWake(t, w)
	wantQuiet(t, w)
	must(t, os.Symlink("x", filepath.Join(dir, "last")))
	wantWake(t, w)
}

// TestOverflow: the kernel's queue runs over before anybody reads it.
func TestOverflow(t *testing.T) {
	dir := t.TempDir()
	var fd int
	eventually(t, "an instance is made", func() bool {
		var err error
		if fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); !errors.Is(err, unix.EMFILE) {
			must(t, err)
		}
		return err == nil
	})
	src := inotify{os.NewFile(uintptr(fd), "inotify")}
	must(t, addWatch(fd, dir, namesMask))
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var limit int
	if _, err := fmt.Sscan(string(b), &limit); err != nil || limit > 100_000 {
		src.close()
		t.Skipf("fs.inotify.max_queued_events is %d (%v): too many to reach", limit, err)
	}
	for range limit/2 + 1 {
		name := filepath.Join(dir, "x")
		must(t, os.Symlink("x", name))
		must(t, os.Remove(name))
	}
	w := start(src, interval)
	defer w.Close()
	wantWake(t, w)
	must(t, os.Symlink("x", filepath.Join(dir, "last")))
	wantWake(t, w)
}

func TestCloseDuringEvents(t *testing.T) {
	dir := t.TempDir()
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		name := filepath.Join(dir, "x")
		for {
			select {
			case <-stop:
				return
			default:
				os.Symlink("x", name)
				os.Remove(name)
			}
		}
	})
	before := runtime.NumGoroutine()
	for range 50 {
		w, err := Open(dir)
		must(t, err)
		<-w.C()
		var closers sync.WaitGroup
		for range 3 {
			closers.Go(w.Close)
		}
		closers.Wait()
		w.Close()
	}
	if n := runtime.NumGoroutine(); n > before {
		// The closers have told their group, but may still be on their way out.
		for runtime.NumGoroutine() > before && t.Context().Err() == nil {
			runtime.Gosched()
		}
	}
	close(stop)
	writer.Wait()
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	missing := filepath.Join(dir, "missing")
	polled := func(paths ...string) (*Watcher, error) { return poll(paths, names, interval) }
	for name, open := range map[string]func(...string) (*Watcher, error){"Open": Open, "OpenFiles": OpenFiles, "poll": polled} {
		fds := countFDs(t)
		for path, want := range map[string]error{missing: fs.ErrNotExist, file: syscall.ENOTDIR} {
			w, err := open(dir, path)
			var pe *fs.PathError
			if w != nil || !errors.Is(err, want) || !errors.As(err, &pe) || pe.Path != path || pe.Op != "watch" {
				t.Errorf("%s(%s) = %v, %v", name, path, w, err)
			}
		}
		if n := countFDs(t); n != fds {
			t.Errorf("%s: %d descriptors, %d before", name, n, fds)
		}
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(dir)
}

func TestTicker(t *testing.T) {
	w, err := poll([]string{t.TempDir()}, names, time.Millisecond)
	must(t, err)
	for range 3 {
		<-w.C()
	}
	w.Close()
	w.Close()
	settle(w)
	wantQuiet(t, w)
}

// broken is a source that ends of itself.
type broken struct{}

func (broken) run(func()) error { return syscall.EIO }
func (broken) close()           {}

func TestBrokenSource(t *testing.T) {
	w := start(broken{}, time.Millisecond)
	for range 3 {
		<-w.C()
	}
	w.Close()
}

// starvedHelper has no descriptor left for inotify.
var starvedHelper = reexec.Helper("starved", func(args []string) {
	// The runtime wants descriptors of its own for its poller: now, not later.
	r, _, err := os.Pipe()
	reexec.Check(err)
	reexec.Check(r.SetReadDeadline(time.Now()))
	// Whatever is open lies below the first number that is free.
	free, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	reexec.Check(err)
	unix.Close(free)
	reexec.Check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: uint64(free)}))
	w, err := Open(args[0])
	reexec.Check(err)
	<-w.C()
	w.Close()
	fmt.Print(w.source == nil)
})

func TestStarved(t *testing.T) {
	out, err := reexec.Command(t, starvedHelper, t.TempDir()).Output()
	must(t, err)
	if string(out) != "true" {
		t.Errorf("polling: %s", out)
	}
}

// TestOpenFile: what is written to one file wakes, also under another name; its
// neighbours do not.
func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "log"), filepath.Join(dir, "other")
	for _, p := range []string{path, other} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write := func(p string) {
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("x"); err != nil {
			t.Fatal(err)
		}
	}
	write(path)
	<-w.C()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	<-w.C()
	write(path + ".1")
	<-w.C()
	write(other)
	select {
	case <-w.C():
		t.Error("a neighbour woke the watcher")
	case <-time.After(50 * time.Millisecond):
	}
}
