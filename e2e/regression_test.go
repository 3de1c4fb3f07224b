//go:build unix

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// TestSquattedCandidate: R34. Another user's directory where one of our
// candidates would be is passed over, cold and warm.
func TestSquattedCandidate(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	w := newWorld(t)
	uid := 40000 + os.Getpid()%10000
	squatted := "/tmp/fastbind-" + itoa(uid)
	home := filepath.Join(w.dir, "home")
	for path, owner := range map[string]int{squatted: uid + 1, home: uid} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.RemoveAll(squatted) })
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(w.dir, "xdg")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(run, uid, uid); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("testprog", "dial")
	// No anchor is left without a home in the password database.
	cmd.Env = []string{"HOME=" + home}
	asUser(cmd, uid)
	out, err := w.output(cmd)
	if err == nil || !strings.Contains(out, "refused=true") || !strings.Contains(out, squatted) {
		t.Errorf("with no directory of its own: %v: %s", err, out)
	}
	cmd = w.command("testprog", "dial")
	cmd.Env = []string{"FASTBIND_RUNTIME_DIR=" + filepath.Join(run, "fastbind"), "HOME=" + home}
	asUser(cmd, uid)
	if out, err := w.output(cmd); err != nil {
		t.Errorf("with one: %v: %s", err, out)
	}
	cmd = w.command("testprog", "stop")
	cmd.Env = []string{"FASTBIND_RUNTIME_DIR=" + filepath.Join(run, "fastbind"), "HOME=" + home}
	asUser(cmd, uid)
	if out, err := w.output(cmd); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
}

// TestUmask: R13. A strange umask leaves no directory that its user cannot
// enter.
func TestUmask(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root enters every directory, so another user must be tried")
	}
	w := newWorld(t)
	if err := os.Chmod(w.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	uid := 50000 + os.Getpid()%10000
	cmd := w.command("testprog", "dial")
	cmd.Args = append([]string{"sh", "-c", `umask 0777; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Env = append(w.env, "FASTBIND_RUNTIME_DIR="+filepath.Join(w.dir, "a", "b", "run"), "HOME="+w.dir)
	asUser(cmd, uid)
	if out, err := w.output(cmd); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	w.root = filepath.Join(w.dir, "a", "b", "run")
	if len(w.living("t")) != 1 {
		t.Error("no daemon lives")
	}
}

// TestHangBeforeAdopting: R6, R24. A daemon that hangs before its first line,
// and whose launcher has left, can be seen and stopped.
func TestHangBeforeAdopting(t *testing.T) {
	w := newWorld(t)
	w.must("start", "-hang")
	if st := w.must("status"); !strings.HasPrefix(st, "launching 1 ") {
		t.Errorf("status is %q", st)
	}
	w.must("stop")
	if alive := w.living("t"); len(alive) != 0 {
		t.Errorf("it lives on: %+v", alive)
	}
}

// TestDeathBeforeAdoptingIsCounted: a tool that forgot daemon.Run fails for good
// after three launches, also if no launcher stays to see it.
func TestDeathBeforeAdoptingIsCounted(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.must("start", "-forget")
		w.eventually("it is dead", func() bool { return len(w.living("t")) == 0 })
		if st := w.must("status"); !strings.HasPrefix(st, "failed ") {
			t.Errorf("status is %q", st)
		}
	}
	if out, err := w.run("start", "-forget"); err == nil || !strings.Contains(out, "stage=budget") {
		t.Errorf("the fourth launch: %v: %s", err, out)
	}
}

// TestSlowServeDrains: I3. A daemon that takes one connection after the other
// serves all that were queued when it was stopped.
func TestSlowServeDrains(t *testing.T) {
	w := newWorld(t)
	w.dial("-serial")
	var conns []net.Conn
	for range 10 {
		c, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "-400\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.run("stop")
		done <- err
	}()
	for i, c := range conns {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Errorf("connection %d was dropped: %v", i, err)
		}
		_ = c.Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOddFiles: whatever an outsider puts under our names, nobody waits for it
// and nobody is told to delete it.
func TestOddFiles(t *testing.T) {
	fifo := func(t *testing.T, path string) {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(t *testing.T, path string) {
		if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("as it was"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := func(t *testing.T, path string) {
		if err := os.Symlink(victim, path); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			fi, err := os.Stat(victim)
			if err != nil || fi.Mode().Perm() != 0o644 || read(t, victim) != "as it was" {
				t.Errorf("what a link led to was touched: %v %v: %q", fi.Mode(), err, read(t, victim))
			}
		})
	}
	for what, put := range map[string]func(*testing.T, string){"fifo": fifo, "directory": dir, "link": link} {
		for _, name := range []string{"sock", "keep", "new", "current", "record", "life", "log", "journal"} {
			t.Run(what+" for "+name, func(t *testing.T) {
				w := newWorld(t)
				w.dial()
				w.kill9("t")
				path := filepath.Join(w.service("t"), name)
				switch name {
				case "record", "life":
					path = filepath.Join(w.generations("t")[0].Dir, name)
				case "log", "journal":
					path = filepath.Join(w.root, ".state", "default", "t."+name)
				}
				remove(t, path)
				put(t, path)
				if out, err := w.run("status"); err != nil {
					t.Errorf("status: %v: %s", err, out)
				}
				w.dial()
				w.must("stop")
			})
		}
	}
}

// TestControlSocketDeleted: waiting for ready does not hang when a cleaner took
// the control endpoint.
func TestControlSocketDeleted(t *testing.T) {
	w := newWorld(t)
	w.dial()
	remove(t, filepath.Join(w.generations("t")[0].Dir, "ctl"))
	w.must("dial", "-ready", "-timeout=30s")
}

// TestStopOfAnotherFormat: a generation whose record this release cannot read is
// asked who it is.
func TestStopOfAnotherFormat(t *testing.T) {
	w := newWorld(t)
	w.dial()
	h, err := w.living("t")[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	path := filepath.Join(w.generations("t")[0].Dir, record.FileName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), "fastbind-record 1", "fastbind-record 2", 1))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("stop", "-timeout=60s")
	w.await(h)
}

// TestByHandBindInUse: a backend whose own Bind says "in use" of something else
// fails, and does not try for ever.
func TestByHandBindInUse(t *testing.T) {
	w := newWorld(t)
	out, err := w.run("daemon", "-by-hand", "-fail=bind-errno", "-timeout=60s")
	if err == nil || !strings.Contains(out, "already in use") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDialSink: a server that says at once that it has nothing to say gets all
// of stdin.
func TestDialSink(t *testing.T) {
	w := newWorld(t)
	got := filepath.Join(w.dir, "got")
	server := `import socket, os, sys
s = socket.socket(fileno=3)
c, _ = s.accept()
c.shutdown(socket.SHUT_WR)
n = 0
while True:
    b = c.recv(1 << 16)
    if not b: break
    n += len(b)
open(sys.argv[1] + ".new", "w").write(str(n)); os.rename(sys.argv[1] + ".new", sys.argv[1])
`
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	const size = 50_000_000
	cmd := w.command("fastbind", "dial", "sink", "--", python, "-c", server, got)
	cmd.Stdin = io.LimitReader(zeros{}, size)
	if out, err := w.output(cmd); err != nil {
		t.Fatal(err, out)
	}
	w.eventually("the server has read to the end", func() bool { _, err := os.Stat(got); return err == nil })
	if b, err := os.ReadFile(got); string(b) != itoa(size) {
		t.Errorf("the server got %s bytes of %d, %v", b, size, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestIgnoredInterrupt: who starts the command with SIGINT ignored, as a shell
// does its background jobs, does not want it to be interrupted.
func TestIgnoredInterrupt(t *testing.T) {
	w := newWorld(t)
	cmd := exec.Command("/bin/sh", "-c", `trap '' INT; exec "$0/fastbind" dial t -- "$0/testprog" daemon`, w.bin)
	cmd.Env, cmd.Dir = w.env, w.dir
	c := w.startCommand(cmd)
	for range 3 {
		if _, err := io.WriteString(c.stdin, "1\n"); err != nil {
			t.Fatal(err)
		}
		if l := c.line(); !strings.HasSuffix(l, " 1 1 none") {
			t.Fatal(l)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.finish(); err != nil {
		t.Error(out, err)
	}
}

// inNamespace starts a shell script as the first process of a new pid namespace,
// which ends with it. It has variables for the programs.
func (w *world) inNamespace(script string, options ...string) *client {
	w.t.Helper()
	if os.Getuid() != 0 {
		w.t.Skip("only root can make a pid namespace")
	}
	if err := exec.Command("unshare", "-pf", "true").Run(); err != nil {
		w.t.Skip("this root may not make a pid namespace: ", err)
	}
	cmd := exec.Command("unshare", append(append([]string{"-pf", "--kill-child"}, options...), "/bin/sh", "-c", script)...)
	cmd.Env = append(w.env[:len(w.env):len(w.env)], "PLAIND="+w.plaind(), "TESTPROG="+filepath.Join(w.bin, "testprog"), "FASTBIND="+filepath.Join(w.bin, "fastbind"))
	cmd.Dir = w.dir
	return w.startCommand(cmd)
}

// plaind is the path of the foreign daemon.
func (w *world) plaind() string {
	w.t.Helper()
	dir, err := plaind()
	if err != nil {
		w.t.Fatal(err)
	}
	return filepath.Join(dir, "plaind")
}

// TestNoIdentity: R10. Where /proc is not that of the own pid namespace, a pid
// cannot be told from a stranger's. A foreign daemon is not launched there; one
// made with the SDK is, since its life lock tells that it lives, and nobody is
// signalled for it.
func TestNoIdentity(t *testing.T) {
	w := newWorld(t)
	c := w.inNamespace(`$FASTBIND start web -- "$PLAIND" 2>&1; echo status $?; $TESTPROG start; $TESTPROG dial; echo done; read -r _`)
	var out []string
	for l := c.line(); l != "done" && len(out) < 20; l = c.line() {
		out = append(out, l)
	}
	all := strings.Join(out, "\n")
	for _, want := range []string{"status 4", "failed in stage prepare", "no process here can be told from another", "hint: mount this pid namespace's own /proc", "\nok "} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing:\n%s", want, all)
		}
	}
	if len(w.generations("web")) != 0 {
		t.Error("a foreign daemon was launched")
	}
	alive := w.living("t")
	if len(alive) != 1 || alive[0].Record.PIDNamespace != "" || alive[0].Record.Start != 0 {
		t.Fatalf("living: %+v", alive)
	}
	stop, err := w.output(w.command("fastbind", "stop", "t"))
	if err == nil || !strings.Contains(stop, "so the pid may be another's") || !strings.Contains(stop, "hint: end it in the pid namespace") {
		t.Errorf("stop: %v: %s", err, stop)
	}
	if len(w.living("t")) != 1 {
		t.Error("it was stopped")
	}
	_, _ = c.finish()
	w.eventually("it ended with its namespace", func() bool { return len(w.living("t")) == 0 })
}

// TestLogTailEndsWithItsGeneration: R3. What a failed generation is shown to have
// written last is its own, however many have written since.
func TestLogTailEndsWithItsGeneration(t *testing.T) {
	w := newWorld(t)
	if out, err := w.run("dial", "-fail=load"); err == nil {
		t.Fatal(out)
	}
	tail := func() string {
		t.Helper()
		out, err := w.output(w.command("fastbind", "status", "t", "--json"))
		_, rest, ok := strings.Cut(out, `"log_tail":[`)
		rest, _, _ = strings.Cut(rest, "]")
		if err != nil && !strings.Contains(err.Error(), "exit status 3") || !ok {
			t.Fatalf("%v: %s", err, out)
		}
		return rest
	}
	want := tail()
	if want == "" {
		t.Fatal("the failed generation wrote nothing")
	}
	for range 2 {
		w.dial()
		if got := tail(); got != want {
			t.Errorf("it is shown to have written %s, not %s", got, want)
		}
		w.must("stop")
		if got := tail(); got != want {
			t.Errorf("it is shown to have written %s, not %s", got, want)
		}
	}
	// One that is moved aside keeps its lines.
	log, err := os.OpenFile(filepath.Join(w.root, ".state", "default", "t.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString(strings.Repeat("much\n", 1<<18)); err != nil {
		t.Fatal(err)
	}
	w.dial()
	if got := tail(); got != want {
		t.Errorf("moved aside, it is shown to have written %s, not %s", got, want)
	}
}

// collect returns what a script prints up to the line "done".
func (c *client) collect() string {
	var out []string
	for l := c.line(); l != "done" && len(out) < 50; l = c.line() {
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

// fastbind runs the command and returns its output with its exit status.
func (w *world) fastbind(args ...string) string {
	w.t.Helper()
	cmd := w.command("fastbind", args...)
	out, err := w.output(cmd)
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return out + "\nexit " + itoa(cmd.ProcessState.ExitCode())
}

// said fails unless the output has all of the texts.
func (w *world) said(out string, want ...string) {
	w.t.Helper()
	for _, s := range want {
		if !strings.Contains(out, s) {
			w.t.Errorf("%q is missing:\n%s", s, out)
		}
	}
}

// TestForeignOfAnotherNamespace: R36. A foreign daemon of a container lives as
// long as its endpoint accepts, and cannot be stopped from outside; when the
// container has ended it is dead, and in nobody's way.
func TestForeignOfAnotherNamespace(t *testing.T) {
	w := newWorld(t)
	for round := range 2 {
		c := w.inNamespace(`$FASTBIND start web -- "$PLAIND" 2>&1; echo done; read -r _`, "--mount-proc")
		w.said(c.collect(), "/web/sock")
		w.said(w.fastbind("status", "web"), "web\tbound\t", "exit 0")
		w.said(w.fastbind("stop", "web"), "process belongs to another pid namespace", "hint: end it in the pid namespace", "exit 4")
		w.said(w.fastbind("purge", "web"), "exit 5")
		_, _ = c.finish()
		w.eventually("it ended with its namespace", func() bool {
			return strings.HasSuffix(w.fastbind("status", "web"), "exit 3")
		})
		w.said(w.fastbind("stop", "web"), "it is not running", "exit 3")
		if round == 0 {
			w.said(w.fastbind("start", "web"), "/web/sock", "exit 0")
			w.said(w.fastbind("stop", "web"), "stopped generation 2", "exit 0")
		}
	}
	w.said(w.fastbind("purge", "web"), "exit 0")
}

// TestForeignWithoutProc: where /proc cannot be used, a living foreign daemon is
// not taken for dead, and neither stopped nor forgotten.
func TestForeignWithoutProc(t *testing.T) {
	w := newWorld(t)
	w.said(w.fastbind("start", "web", "--", w.plaind()), "exit 0")
	h, err := w.living("web")[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c := w.inNamespace(`$FASTBIND status web 2>&1; echo status $?; $FASTBIND stop web 2>&1; echo stop $?; echo done
		read -r _; $FASTBIND start web 2>&1; echo start $?; echo done; read -r _`)
	w.said(c.collect(), "web\tbound\t", "status 0", "it shows another pid namespace", "hint: mount this pid namespace's own /proc", "stop 4")
	for _, name := range []string{"sock", "keep"} {
		remove(t, filepath.Join(w.service("web"), name))
	}
	_, _ = io.WriteString(c.stdin, "\n")
	w.said(c.collect(), "failed in stage prepare", "start 4")
	_, _ = c.finish()
	if !h.Alive() {
		t.Fatal("it was ended")
	}
	w.said(w.fastbind("stop", "web"), "stopped generation 1", "exit 0")
	w.await(h)
}

// foreignServes waits until a foreign daemon's trampoline has done its part.
func (w *world) foreignServes(name string) {
	w.t.Helper()
	w.eventually("it serves", func() bool {
		out, err := w.output(w.command("fastbind", "logs", name))
		return err == nil && strings.Contains(out, "serving")
	})
}

// TestCleanedForeign: R11. A foreign daemon whose record a cleaner took is found
// by the copy in the state directory; without that, nobody says that it is gone.
func TestCleanedForeign(t *testing.T) {
	clean := func(w *world) {
		for _, e := range w.generations("web") {
			remove(t, e.Dir)
		}
		remove(t, filepath.Join(w.service("web"), "current"))
		remove(t, filepath.Join(w.service("web"), "keep"))
	}
	for name, take := range map[string]func(*world){
		"all but the socket": clean,
		"only the record":    func(w *world) { remove(t, filepath.Join(w.generations("web")[0].Dir, record.FileName)) },
		"unreadable record": func(w *world) {
			if err := os.WriteFile(filepath.Join(w.generations("web")[0].Dir, record.FileName), []byte("fastbind-record 2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"systemd-tmpfiles": func(w *world) {
			if _, err := exec.LookPath("systemd-tmpfiles"); err != nil {
				t.Skip("no systemd-tmpfiles here")
			}
			conf := filepath.Join(w.dir, "clean.conf")
			if err := os.WriteFile(conf, []byte("d "+w.root+" 0700 - - 0\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("systemd-tmpfiles", "--clean", conf).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if len(w.living("web")) != 0 {
				t.Skip("it took no record")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, bind := range [][]string{{"--"}, {"--bind", "daemon", "--bound-within", "60s", "--"}} {
				w := newWorld(t)
				if bind = append(bind, w.plaind()); len(bind) > 2 {
					bind = append(bind, "-path", "{socket}")
				}
				w.env = append(w.env, "FASTBIND_STATE_DIR="+filepath.Join(w.dir, "state"))
				w.said(w.fastbind(append([]string{"start", "web"}, bind...)...), "exit 0")
				h, err := w.living("web")[0].Open()
				if err != nil {
					t.Fatal(err)
				}
				defer h.Close()
				defer func() { _ = h.Signal(syscall.SIGKILL) }()
				w.foreignServes("web")
				take(w)
				pid := itoa(h.PID())
				w.said(w.fastbind("status", "web"), "web\tbound\t", "\t"+pid+"\t", "exit 0")
				w.said(w.fastbind("start", "web"), "exit 0")
				w.said(w.fastbind("purge", "web"), "exit 5")
				w.said(w.fastbind("restart", "web"), "exit 0")
				w.await(h)
				w.said(w.fastbind("stop", "web"), "stopped generation ", "exit 0")
				w.said(w.fastbind("stop", "web"), "exit 3")
				w.said(w.fastbind("purge", "web"), "exit 0")
				if left, _ := filepath.Glob(filepath.Join(w.dir, "state", "*", "web*")); len(left) != 0 {
					t.Errorf("purge left %q", left)
				}
			}
		})
	}
	t.Run("the copy as well", func(t *testing.T) {
		w := newWorld(t)
		w.said(w.fastbind("start", "web", "--", w.plaind()), "exit 0")
		h, err := w.living("web")[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		defer func() { _ = h.Signal(syscall.SIGKILL) }()
		w.foreignServes("web")
		clean(w)
		remove(t, filepath.Join(w.root, ".state"))
		w.said(w.fastbind("status", "web"), "web\tbound\tdefault\t-\t-\t", "exit 0")
		w.said(w.fastbind("stop", "web"), "somebody accepts at its endpoint", "hint: find who listens, and end it: lsof "+w.root, "exit 4")
		w.said(w.fastbind("purge", "web"), "exit 5")
		if err := h.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.await(h)
		w.said(w.fastbind("status", "web"), "exit 3")
		w.said(w.fastbind("stop", "web"), "it is not running", "exit 3")
	})
}

// TestRefuseWithoutCurrent: R18. That a cleaner took current opens no daemon to a
// client with another environment, and the next client finds it again.
func TestRefuseWithoutCurrent(t *testing.T) {
	w := newWorld(t)
	base := w.env
	with := func(v string) { w.env = append(base[:len(base):len(base)], "FLAVOUR="+v) }
	flags := []string{"dial", "-env=FLAVOUR", "-env-policy=refuse"}
	current := filepath.Join(w.service("t"), "current")
	with("a")
	pid := w.dial(flags[1:]...)
	want, err := os.Readlink(current)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"b", "a"} {
		remove(t, current)
		with(v)
		out, err := w.run(flags...)
		if v == "b" {
			if err == nil || !strings.Contains(out, "refused=true") || !strings.Contains(out, "env FLAVOUR") {
				t.Errorf("another environment: %v: %s", err, out)
			}
		} else if err != nil || !strings.HasPrefix(out, "ok "+pid+" ") {
			t.Errorf("the same environment: %v: %s", err, out)
		}
		if got, err := os.Readlink(current); got != want {
			t.Errorf("current leads to %q, %v, not %q", got, err, want)
		}
	}
	// With nothing on record it is closed to all, for as long as the daemon has not
	// noticed.
	h := w.stopped("t")
	defer func() { _ = h.Signal(syscall.SIGCONT) }()
	remove(t, current)
	for _, e := range w.generations("t") {
		if err := os.Rename(e.Dir, filepath.Join(w.dir, "aside")); err != nil {
			t.Fatal(err)
		}
		defer os.Rename(filepath.Join(w.dir, "aside"), e.Dir)
	}
	if out, err := w.run(flags...); err == nil || !strings.Contains(out, "nothing tells which environment") {
		t.Errorf("with nothing on record: %v: %s", err, out)
	}
}

// TestRecordOfNextGeneration: what a service was last launched with is known while
// the next generation's record is being written.
func TestRecordOfNextGeneration(t *testing.T) {
	w := newWorld(t)
	w.dial()
	w.must("stop")
	next := filepath.Join(w.service("t"), "99.0123456789abcdef.zz.012345")
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(next, record.FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// As a launcher has it that is about to go on.
	if err := os.Remove(filepath.Join(w.service("t"), "current")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Base(next), filepath.Join(w.service("t"), "current")); err != nil {
		t.Fatal(err)
	}
	if out, err := w.output(w.command("fastbind", "start", "t")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDeathWithoutRecord: I2. Who waits in the queue of a daemon that is killed, or
// for its first answer, is told so, also when an outsider has deleted its record by
// then.
func TestDeathWithoutRecord(t *testing.T) {
	for _, c := range []struct {
		dir, load string
		phase     record.Phase
	}{
		{"default/t", "60s", record.Loading},
		{"default", "60s", record.Loading},
		{"default/t", "0s", record.Ready},
	} {
		w := newWorld(t)
		w.must("start", "-load="+c.load)
		var e launch.Entry
		w.eventually("it is "+string(c.phase), func() bool {
			living := w.living("t")
			if len(living) == 1 && living[0].Record.Phase == c.phase {
				e = living[0]
			}
			return e.Name != ""
		})
		waiting := w.connect(w.hangs(time.Minute, fastbind.HangReplace))
		if _, err := io.WriteString(waiting, "-60000\n"); err != nil { // it answers after a minute
			t.Fatal(err)
		}
		if c.phase == record.Ready {
			w.eventually("it has read the request", func() bool { return unread(t, waiting) == 0 })
		}
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Signal(syscall.SIGSTOP); err != nil { // it does not notice
			t.Fatal(err)
		}
		remove(t, filepath.Join(w.root, c.dir))
		if err := h.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = waiting.SetReadDeadline(time.Now().Add(deadline))
		if n, err := waiting.Read(make([]byte, 1)); !errors.Is(err, fastbind.ErrLaunchFailed) || !strings.Contains(err.Error(), "its record") {
			t.Errorf("%+v: %d bytes, %T %v", c, n, err, err)
		}
		w.await(h)
		_ = h.Close()
		w.dial()
	}
}
