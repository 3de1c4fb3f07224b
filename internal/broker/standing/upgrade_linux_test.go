package standing

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/reexec"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// brokerHelper is a broker's process. Arguments: its directory, the path by which it
// is executed, and that of the daemons' program.
var brokerHelper = reexec.Helper("broker", func(args []string) {
	dir, path, daemon := args[0], args[1], args[2]
	read := func() []File { return filesOf(dir, daemon) }
	program := Program{Version: "v1"}
	if slices.Contains(args, checkFlag) {
		reexec.Check(json.NewEncoder(os.Stdout).Encode(Try(program, read())))
		return
	}
	reached = func(step string) {
		at, what, _ := strings.Cut(strings.TrimSpace(string(must(os.ReadFile(dir+"/at")))), " ")
		switch {
		case at != step:
		case what == "kill":
			reexec.Check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
			select {}
		case what == "remove":
			reexec.Check(os.Rename(path, path+".away"))
		}
	}
	inheritance, err := Inherit()
	reexec.Check(err)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	by := Definition("default", path, nil)
	reexec.Check(Run(ctx, Config{
		Instance: "default", Env: envOf(dir), Client: os.Environ, Version: program.Version, By: &by,
		Read: read, Dir: func() string { return dir }, Reload: func() (<-chan struct{}, func()) { return nil, func() {} }, Inheritance: inheritance,
		Serve: func(ctx context.Context, ln net.Listener, c *Control) error {
			return wire.Serve(ctx, ln, c, program.Version)
		},
		Say: func(line string) { fmt.Fprintln(os.Stderr, line) },
		Upgraded: func(conn net.Conn, from, to Program) error {
			return wire.TellUpgraded(conn, wire.Program(from), wire.Program(to))
		},
		Replacement: func() (Replacement, error) { return Replacement{Path: path, Args: os.Args, Env: os.Environ}, nil },
	}))
})

func must[T any](v T, err error) T {
	reexec.Check(err)
	return v
}

// talker is a foreign daemon that says by how many it was asked, on one connection to
// its notify socket that it opens at its start.
var talker = reexec.Helper("talker", func([]string) {
	ln := must(endpoint.Adopt(3))
	var say io.Writer = io.Discard // whoever launches it without a broker hears nothing
	if to := os.Getenv("NOTIFY_SOCKET"); to != "" {
		say = must(net.Dial("unixgram", to))
	}
	_ = must(say.Write([]byte("READY=1\nSTATUS=asked by 0")))
	for n := 1; ; n++ {
		conn := must(ln.Accept())
		_, _ = say.Write([]byte("STATUS=asked by " + strconv.Itoa(n))) // nobody hears it without a broker
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
})

func envOf(dir string) runtimedir.Env {
	return runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}
}

// filesOf are two services: one that the test uses, and one that it does not.
func filesOf(_, daemon string) []File {
	var files []File
	for _, name := range []string{"used", "idle"} {
		d := definition.Definition{Service: name, Instance: "default", Foreign: true, Command: []string{daemon}, Env: []string{"REEXEC_HELPER=talker"}}.Complete()
		files = append(files, File{Name: name, Service: broker.Service{Definition: d, Policy: supervise.Policy{HangAfter: d.HangAfter, OnHang: d.OnHang, StopWithin: d.StopWithin}.Complete(), Sign: probe.Sign{Kind: probe.Notify}}})
	}
	return files
}

type world struct {
	t      *testing.T
	dir    string
	path   string // of the broker's program
	daemon string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, path: dir + "/broker", daemon: dir + "/daemon"}
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(os.Link(self, w.daemon), os.WriteFile(dir+"/at", nil, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	w.install()
	reexec.Used(talker)
	t.Cleanup(func() {
		for _, name := range []string{"used", "idle"} {
			entries, _ := launch.Generations(filepath.Dir(w.sock(name)))
			for _, e := range entries {
				if h, err := e.Open(); err == nil {
					_ = h.Signal(syscall.SIGKILL)
					_ = h.Close()
				}
			}
		}
		_ = os.RemoveAll(dir)
	})
	return w
}

// install makes the broker's program another file.
func (w *world) install() {
	w.t.Helper()
	self, err := os.Executable()
	if err == nil {
		err = errors.Join(exec.Command("cp", self, w.path+".new").Run(), os.Rename(w.path+".new", w.path))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// at says what is to happen at a step.
func (w *world) at(what string) {
	w.t.Helper()
	if err := os.WriteFile(w.dir+"/at", []byte(what), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sock(name string) string { return w.dir + "/run/default/" + name + "/sock" }

func (w *world) start() {
	w.t.Helper()
	w.cmd = reexec.Command(w.t, brokerHelper, w.dir, w.path, w.daemon)
	w.cmd.Path = w.path
	w.cmd.Env = append(w.cmd.Env, "FASTBIND_RUNTIME_DIR="+w.dir+"/run", "FASTBIND_STATE_DIR="+w.dir+"/state")
	w.cmd.Stderr = w.t.Output()
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	cmd, ended := w.cmd, make(chan struct{})
	w.ended = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for _, name := range []string{"used", "idle"} {
		w.eventually(name+" is held, or runs", func() bool {
			select {
			case <-ended:
				w.t.Fatalf("the broker has ended with %v", cmd.ProcessState)
			default:
			}
			v := w.list()[name]
			return v.Holding || v.PID != 0
		})
	}
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for end := time.Now().Add(deadline); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within the test's deadline: %s", what)
		}
	}
}

// client asks the broker; nil if there is none.
func (w *world) client() *wire.Client {
	conn, err := net.Dial("unix", w.sock(Service))
	if err != nil {
		return nil
	}
	return wire.NewClient(conn)
}

// list is what the broker has, by name.
func (w *world) list() map[string]wire.Service {
	all := map[string]wire.Service{}
	if c := w.client(); c != nil {
		defer c.Close()
		list, _ := c.List(w.t.Context())
		for _, s := range list {
			all[s.Name] = s
		}
	}
	return all
}

func (w *world) upgrade() error {
	c := w.client()
	if c == nil {
		w.t.Fatal("there is no broker")
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	_, _, err := c.Upgrade(ctx)
	return err
}

// conn is a connection to a service, over which echo is heard.
func (w *world) conn(name string) net.Conn {
	w.t.Helper()
	c, err := net.Dial("unix", w.sock(name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	w.echo(c)
	return c
}

func (w *world) echo(c net.Conn) {
	w.t.Helper()
	_ = c.SetDeadline(time.Now().Add(deadline))
	if _, err := fmt.Fprintln(c, "echo"); err != nil {
		w.t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "echo\n" {
		w.t.Fatalf("%q, %v", line, err)
	}
}

// limit is the broker's soft limit of open files.
func (w *world) limit() uint64 {
	w.t.Helper()
	var l unix.Rlimit
	if err := unix.Prlimit(w.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		w.t.Fatal(err)
	}
	return l.Cur
}

func (w *world) descriptors() int {
	w.t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(w.cmd.Process.Pid) + "/fd")
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

// spares are the broker's children that wait to become a daemon, by pid.
func (w *world) spares() []string {
	w.t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		w.t.Fatal(err)
	}
	var pids []string
	for _, path := range stats {
		stat, _ := os.ReadFile(path)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[0] == "T" && fields[1] == strconv.Itoa(w.cmd.Process.Pid) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// TestKilled: kill -9 at each step of an upgrade takes the broker and nothing else.
// Connections that were accepted live on, the next client of any service is served
// without a broker, and the next broker takes up what it can (I4).
func TestKilled(t *testing.T) {
	for _, step := range []string{stepTried, stepRested, stepWritten, stepMarked, stepTaken, stepServes} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			c := w.conn("used")
			pid := w.pid("used")
			w.at(step + " kill")
			if err := w.upgrade(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the answer is %v", err)
			}
			<-w.ended
			if s := w.cmd.ProcessState.String(); s != "signal: killed" {
				t.Errorf("the broker has ended with %q", s)
			}
			w.echo(c)
			w.echo(w.conn("used"))
			for _, f := range filesOf(w.dir, w.daemon) {
				l := launch.NewBroker(envOf(w.dir), f.Service.Definition, os.Environ)
				if _, err := l.Start(t.Context(), time.Now()); err != nil {
					t.Fatalf("%s: %v", f.Name, err)
				}
				w.conn(f.Name)
			}
			w.at("")
			w.start()
			w.echo(c)
			if now := w.pid("used"); now != pid {
				t.Errorf("pid %d, was %d", now, pid)
			}
			if err := w.upgrade(); err != nil {
				t.Errorf("the next broker: %v", err)
			}
		})
	}
}

// pid is that of a service's daemon, of which a client may hear before the broker does.
func (w *world) pid(name string) (pid int) {
	w.t.Helper()
	w.eventually("the broker knows who serves "+name, func() bool {
		pid = w.list()[name].PID
		return pid != 0
	})
	return pid
}

// TestNotExecuted: when the last step fails everything is as it was: descriptors, limits
// and what is inherited; and the next upgrade works.
func TestNotExecuted(t *testing.T) {
	w := newWorld(t)
	w.start()
	c := w.conn("used")
	w.eventually("a process waits to become a daemon", func() bool { return len(w.spares()) > 0 }) // it has descriptors too
	before, limit := w.descriptors(), w.limit()
	w.at(stepMarked + " remove")
	for range 3 {
		err := w.upgrade()
		refused := &wire.RefusedError{}
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "no such file or directory") {
			t.Fatal(err)
		}
		w.install()
	}
	w.eventually("nothing is left open", func() bool { return w.descriptors() <= before })
	if now := w.limit(); now != limit {
		t.Errorf("%d open files allowed, were %d", now, limit)
	}
	w.echo(c)
	w.conn("idle") // it can still launch
	if pid := w.list()["idle"].PID; pid != 0 {
		fds, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + fd.Name()); strings.Contains(to, "memfd") {
				t.Errorf("a daemon has the hand-over: %s", to)
			}
		}
		if err != nil {
			t.Error(err)
		}
	}
	w.at("")
	if err := w.upgrade(); err != nil {
		t.Error(err)
	}
	w.echo(c)
}

// TestNoSpareLeft: the process that waits to become a daemon does not outlive the program
// that has made it, whichever thread that did.
func TestNoSpareLeft(t *testing.T) {
	w := newWorld(t)
	w.start()
	for range 10 {
		w.eventually("a process waits", func() bool { return len(w.spares()) > 0 })
		before := w.spares()
		if err := w.upgrade(); err != nil {
			t.Fatal(err)
		}
		for _, pid := range before {
			if slices.Contains(w.spares(), pid) {
				t.Errorf("process %s waits for a program that is no more", pid)
			}
		}
	}
}

// TestHeard: what a daemon says while the broker becomes another program is heard, also
// by one that has opened its connection to the notify socket long ago.
func TestHeard(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.conn("used")
	asked := 1
	for range 5 {
		done := make(chan error)
		go func() { done <- w.upgrade() }()
		for ended := false; !ended; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				ended = true
			default:
				w.conn("used").Close()
				asked++
			}
		}
		want := "asked by " + strconv.Itoa(asked)
		w.eventually(want, func() bool { return w.list()["used"].Status == want })
	}
	t.Logf("%d messages during 5 upgrades", asked)
	// It hears a daemon that it has not launched, and ends all the same.
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-w.ended
}

// TestUnfollowed: a child that no service of the broker's follows any more is reaped
// after an upgrade too, and how it has ended is on record.
func TestUnfollowed(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.conn("idle")
	dir := filepath.Dir(w.sock("idle"))
	entries, err := launch.Generations(dir)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	pid := entries[0].Record.PID
	c := w.client()
	defer c.Close()
	if err := c.Disable(t.Context(), "idle"); err != nil {
		t.Fatal(err)
	}
	if err := w.upgrade(); err != nil {
		t.Fatal(err)
	}
	h, err := entries[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGABRT); err != nil { // of which Go programs exit
		t.Fatal(err)
	}
	w.eventually("its end is on record", func() bool {
		entries, _ := launch.Generations(dir)
		i := slices.IndexFunc(entries, func(e launch.Entry) bool { return e.Record.PID == pid })
		return i >= 0 && entries[i].Record.Failure != nil && entries[i].Record.Failure.Status == 2
	})
	w.eventually("it is reaped", func() bool {
		_, err := proc.Of(pid)
		return errors.Is(err, proc.ErrGone)
	})
}

// stranger passes on what is not what it is said to be, as a program with a fault would.
var stranger = reexec.Helper("stranger", func(args []string) {
	i, err := Inherit()
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	for _, problem := range i.Problems {
		fmt.Println(problem)
	}
	for dirName, l := range i.left {
		fmt.Println(dirName, "listener", l.File != nil)
	}
	_, err = unix.FcntlInt(9, unix.F_GETFD, 0)
	fmt.Println("unknown:", err)
	flags, err := unix.FcntlInt(4, unix.F_GETFD, 0)
	fmt.Println("known: close-on-exec", flags&unix.FD_CLOEXEC != 0, err)
})

// TestInherit: what is inherited is looked at before it is used; what is not known is
// closed.
func TestInherit(t *testing.T) {
	dir := t.TempDir()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var c copies
	defer c.close()
	listener := c.describe(ln, listening)
	stream := c.describe(conn.(*net.UnixConn), connected)
	if c.err != nil {
		t.Fatal(c.err)
	}
	file := func(fd int) *os.File {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(n), "copy")
	}
	run := func(text []byte, value string) string {
		var sealing copies
		defer sealing.close()
		fd, err := sealing.sealed(text)
		if err != nil {
			t.Fatal(err)
		}
		cmd := reexec.Command(t, stranger)
		cmd.Env = append(cmd.Env, variable+"="+value)
		// 3 the hand-over, 4 and 5 the listener, 6 and 7 the connection, 8 a file, 9 a
		// listener that is not spoken of.
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = []*os.File{file(fd), file(listener.FD), file(listener.FD), file(stream.FD), file(stream.FD), null, file(listener.FD)}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, f := range cmd.ExtraFiles {
			_ = f.Close()
		}
		return string(out)
	}
	of := func(d *descriptor, fd int) *descriptor { return &descriptor{fd, d.Inode, d.Kind} }
	wrong := of(stream, 7)
	wrong.Kind = listening
	text, err := json.Marshal(passed{Format: Format, Services: []passedService{
		{DirName: "good", Listener: of(listener, 4)},
		{DirName: "kind", Listener: wrong},
		{DirName: "inode", Listener: of(listener, 6)},
		{DirName: "file", Listener: of(listener, 8)},
		{DirName: "missing", Listener: of(listener, 700)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := run(text, "3")
	for _, want := range []string{
		"good listener true", "kind listener false", "inode listener false", "file listener false", "missing listener false",
		"the listener of kind, descriptor 7, is not what the broker has passed on: it is a connection, not a listener",
		"the listener of inode, descriptor 6, is not what the broker has passed on: it is another file",
		"the listener of file, descriptor 8, is not what the broker has passed on: it is another file",
		"the listener of missing, descriptor 700, is not what the broker has passed on: fstat: bad file descriptor",
		"unknown: bad file descriptor", "known: close-on-exec true <nil>",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("nothing like %q in\n%s", want, out)
		}
	}
	for _, c := range []struct{ text, value, want string }{
		{`{"format":2}`, "3", "the broker has passed on format 2, and this release reads format 1"},
		{`{"format":`, "3", "is not understood"},
		{"{}", "4", "descriptor 4 is no sealed file"},
		{"{}", "1", `is "1", not a descriptor`},
		{"{}", "x", `is "x", not a descriptor`},
		{strings.Repeat(" ", maxPassed+1), "3", "it is too long"},
	} {
		if out := run([]byte(c.text), c.value); !strings.HasPrefix(out, "error: ") || !strings.Contains(out, c.want) {
			t.Errorf("%q: %s, want %q", c.value, out, c.want)
		}
	}
	// What is sealed nobody changes.
	fd, err := c.sealed([]byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if text, err := readSealed(fd); !bytes.Equal(text, []byte("text")) {
		t.Errorf("%q, %v", text, err)
	}
	c.fds = c.fds[:len(c.fds)-1] // it is closed
}
