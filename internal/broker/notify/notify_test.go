//go:build linux

package notify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/reexec"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir is short enough for socket addresses.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fb")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mustBind(t testing.TB, path string) *Socket {
	t.Helper()
	s, err := Bind(path)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// send is sd_pid_notify_with_fds(3), from this process.
func send(path, text string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: path}, 0)
}

// barrier is sd_notify_barrier(3) without its timeout.
func barrier(path string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = send(path, "BARRIER=1", int(w.Fd()))
	_ = w.Close()
	if err == nil {
		_, err = r.Read(make([]byte, 1))
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// sayHelper is a process that says something, waits for that to be handled, and
// ends. Arguments: text, and the pid of its parent if it waits for that one's end
// first.
var sayHelper = reexec.Helper("say", func(args []string) {
	for len(args) > 1 && strconv.Itoa(os.Getppid()) == args[1] {
		time.Sleep(time.Millisecond)
	}
	path := os.Getenv("NOTIFY_SOCKET")
	reexec.Check(send(path, args[0]))
	reexec.Check(barrier(path))
})

// daemonHelper does what its stdin says, a line each, and prints "done" after it:
//
//	say TEXT      says it itself
//	barrier       waits until everything was handled
//	child TEXT    has a child say it, and waits for it
//	session TEXT  the same, the child in a session of its own
//	left TEXT     the same, the child's parent having ended before, in our session
//	orphan TEXT   the same in a session of its own
//	living        prints the pid of a child that stays
//	uid N         the same, of another uid
var daemonHelper = reexec.Helper("daemon", func([]string) {
	path := os.Getenv("NOTIFY_SOCKET")
	self := func(helper string, args ...string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = append(os.Environ(), "REEXEC_HELPER="+helper)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		return cmd
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		text := strings.ReplaceAll(arg, `\n`, "\n")
		switch verb {
		case "say":
			reexec.Check(send(path, text))
		case "barrier":
			reexec.Check(barrier(path))
		case "child", "session":
			cmd := self(sayHelper, text)
			cmd.SysProcAttr.Setsid = verb == "session"
			reexec.Check(cmd.Run())
		case "left", "orphan":
			reexec.Check(self(leaveHelper, text, verb).Run())
		case "living", "uid":
			cmd := exec.Command("/bin/cat")
			w, err := cmd.StdinPipe() // ends with us
			reexec.Check(err)
			defer w.Close()
			if verb == "uid" {
				uid, err := strconv.ParseUint(arg, 10, 32)
				reexec.Check(err)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			}
			reexec.Check(cmd.Start())
			fmt.Println(cmd.Process.Pid)
			continue
		}
		fmt.Println("done")
	}
})

// leaveHelper leaves a child behind, an orphan in a session of its own.
var leaveHelper = reexec.Helper("leave", func(args []string) {
	cmd := exec.Command("/proc/self/exe", args[0], strconv.Itoa(os.Getpid()))
	cmd.Env = append(os.Environ(), "REEXEC_HELPER="+sayHelper)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: args[1] == "orphan"}
	reexec.Check(cmd.Start())
})

// A daemon is a main process that does what it is told.
type daemon struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	id  proc.ID
}

func start(t *testing.T, s *Socket) *daemon {
	t.Helper()
	for _, h := range []string{sayHelper, leaveHelper} {
		reexec.Used(h)
	}
	return startCmd(t, s, reexec.Command(t, daemonHelper))
}

// startCmd starts it as a launch does: in its own session, with the variables.
func startCmd(t *testing.T, s *Socket, cmd *exec.Cmd) *daemon {
	t.Helper()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, s.Variables(0)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d := &daemon{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(d.end)
	d.id, err = proc.Of(cmd.Process.Pid)
	must(t, err)
	return d
}

func (d *daemon) end() {
	_ = d.in.Close()
	_ = d.cmd.Wait()
}

func (d *daemon) tell(line string) { fmt.Fprintln(d.in, line) }

func (d *daemon) answer() string {
	d.t.Helper()
	if !d.out.Scan() {
		d.t.Fatal("the daemon has ended")
	}
	return d.out.Text()
}

func (d *daemon) do(line string) string {
	d.t.Helper()
	d.tell(line)
	return d.answer()
}

// next is the next event; of what is told in the test's failure if none comes.
func next(t *testing.T, events <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the events have ended")
		}
		return e
	case <-t.Context().Done():
		t.Fatal("no event")
	case <-time.After(20 * time.Second):
		t.Fatal("no event within 20 s")
	}
	return Event{}
}

func wantState(t *testing.T, e Event, want State) {
	t.Helper()
	if e.Refused != "" || e.State != want {
		t.Fatalf("%+v, want %v", e, want)
	}
}

func wantRefused(t *testing.T, e Event, want string) {
	t.Helper()
	if !strings.Contains(e.Refused, want) || e.Message != (Message{}) {
		t.Fatalf("%+v, want it refused: %s", e, want)
	}
}

func TestReceive(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessMain)
	before := proc.BootTime()
	d.tell(`say READY=1\nSTATUS=up\nWATCHDOG_USEC=2000000`)
	e := next(t, events)
	wantState(t, e, Ready)
	if e.From != d.id.PID || *e.Status != "up" || *e.WatchdogEvery != 2*time.Second || e.At < before || e.At > proc.BootTime() {
		t.Errorf("%+v", e)
	}
	d.answer()
	d.do("say X_SOMETHING=1") // no event
	d.do("say STOPPING=1")
	wantState(t, next(t, events), Stopping)
	d.do("say READY=\x01")
	if e := next(t, events); e.Problem != "READY=\ufffd: only 1 is defined" || e.State != Silent {
		t.Errorf("%+v", e)
	}
}

// TestAccess: whose messages count.
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		access     Access
		line, want string
	}{
		{AccessMain, "say", ""},
		{AccessMain, "child", "is not the main process"},
		{"", "child", "is not the main process"},
		{AccessAll, "say", ""},
		{AccessAll, "child", ""},
		{AccessAll, "session", ""},                                 // by its parent
		{AccessAll, "left", ""},                                    // by its session
		{AccessAll, "orphan", "does not belong to the generation"}, // nothing is left to tell by
	} {
		t.Run(string(c.access)+" "+c.line, func(t *testing.T) {
			s := mustBind(t, filepath.Join(tempDir(t), FileName))
			d := start(t, s)
			events := s.Receive(Generation{Main: d.id}, c.access)
			d.tell(c.line + " READY=1")
			e := next(t, events)
			if c.want != "" {
				wantRefused(t, e, c.want)
			} else {
				wantState(t, e, Ready)
			}
			if (e.From == d.id.PID) != (c.line == "say") {
				t.Errorf("from %d", e.From)
			}
			if got := d.answer(); got != "done" {
				t.Error(got)
			}
			// A stranger of the same user.
			must(t, send(s.path, "READY=1"))
			wantRefused(t, next(t, events), strconv.Itoa(os.Getpid()))
		})
	}
}

// TestCgroup: a cgroup tells whose an orphan is.
func TestCgroup(t *testing.T) {
	root := unified(t)
	dir, err := os.MkdirTemp(root, "fb")
	if err != nil {
		t.Skip("a cgroup cannot be made: ", err)
	}
	t.Cleanup(func() {
		for os.Remove(dir) != nil && t.Context().Err() == nil { // busy until the last process is reaped
			time.Sleep(time.Millisecond)
		}
	})
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	t.Cleanup(d.end) // before the cgroup goes
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(d.id.PID)), 0o600))
	events := s.Receive(Generation{Main: d.id, Cgroup: "/" + filepath.Base(dir)}, AccessAll)
	d.do("orphan READY=1")
	wantState(t, next(t, events), Ready)
	must(t, send(s.path, "READY=1"))
	wantRefused(t, next(t, events), "does not belong")
}

// unified is where the unified hierarchy is mounted.
func unified(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	t.Skip("no unified cgroup hierarchy is mounted")
	return ""
}

// TestSenderEnded: who has ended cannot be shown to belong to anybody.
func TestSenderEnded(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	cmd := reexec.Command(t, hitAndRunHelper)
	cmd.Env = append(cmd.Env, s.Variables(0)...)
	must(t, cmd.Run()) // nobody receives yet
	events := s.Receive(Generation{Main: d.id}, AccessAll)
	wantRefused(t, next(t, events), "has ended")
}

var hitAndRunHelper = reexec.Helper("hit and run", func([]string) {
	reexec.Check(send(os.Getenv("NOTIFY_SOCKET"), "READY=1"))
})

func TestMainPID(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessMain)
	child, err := strconv.Atoi(d.do("living"))
	must(t, err)
	want, err := proc.Of(child)
	must(t, err)

	dead := exec.Command("/bin/true")
	must(t, dead.Run())
	for pid, reason := range map[int]string{
		os.Getpid():      "does not belong to the generation",
		2:                "", // nobody, or a thread of the kernel
		dead.Process.Pid: "process is gone",
	} {
		d.do("say MAINPID=" + strconv.Itoa(pid) + `\nSTATUS=x`)
		e := next(t, events)
		if e.Main != (proc.ID{}) || !strings.HasPrefix(e.Problem, "MAINPID: ") || !strings.Contains(e.Problem, reason) || *e.Status != "x" {
			t.Errorf("MAINPID=%d: %+v", pid, e)
		}
	}
	d.do("say READY=1")
	wantState(t, next(t, events), Ready) // it is the main process still

	d.do("say MAINPID=" + strconv.Itoa(child))
	if e := next(t, events); e.Main != want || e.Problem != "" {
		t.Errorf("%+v, want %+v", e, want)
	}
	d.do("say READY=1")
	wantRefused(t, next(t, events), "is not the main process, "+strconv.Itoa(child))
}

// TestMainPIDOfOtherUser: not even one in the daemon's own session.
func TestMainPIDOfOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts a process of another uid")
	}
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessMain)
	d.do("say MAINPID=" + d.do("uid 65534"))
	if e := next(t, events); e.Main != (proc.ID{}) || !strings.Contains(e.Problem, "runs as uid 65534, not 0") {
		t.Errorf("%+v", e)
	}
}

// TestOtherUser: the name is closed to others; one who gets at it all the same is
// refused by the kernel's word.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts a process of another uid")
	}
	dir := tempDir(t)
	must(t, os.Chmod(dir, 0o755))
	s := mustBind(t, filepath.Join(dir, FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessAll)
	// The go command builds in a directory that is closed to others.
	exe, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	helper := filepath.Join(dir, "helper")
	must(t, os.WriteFile(helper, exe, 0o755))
	run := func(mode fs.FileMode) error {
		must(t, os.Chmod(s.path, mode))
		cmd := reexec.Command(t, hitAndRunHelper)
		cmd.Path, cmd.Dir = helper, "/"
		cmd.Env = append(cmd.Env, s.Variables(0)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd.Run()
	}
	if err := run(0o600); err == nil {
		t.Error("another user may send a message")
	}
	must(t, run(0o666))
	wantRefused(t, next(t, events), "another uid")
}

// TestBarrier: it is released when everything before it was taken, and not
// before.
func TestBarrier(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessMain)
	d.do("say READY=1")
	d.do("say STOPPING=1")
	d.tell("barrier")
	answered := make(chan struct{})
	go func() {
		d.answer()
		close(answered)
	}()
	for _, want := range []State{Ready, Stopping} {
		select {
		case <-answered:
			t.Fatal("released too early")
		case <-time.After(20 * time.Millisecond):
		}
		wantState(t, next(t, events), want)
	}
	<-answered

	for n, want := range []string{"BARRIER=1 needs one descriptor", "", "BARRIER=1 needs one descriptor"} {
		r, w, err := os.Pipe()
		must(t, err)
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(w.Fd())
		}
		must(t, send(s.path, "BARRIER=1", fds...))
		w.Close()
		if want != "" {
			wantRefused(t, next(t, events), want)
		}
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d descriptors: %v", n, err)
		}
		r.Close()
	}
	must(t, send(s.path, "BARRIER=1\nREADY=1"))
	wantRefused(t, next(t, events), ErrBarrier.Error())
}

// TestDescriptors: whatever comes along is closed.
func TestDescriptors(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	events := s.Receive(Generation{Main: self(t)}, AccessMain)
	fds := countFDs(t)
	for _, n := range []int{1, maxDescriptors, maxDescriptors + 1, 253} {
		r, w, err := os.Pipe()
		must(t, err)
		list := make([]int, n)
		for i := range list {
			list[i] = int(w.Fd())
		}
		must(t, send(s.path, "FDSTORE=1\nFDNAME=x", list...))
		w.Close()
		if e := next(t, events); !e.Stores || e.Refused != "" {
			t.Errorf("%d descriptors: %+v", n, e)
		}
		must(t, barrier(s.path)) // handled, that is: all closed
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d descriptors: %v", n, err)
		}
		r.Close()
	}
	if now := countFDs(t); now != fds {
		t.Errorf("%d descriptors are open, %d before", now, fds)
	}
}

// self is this process as a main process.
func self(t *testing.T) proc.ID {
	t.Helper()
	id, err := proc.Self()
	must(t, err)
	return id
}

func countFDs(t *testing.T) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(dir)
}

// TestFlood: who says much while nobody takes it waits, and nothing is lost but
// what later words replace.
func TestFlood(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	events := s.Receive(Generation{Main: self(t)}, AccessMain)
	const texts = 5000
	for i := range texts {
		must(t, send(s.path, "WATCHDOG=1\nSTATUS="+strconv.Itoa(i)))
	}
	got := 0
	for last := ""; last != strconv.Itoa(texts-1); {
		e := next(t, events)
		if e.Status == nil || e.Pulse != Alive || e.Refused != "" {
			t.Fatalf("%+v", e)
		}
		got += 1 + e.Merged
		last = *e.Status
	}
	if got != texts {
		t.Errorf("%d texts of %d", got, texts)
	}

	const turns = 1000
	sent := make(chan int)
	go func() {
		defer close(sent)
		for i := range turns {
			text := "READY=1"
			if i%2 == 1 {
				text = "RELOADING=1"
			}
			if err := send(s.path, text); err != nil {
				t.Error(err)
				return
			}
			sent <- i
		}
	}()
	n := 0
	for ; n < turns; n++ { // until the sender has to wait
		select {
		case <-sent:
			continue
		case <-time.After(100 * time.Millisecond):
		}
		break
	}
	b, err := os.ReadFile("/proc/sys/net/unix/max_dgram_qlen")
	must(t, err)
	kernel, err := strconv.Atoi(strings.TrimSpace(string(b)))
	must(t, err)
	// In delivery, in the reader's hands and in the kernel.
	if bound := maxPending + 1 + kernel + 2; n > bound && bound < turns {
		t.Errorf("%d messages were sent that nobody took, the bound is %d", n, bound)
	}
	go func() {
		for range sent {
		}
	}()
	for i := range turns {
		wantState(t, next(t, events), [...]State{Ready, Reloading}[i%2])
	}
}

// TestClosePending: a Socket closes with a full queue and barriers in it.
func TestClosePending(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	events := s.Receive(Generation{Main: self(t)}, AccessMain)
	for range maxPending - 2 {
		must(t, send(s.path, "READY=1"))
	}
	r, w, err := os.Pipe()
	must(t, err)
	must(t, send(s.path, "BARRIER=1", int(w.Fd())))
	w.Close()
	must(t, s.Close())
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the barrier: %v", err)
	}
	for range events { // ends
	}
	if err := s.Close(); err != net.ErrClosed {
		t.Error(err)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the name: %v", err)
	}
	never := mustBind(t, s.path)
	must(t, never.Close())
	for range never.Receive(Generation{}, AccessMain) {
		t.Error("an event of a closed socket")
	}
}

// TestTooLong: 4096 bytes are a message, one more is none.
func TestTooLong(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	events := s.Receive(Generation{Main: self(t)}, AccessMain)
	text := "READY=1\nX=" + strings.Repeat("x", MaxMessage-10)
	must(t, send(s.path, text))
	wantState(t, next(t, events), Ready)
	must(t, send(s.path, text+"x"))
	wantRefused(t, next(t, events), ErrTooLong.Error())
	must(t, send(s.path, ""))
	wantRefused(t, next(t, events), ErrEmpty.Error())
}

// TestFinish: what a daemon says before its end is heard after it, and then
// the events end.
func TestFinish(t *testing.T) {
	for _, received := range []bool{true, false} {
		s := mustBind(t, filepath.Join(tempDir(t), FileName))
		d := start(t, s)
		var events <-chan Event
		if received {
			events = s.Receive(Generation{Main: d.id}, AccessMain)
		}
		d.do("say READY=1")
		d.do(`say STOPPING=1\nERRNO=28`)
		d.do(`say STATUS=no space`)
		d.end()
		s.Finish()
		if !received {
			events = s.Receive(Generation{Main: d.id}, AccessMain)
		}
		var got []Event
		for e := range events {
			got = append(got, e)
		}
		if len(got) != 3 || got[0].State != Ready || got[1].Errno != syscall.ENOSPC || *got[2].Status != "no space" || s.Err() != nil {
			t.Errorf("received before: %v: %+v, %v", received, got, s.Err())
		}
	}
}

// TestPath: mode, length, what is there already, and the alias of a directory
// with a long name.
func TestPath(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, FileName)
	old := unix.Umask(0)
	s := mustBind(t, path)
	unix.Umask(old)
	fi, err := os.Lstat(path)
	must(t, err)
	if fi.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v", fi.Mode())
	}
	successor := mustBind(t, path) // of a broker that was killed
	must(t, s.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the old socket took the new one's name: %v", err)
	}
	events := successor.Receive(Generation{Main: self(t)}, AccessMain)
	must(t, send(path, "READY=1"))
	wantState(t, next(t, events), Ready)

	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	long := filepath.Join(dir, strings.Repeat("x", maxPath-len(dir)))
	for path, want := range map[string]error{
		file: syscall.EADDRINUSE, "msg": syscall.EINVAL, long: syscall.ENAMETOOLONG,
		filepath.Join(dir, "missing", "msg"): fs.ErrNotExist,
	} {
		s, err := Bind(path)
		var pe *fs.PathError
		if s != nil || !errors.Is(err, want) || !errors.As(err, &pe) || pe.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
	fits := mustBind(t, long[:maxPath])
	events = fits.Receive(Generation{Main: self(t)}, AccessMain)
	must(t, send(fits.path, "READY=1"))
	wantState(t, next(t, events), Ready)
}

func TestAlias(t *testing.T) {
	if len(FileName) > len(runtimedir.CtlName) {
		t.Errorf("%q is longer than %q", FileName, runtimedir.CtlName)
	}
	root := filepath.Join(tempDir(t), strings.Repeat("long", 60), "run")
	must(t, os.MkdirAll(root, 0o700))
	env := runtimedir.Env{RuntimeDir: root, EUID: os.Geteuid()}
	place, err := env.Resolve(context.Background(), "default", "notify-test", func(string) bool { return false })
	must(t, err)
	must(t, env.MakeService(place))
	t.Cleanup(func() { os.Remove(place.Addr) }) // the alias
	gen := filepath.Join(place.Addr, "1.0123456789abcdef.zzzzzzz.012345")
	must(t, os.Mkdir(gen, 0o700))
	s := mustBind(t, filepath.Join(gen, FileName))
	d := start(t, s)
	events := s.Receive(Generation{Main: d.id}, AccessMain)
	d.do("say READY=1")
	wantState(t, next(t, events), Ready)
	if _, err := os.Lstat(filepath.Join(place.Dir, filepath.Base(gen), FileName)); err != nil {
		t.Error(err)
	}
}

// TestAdopt: a socket goes on under another owner, with what is queued.
func TestAdopt(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	must(t, send(s.path, "READY=1"))
	f, err := s.File()
	must(t, err)
	heir, err := Adopt(s.path, f)
	must(t, err)
	defer heir.Close()
	events := heir.Receive(Generation{Main: self(t)}, AccessMain)
	wantState(t, next(t, events), Ready)

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer tcp.Close()
	for name, open := range map[string]func() (*os.File, error){
		"file":     func() (*os.File, error) { return os.Open(os.DevNull) },
		"listener": tcp.(*net.TCPListener).File,
	} {
		f, err := open()
		must(t, err)
		fds := countFDs(t)
		if a, err := Adopt(s.path, f); a != nil || err == nil {
			t.Errorf("%s: adopted", name)
		}
		if now := countFDs(t); now != fds-1 {
			t.Errorf("%s: %d descriptors are open, %d before", name, now, fds)
		}
	}
}

// TestSystemdNotify: the tool that scripts use, from the main process's child.
func TestSystemdNotify(t *testing.T) {
	tool, err := exec.LookPath("systemd-notify")
	if err != nil {
		t.Skip("no systemd-notify (Debian package systemd): ", err)
	}
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	d := startCmd(t, s, exec.Command("/bin/sh", "-c", tool+` --ready --status="$1" && echo done && read -r _`, "sh", "half way"))
	events := s.Receive(Generation{Main: d.id}, AccessAll)
	e := next(t, events)
	wantState(t, e, Ready)
	if *e.Status != "half way" {
		t.Errorf("%+v", e)
	}
	if got := d.answer(); got != "done" { // its barrier was released
		t.Error(got)
	}
}

// TestVariables: the daemon finds its watchdog, and the trampoline says whose it
// is.
func TestVariables(t *testing.T) {
	s := mustBind(t, filepath.Join(tempDir(t), FileName))
	for _, c := range []struct {
		every time.Duration
		want  string
	}{{0, ""}, {-1, ""}, {1, "1"}, {20 * time.Second, "20000000"}} {
		cmd := exec.Command("/bin/sh", "-c", `
			if [ -n "$WATCHDOG_USEC" ]; then export WATCHDOG_PID=$$; fi
			exec /bin/sh -c 'echo "$NOTIFY_SOCKET $WATCHDOG_USEC $((WATCHDOG_PID == $$))"'`)
		cmd.Env = append([]string{"WATCHDOG_USEC=", "WATCHDOG_PID=0"}, s.Variables(c.every)...)
		out, err := cmd.Output()
		must(t, err)
		mine := "0"
		if c.want != "" {
			mine = "1"
		}
		if got, want := strings.TrimSpace(string(out)), s.path+" "+c.want+" "+mine; got != want {
			t.Errorf("%v: %q, want %q", c.every, got, want)
		}
	}
}

// BenchmarkPulse is a pulse that is sent and taken, from and by this process.
func BenchmarkPulse(b *testing.B) {
	s := mustBind(b, filepath.Join(tempDir(b), FileName))
	id, err := proc.Self()
	must(b, err)
	events := s.Receive(Generation{Main: id}, AccessMain)
	for b.Loop() {
		must(b, send(s.path, "WATCHDOG=1"))
		if e := <-events; e.Pulse != Alive {
			b.Fatalf("%+v", e)
		}
	}
}

func TestParseKin(t *testing.T) {
	for text, want := range map[string]kin{
		"7 (cat) S 1 2 3 4 5":                    {1, 3},
		"7 (a) S 9 9 9 (b) x) R 10 20 30 40 50 ": {10, 30},
		"7 (cat) S 1 2":                          {},
		"7 cat S 1 2 3 4 5":                      {},
		"7 (cat) S 1 2 x 4 5":                    {},
		"":                                       {},
	} {
		if got, err := parseKin([]byte(text)); got != want || (err == nil) != (want != kin{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
