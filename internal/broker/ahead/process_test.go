//go:build linux

package ahead

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) {
	if err := launch.CloseStrays(); err != nil { // as a standing broker does
		panic(err)
	}
	os.Exit(reexec.Main(m))
}

const deadline = 2 * time.Minute

// look is a daemon that tells what it sees of itself; a Go program has changed its
// signals and limits before it could.
const look = `exec >&3
echo pid $$
cut -d ' ' -f 6 /proc/$$/stat
echo "$@"
pwd
umask
grep -E '^Sig(Ign|Blk)' /proc/$$/status | cut -f 2
ulimit -S -n
ulimit -S -c
env
ls -l /proc/$$/fd
`

func fill(t *testing.T) *Spare {
	t.Helper()
	s := &Spare{}
	if err := s.Fill(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	rests(t, s)
	return s
}

// rests waits until the process can be told what to become.
func rests(t *testing.T, s *Spare) {
	t.Helper()
	for end := time.Now().Add(deadline); s.spare.state() != resting; time.Sleep(time.Millisecond) {
		if s.spare.state() == dead || time.Now().After(end) {
			t.Fatal("it does not come to rest")
		}
	}
}

// TestRest: while this process may become another program none waits, and none is made.
func TestRest(t *testing.T) {
	s := fill(t)
	id, err := proc.Of(s.spare.pid)
	if err != nil {
		t.Fatal(err)
	}
	resume := s.Rest()
	if now, err := proc.Of(id.PID); err == nil && now == id {
		t.Errorf("process %d is there still", id.PID)
	}
	if err := s.Fill(); err != nil || s.spare != nil {
		t.Errorf("one waits: %+v, %v", s.spare, err)
	}
	if _, ok := s.Become(launch.Become{}); ok {
		t.Error("one that does not wait became a daemon")
	}
	resume()
	if err := s.Fill(); err != nil || s.spare == nil {
		t.Errorf("none waits afterwards: %v", err)
	}
}

// TestWoken: one that somebody wakes comes to rest again, and one that does not rest
// yet is left for the next launch.
func TestWoken(t *testing.T) {
	s := fill(t)
	pid := s.spare.pid
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	rests(t, s)
	fresh := &Spare{}
	defer fresh.Close()
	if err := fresh.Fill(); err != nil {
		t.Fatal(err)
	}
	b := launch.Become{Path: "/bin/true", Argv: []string{"true"}, Files: []int{0, 1, 2}, Dir: "/", Record: "/nowhere"}
	if _, ok := fresh.Become(b); !ok && fresh.spare == nil {
		t.Error("one that has not stopped yet is ended")
	} else if !ok {
		rests(t, fresh)
	}
}

// TestBecome: what the process becomes has everything that it was told and nothing of
// who made it (I5), and is on record before it runs.
func TestBecome(t *testing.T) {
	// Of the caller's, to be kept from the daemon.
	t.Setenv("SECRET", "x")
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := fill(t)
	if err := s.Fill(); err != nil { // a second one is not made
		t.Fatal(err)
	}
	dir := t.TempDir()
	rec := filepath.Join(dir, "record")
	if err := record.Create(rec, []record.Line{{Key: "generation", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	waiting := s.spare.pid
	d, ok := s.Become(launch.Become{
		Path: "/bin/sh", Dir: dir, Argv: []string{"sh", "-c", look, "sh", "one", "two"}, Record: rec,
		Env:   []string{"A=b", "LISTEN_FDS=1", "PATH=/usr/bin:/bin"},
		Lines: []record.Line{{Key: "phase", Value: "bound"}},
		Files: []int{int(null.Fd()), int(log.Fd()), int(log.Fd()), int(w.Fd())},
	})
	if !ok || d.PID != waiting {
		t.Fatalf("%+v, %v; %d waited", d, ok, waiting)
	}
	_ = w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	h := proc.FromPidfd(d.Pidfd, d.PID)
	defer h.Close()
	number := strconv.Itoa(d.PID)
	for _, line := range []string{
		"pid " + number, number, "one two", dir, "0022",
		"0000000000000000", "0000000000001000", // SIGPIPE, as under systemd: see launch's trampoline
		"1024", "0",
		"A=b", "LISTEN_FDS=1", "LISTEN_PID=" + number,
	} {
		if !strings.Contains("\n"+string(out), "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, file := range []string{" 0 -> /dev/null\n", " 2 -> " + log.Name() + "\n"} {
		if !strings.Contains(string(out), file) {
			t.Errorf("no descriptor %q", file)
		}
	}
	if n := strings.Count(string(out), " -> "); n != 4 || strings.Contains(string(out), "SECRET") {
		t.Errorf("%d descriptors, or the secret", n)
	}
	if t.Failed() {
		text, _ := os.ReadFile(log.Name())
		t.Logf("%s%s", out, text)
	}
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	exit, mine, err := h.Reap() // it is our child
	if err != nil || !mine || exit.Code != 0 {
		t.Errorf("%+v, %v, %v", exit, mine, err)
	}
	got, err := record.Read(rec)
	if err != nil || got.PID != d.PID || got.Start == 0 || got.Phase != record.Bound {
		t.Errorf("on record: pid %d, start %d, phase %s, %v", got.PID, got.Start, got.Phase, err)
	}
	if _, ok := s.Become(launch.Become{}); ok {
		t.Error("another one waited")
	}
}

// ignorerHelper launches twice with a process made ahead and twice without, each time a
// daemon that prints which signals it ignores.
var ignorerHelper = reexec.Helper("ignorer", func(args []string) {
	argv := []string{"sh", "-c", "exec /bin/grep SigIgn /proc/self/status"}
	wait := func(pid int) {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		if reexec.Check(err); status != 0 {
			reexec.Check(fmt.Errorf("it ended with %#x", status))
		}
	}
	for range 2 {
		pid, _, err := launch.Fork("/bin/sh", argv, []string{}, []uintptr{0, 1, 2})
		reexec.Check(err)
		wait(pid)
		var s Spare
		reexec.Check(s.Fill())
		for s.spare.state() == starting {
			time.Sleep(time.Millisecond)
		}
		d, ok := s.Become(launch.Become{Path: "/bin/sh", Argv: argv, Dir: "/", Record: args[0], Files: []int{0, 1, 2}})
		if !ok {
			reexec.Check(errors.New("no process waited"))
		}
		wait(d.PID)
	}
	// What was ignored is so again, for whatever else it executes.
	out, err := exec.Command("/bin/grep", "SigIgn", "/proc/self/status").Output()
	reexec.Check(err)
	fmt.Print(string(out))
})

// TestIgnoredAtStart: I5. Whatever signals the broker was started with ignored, as by
// nohup or in the background of a script, no daemon of its ignores them: neither the
// first that it launches nor a later one.
func TestIgnoredAtStart(t *testing.T) {
	rec := filepath.Join(t.TempDir(), "record")
	if err := record.Create(rec, nil); err != nil {
		t.Fatal(err)
	}
	self := reexec.Command(t, ignorerHelper, rec)
	cmd := exec.Command("/bin/sh", append([]string{"-c", `trap '' HUP INT QUIT TERM USR1 USR2 ALRM TSTP TTIN TTOU; exec "$@"`, "sh"}, self.Args...)...)
	cmd.Env = self.Env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const none, pipe = "SigIgn:\t0000000000000000\n", "SigIgn:\t0000000000001000\n" // SIGPIPE, see TestBecome
	got := strings.SplitAfter(string(out), "\n")
	if want := []string{none, pipe, none, pipe}; len(got) < 5 || !slices.Equal(got[:4], want) {
		t.Errorf("they ignore\n%swant\n%s", out, strings.Join(want, ""))
	} else if kept := "SigIgn:\t0000000000380003\n"; got[4] != kept { // what the runtime does not catch
		t.Errorf("the broker itself ignores %s, want %s", got[4], kept)
	}
}

// TestMost: it becomes a daemon with as many listeners as a definition may have, and one
// of which it cannot be told everything is left to the shell.
func TestMost(t *testing.T) {
	s := fill(t)
	dir := t.TempDir()
	rec := filepath.Join(dir, "record")
	if err := record.Create(rec, nil); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b := launch.Become{Path: "/bin/sh", Argv: []string{"sh", "-c", "ls /proc/$$/fd | wc -l; exit 3"}, Dir: "/", Record: rec, Env: []string{"PATH=/usr/bin:/bin"}}
	for range 3 + 1 + definition.MaxEndpoints {
		b.Files = append(b.Files, int(log.Fd()))
	}
	more := b
	more.Files = append(slices.Clone(b.Files), int(log.Fd()))
	longer := b
	longer.Argv = append(slices.Clone(b.Argv), strings.Repeat("x", maxOrder))
	for _, b := range []launch.Become{more, longer} {
		if _, ok := s.Become(b); ok || s.spare == nil {
			t.Fatal("it is told too much, or ended for that")
		}
	}
	d, ok := s.Become(b)
	if !ok {
		t.Fatal("it waited, and has not become it")
	}
	h := proc.FromPidfd(d.Pidfd, d.PID)
	defer h.Close()
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit, _, err := h.Reap(); err != nil || exit.Code != 3 {
		t.Errorf("%+v, %v", exit, err)
	}
	if text, err := os.ReadFile(log.Name()); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(len(b.Files)) {
		t.Errorf("%q, %v", text, err)
	}
}

// TestCannot: what cannot be executed, or put on record, ends as under a shell, and its
// log says why.
func TestCannot(t *testing.T) {
	dir := t.TempDir()
	rec := filepath.Join(dir, "record")
	if err := record.Create(rec, nil); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]launch.Become{
		"no such file":      {Path: dir + "/none", Dir: "/", Record: rec},
		"permission denied": {Path: rec, Dir: "/", Record: rec},
		"none":              {Path: "/bin/true", Dir: dir + "/none", Record: rec},
		"gone":              {Path: "/bin/true", Dir: "/", Record: dir + "/gone"},
	} {
		log, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		fd := int(log.Fd())
		b.Argv, b.Files = []string{"x"}, []int{fd, fd, fd}
		d, ok := fill(t).Become(b)
		if !ok {
			t.Fatal("none waited")
		}
		h := proc.FromPidfd(d.Pidfd, d.PID)
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		exit, _, err := h.Reap()
		_ = h.Close()
		text, _ := os.ReadFile(log.Name())
		_ = log.Close()
		if err != nil || exit.Code != 126 || !strings.Contains(string(text), name) {
			t.Errorf("%s: %+v, %v, log %q", name, exit, err, text)
		}
	}
}

// TestKilled: one that is killed, or stopped, while it waits fails no launch and leaves
// no zombie.
func TestKilled(t *testing.T) {
	s := fill(t)
	pid := s.spare.pid
	id, err := proc.Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := proc.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_ = h.Signal(unix.SIGKILL)
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Become(launch.Become{Path: "/bin/true", Argv: []string{"true"}, Files: []int{0, 1, 2}}); ok {
		t.Error("a launch")
	}
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("a zombie: %v", err)
	}
	if err := s.Fill(); err != nil || s.spare == nil || s.spare.pid == pid {
		t.Errorf("none is made again: %v", err)
	}
	s = fill(t)
	pid = s.spare.pid
	_ = unix.Kill(pid, unix.SIGSTOP)
	s.Close()
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("one that was stopped lives: %v", err)
	}
	if err := s.Fill(); err != nil || s.spare != nil {
		t.Errorf("one is made after Close: %v", err)
	}
}

// brokerHelper has a process waiting, and says which.
var brokerHelper = reexec.Helper("broker", func([]string) {
	var s Spare
	reexec.Check(s.Fill())
	fmt.Println(s.spare.pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
})

// TestOrphan: kill -9 of who made it ends the process that waits; nothing of its maker's
// is open in it meanwhile (R4).
func TestOrphan(t *testing.T) {
	cmd := reexec.Command(t, brokerHelper)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	id, err := proc.Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := proc.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for end := time.Now().Add(deadline); stateOf(pid) != "T"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to rest")
		}
	}
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, name := range names {
		to, _ := os.Readlink(name)
		if to != os.DevNull && filepath.Base(name) != strconv.Itoa(end) && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/") { // the runtime has some
			t.Errorf("%s leads to %s", name, to)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
		t.Errorf("it waits on: %v", err)
	}
}

// stateOf is the letter of a process's state, proc_pid_stat(5).
func stateOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// leaverHelper launches a daemon that keeps descriptor 4, and is gone at once.
var leaverHelper = reexec.Helper("leaver", func(args []string) {
	var s Spare
	reexec.Check(s.Fill())
	for s.spare.state() == starting {
		time.Sleep(time.Millisecond)
	}
	lead = 0
	_, ok := s.Become(launch.Become{Path: "/bin/cat", Argv: []string{"cat"}, Dir: "/", Record: args[0], Files: []int{4, 3, 2}})
	if ok {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "no process")
	os.Exit(1)
})

// TestLeft: a daemon that is launched in the last moment of its broker stays.
func TestLeft(t *testing.T) {
	rec := filepath.Join(t.TempDir(), "record")
	if err := record.Create(rec, nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		outR, outW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		inR, inW, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := reexec.Command(t, leaverHelper, rec)
		cmd.ExtraFiles = []*os.File{outW, inR}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		_, _ = outW.Close(), inR.Close()
		if _, err := io.WriteString(inW, "still here\n"); err != nil {
			t.Fatal(err)
		}
		_ = inW.Close()
		if out, err := io.ReadAll(outR); err != nil || string(out) != "still here\n" {
			t.Fatalf("%q, %v", out, err)
		}
		_ = outR.Close()
	}
}
