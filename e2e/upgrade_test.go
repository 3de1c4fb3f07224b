//go:build unix

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// upgrade makes the executable at the path another build: renamed over, or as
// package managers do that remove the file first.
func (w *world) upgrade(path string, build int, inPlace bool) {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.bin, "testprog"))
	if err != nil {
		w.t.Fatal(err)
	}
	b = append(b, fmt.Sprintf("build:%08d", build)...)
	// A fork of a parallel test would carry the open file on until its exec, and
	// nobody could execute it meanwhile.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	to := path + ".new"
	if inPlace {
		to = path
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if !inPlace {
		if err := os.Rename(to, path); err != nil {
			w.t.Fatal(err)
		}
	}
}

// tool runs the tool at the path.
func (w *world) tool(path string, args ...string) (string, error) {
	w.t.Helper()
	cmd := w.command("testprog", args...)
	cmd.Path, cmd.Args[0] = path, path
	return w.output(cmd)
}

func (w *world) mustTool(path string, args ...string) string {
	w.t.Helper()
	out, err := w.tool(path, args...)
	if err != nil {
		w.t.Fatalf("%v: %s\n%s", err, out, w.logs())
	}
	return out
}

// answeredBy is the build in a reply.
func answeredBy(reply string) string {
	f := strings.Fields(reply)
	return f[len(f)-1]
}

func buildName(n int) string { return fmt.Sprintf("%08d", n) }

// untilBuild dials until the build answers, and returns how it went.
func (w *world) untilBuild(path string, n int, args ...string) {
	w.t.Helper()
	w.eventually("build "+buildName(n)+" answers", func() bool {
		return answeredBy(w.mustTool(path, append([]string{"dial", "-on-version=replace"}, args...)...)) == buildName(n)
	})
}

// TestUpgradeUnderLoad: R14. The tool is replaced again and again while 8 clients
// dial and ask without pause: none of them is refused, reset or left without an
// answer, each answer names a build that was installed, and the old daemons go.
func TestUpgradeUnderLoad(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 0, true)
	w.mustTool(tool, "dial", "-on-version=replace")
	upgrades := 20
	var loads []*client
	for range 8 {
		// Clients of the first build, which never ask for another one than what
		// runs; who upgrades are the dials below.
		loads = append(loads, w.startClient("again", "-for=25s"))
	}
	began := time.Now()
	for i := 1; i <= upgrades; i++ {
		w.upgrade(tool, i, i%2 == 0)
		w.untilBuild(tool, i, "-load=50ms")
	}
	took := time.Since(began)
	total := 0
	for _, c := range loads {
		out := c.line()
		rest, err := c.finish()
		var n int
		if _, serr := fmt.Sscanf(out, "ok %d", &n); err != nil || serr != nil {
			t.Errorf("%v: %s %s", err, out, rest)
		}
		if strings.Contains(out, "none:") {
			t.Errorf("a build that was never installed has answered: %s", out)
		}
		total += n
	}
	w.eventually("the old daemons are gone", func() bool { return len(w.living("t")) == 1 })
	if n := w.execs(); n != upgrades+1 {
		t.Errorf("%d execs for %d upgrades", n, upgrades)
	}
	for _, e := range w.generations("t") {
		if !e.Alive && (e.Record.Phase != record.Gone || e.Record.Ended != "replaced") {
			t.Errorf("generation %d ended as %s, %q: %+v", e.Number, e.Record.Phase, e.Record.Ended, e.Record.Failure)
		}
	}
	t.Logf("%d upgrades in %v under %d dials, no error", upgrades, took.Round(time.Millisecond), total)
}

// TestWantCrowd: 100 clients want a version that does not run yet and takes its
// time to load: one successor, and none of them is answered by the old build.
func TestWantCrowd(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0")
	w.upgrade(tool, 2, false)
	before := w.execs()
	var clients []*client
	for range 100 {
		cmd := w.command("testprog", "dial", "-on-version=replace", "-version=2.0.0", "-want=2", "-load=10s", "-timeout=100s")
		cmd.Path, cmd.Args[0] = tool, tool
		clients = append(clients, w.startCommand(cmd))
	}
	// Who wants nothing is served meanwhile, by the old one.
	if out := w.mustTool(tool, "dial", "-version=1.0.0"); answeredBy(out) != buildName(1) {
		t.Errorf("the old daemon does not serve while its successor loads: %s", out)
	}
	for _, c := range clients {
		out := c.line()
		if rest, err := c.finish(); err != nil || answeredBy(out+" x") == "" || !strings.HasSuffix(out, buildName(2)) {
			t.Errorf("%v: %s %s", err, out, rest)
		}
	}
	if n := w.execs() - before; n != 1 {
		t.Errorf("%d successors, want 1", n)
	}
	w.eventually("the old daemon is gone", func() bool { return len(w.living("t")) == 1 })
}

// TestFailedSuccessor: one that crashes or fails in its load leaves the old one
// serving, and who waited for it is told why.
func TestFailedSuccessor(t *testing.T) {
	for _, how := range []string{"-fail=load", "-exit=load", "-panic=load"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tool := filepath.Join(w.dir, "tool")
			w.upgrade(tool, 1, true)
			pid := strings.Fields(w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0"))[1]
			w.upgrade(tool, 2, false)
			out, err := w.tool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-want=2.0.0", how)
			if err == nil || !strings.Contains(out, "launch=true") || !strings.Contains(out, "stage=load") {
				t.Errorf("who waited for it was told: %v %s", err, out)
			}
			// Whoever wants nothing is served, although each such dial may try again.
			for range 5 {
				out := w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", how)
				if f := strings.Fields(out); f[1] != pid {
					t.Errorf("answered by %s, want the old daemon, %s", out, pid)
				}
			}
			if n := w.execs(); n > 4 {
				t.Errorf("%d execs: the budget does not hold for successors", n)
			}
			w.eventually("the failed successors are gone", func() bool { return len(w.living("t")) == 1 })
		})
	}
}

// TestKilledSuccession: a kill -9 of whoever takes part, while the successor
// loads, costs at most what the killed one held; the next dial works, and in the
// end one generation lives.
func TestKilledSuccession(t *testing.T) {
	type cast struct {
		w            *world
		tool         string
		old, next    launch.Entry
		upgrader     *client
		oldOut, want string
	}
	for name, kill := range map[string]func(*testing.T, *cast){
		"upgrader":  func(t *testing.T, c *cast) { _ = c.upgrader.cmd.Process.Kill() },
		"successor": func(t *testing.T, c *cast) { c.w.killEntry(c.next); c.want = "old" },
		"old":       func(t *testing.T, c *cast) { c.w.killEntry(c.old) },
		"old and successor": func(t *testing.T, c *cast) {
			c.w.killEntry(c.old)
			c.w.killEntry(c.next)
		},
		"old is stopped by a signal": func(t *testing.T, c *cast) {
			h, err := c.old.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			if err := h.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cast{w: newWorld(t)}
			c.w.t = t
			c.tool = filepath.Join(c.w.dir, "tool")
			c.w.upgrade(c.tool, 1, true)
			c.oldOut = c.w.mustTool(c.tool, "dial", "-on-version=replace", "-version=1.0.0")
			c.old = c.w.living("t")[0]
			c.w.upgrade(c.tool, 2, false)
			cmd := c.w.command("testprog", "dial", "-on-version=replace", "-version=2.0.0", "-want=2.0.0", "-load=2s")
			cmd.Path, cmd.Args[0] = c.tool, c.tool
			c.upgrader = c.w.startCommand(cmd)
			c.w.eventually("the successor loads", func() bool {
				for _, e := range c.w.living("t") {
					if e.Record.Succeeds != "" && e.Record.Phase == record.Loading {
						c.next = e
						return true
					}
				}
				return false
			})
			kill(t, c)
			// The very next dial, by a client that wants nothing.
			out := c.w.mustTool(c.tool, "dial", "-version=1.0.0", "-timeout=60s")
			if c.want == "old" && answeredBy(out) != buildName(1) {
				t.Errorf("answered by %s, want the old daemon", out)
			}
			c.w.mustTool(c.tool, "dial", "-on-version=replace", "-version=2.0.0", "-want=2.0.0", "-timeout=60s")
			_, _ = c.upgrader.finish()
			c.w.eventually("one generation lives", func() bool { return len(c.w.living("t")) == 1 })
			c.w.oneOwner("t", false)
		})
	}
}

// loadingSuccessor waits for a successor that loads.
func (w *world) loadingSuccessor() (next launch.Entry) {
	w.t.Helper()
	w.eventually("a successor loads", func() bool {
		for _, e := range w.living("t") {
			if e.Record.Succeeds != "" && e.Record.Phase == record.Loading {
				next = e
				return true
			}
		}
		return false
	})
	return next
}

// killEntry kills a generation and waits for its end.
func (w *world) killEntry(e launch.Entry) {
	w.t.Helper()
	h, err := e.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGKILL); err != nil && err != proc.ErrGone {
		w.t.Fatal(err)
	}
	w.await(h)
}

// TestStopDuringSuccession: a stop covers the successor too.
func TestStopDuringSuccession(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0")
	w.upgrade(tool, 2, false)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-load=60s")
	w.eventually("two generations live", func() bool { return len(w.living("t")) == 2 })
	w.must("stop")
	if n := len(w.living("t")); n != 0 {
		t.Errorf("%d generations live on", n)
	}
	w.dial()
}

// TestHangingSuccessor: one that never comes to an end of its load, and answers
// nobody, costs nobody but those who want nothing else.
func TestHangingSuccessor(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0")
	w.upgrade(tool, 2, false)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-load=600s")
	next := w.loadingSuccessor()
	h, err := next.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if out := w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0"); answeredBy(out) != buildName(1) {
			t.Errorf("answered by %s, want the old build", out)
		}
	}
	out, err := w.tool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-want=2", "-timeout=500ms")
	if err == nil || !strings.Contains(out, "deadline=true") {
		t.Errorf("who wants nothing else has its deadline: %v %s", err, out)
	}
	if w.execs() != 2 {
		t.Errorf("%d execs, want the old one and one successor", w.execs())
	}
	w.killEntry(next)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-want=2")
	w.eventually("one generation lives", func() bool { return len(w.living("t")) == 1 })
}

// TestSuccessionOfLoading: a daemon that is replaced before it has loaded ends, and
// has not failed.
func TestSuccessionOfLoading(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "start", "-on-version=replace", "-version=1.0.0", "-load=600s")
	queued := w.startCommand(w.command("testprog", "dial"))
	w.eventually("it loads", func() bool { return w.readRecord("t").Phase == record.Loading })
	w.upgrade(tool, 2, false)
	if out := w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-want=2"); answeredBy(out) != buildName(2) {
		t.Errorf("answered by %s", out)
	}
	// Who has waited for the old one in the kernel's queue is served too.
	if out := queued.line(); answeredBy(out) != buildName(2) {
		t.Errorf("the queue was answered by %q", out)
	}
	_, _ = queued.finish()
	w.eventually("one generation lives", func() bool { return len(w.living("t")) == 1 })
	for _, e := range w.generations("t") {
		if !e.Alive && (e.Record.Ended != "replaced" || e.Record.Failure != nil) {
			t.Errorf("it ended as %q: %+v", e.Record.Ended, e.Record.Failure)
		}
	}
}

// TestSuccessorDiesBesideDrain: the old daemon, which still serves a connection, keeps
// no queue alive that nobody accepts from.
func TestSuccessorDiesBesideDrain(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace")
	loop := w.startClient("loop")
	if l := loop.line(); l != "looping" {
		t.Fatal(l)
	}
	w.upgrade(tool, 2, false)
	w.untilBuild(tool, 2)
	next, ok := launch.Current(w.service("t"), w.generations("t"))
	if !ok || len(w.living("t")) != 2 {
		t.Fatalf("the old daemon does not drain: %+v", w.generations("t"))
	}
	w.killEntry(next)
	if out := w.mustTool(tool, "dial", "-on-version=replace", "-timeout=5s"); answeredBy(out) != buildName(2) {
		t.Errorf("answered by %s", out)
	}
	if out, err := loop.finish(); err != nil || !strings.HasPrefix(out, "ok") {
		t.Error(out, err)
	}
}

// TestTakeoverGivenUp: a successor that dies between its order to the old daemon
// and moving current leaves that one serving, whoever waited meanwhile included.
func TestTakeoverGivenUp(t *testing.T) {
	w := newWorld(t)
	w.dial()
	old := w.living("t")[0]
	place := runtimedir.Place{Dir: w.service("t"), Addr: w.service("t")}
	c, f, err := launch.AskForListener(t.Context(), place, old.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 3 { // what the test's process does, a successor would
		if err := c.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ln, err := endpoint.AdoptFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := endpoint.Relisten(ln); err != nil {
		t.Fatal(err)
	}
	queued, err := net.Dial("unix", w.service("t")+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = queued.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintln(queued, "0"); err != nil {
		t.Fatal(err)
	}
	if reply, err := bufio.NewReader(queued).ReadString('\n'); err != nil {
		t.Fatalf("the client that waited got %q, %v", reply, err)
	}
	w.dial()
	if living := w.living("t"); len(living) != 1 || living[0].Name != old.Name {
		t.Errorf("%+v live, want %s", living, old.Name)
	}
	conn, err := net.Dial("unix", w.service("t")+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if pid, err := peer.PID(conn.(*net.UnixConn)); err != nil || pid != old.Record.PID {
		t.Errorf("the kernel shows %d, %v; want %d", pid, err, old.Record.PID)
	}
}

// TestTakeoverWithoutCurrent: a successor has taken over although an outsider has
// deleted current before the old daemon could look at it.
func TestTakeoverWithoutCurrent(t *testing.T) {
	w := newWorld(t)
	w.dial()
	old := w.living("t")[0]
	place := runtimedir.Place{Dir: w.service("t"), Addr: w.service("t")}
	c, f, err := launch.AskForListener(t.Context(), place, old.Name)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := endpoint.AdoptFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := c.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(place.Dir, "99.0.0.0")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lines := append(record.LaunchLines(record.Record{Generation: 99, Succeeds: old.Name}), record.TookOverLine())
	if err := record.Create(filepath.Join(dir, record.FileName), lines); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(place.Dir, runtimedir.CurrentName)); err != nil {
		t.Fatal(err)
	}
	h, err := old.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	w.await(h)
	if r, err := record.Read(filepath.Join(old.Dir, record.FileName)); err != nil || r.Phase != record.Gone || r.Ended != "replaced" {
		t.Errorf("the old daemon ended as %q, %q: %v", r.Phase, r.Ended, err)
	}
}

// TestStrandedTakeover: who has queued on a listener whose names an outsider deletes
// is served by the successor that has it, when the daemon before is dead.
func TestStrandedTakeover(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"names": func(dir string) error {
			return errors.Join(os.Remove(dir+"/sock"), os.Remove(dir+"/keep"))
		},
		"directory": func(dir string) error { return os.Rename(dir, dir+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tool := filepath.Join(w.dir, "tool")
			w.upgrade(tool, 1, true)
			w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0")
			old := w.living("t")[0]
			w.upgrade(tool, 2, false)
			w.mustTool(tool, "dial", "-on-version=replace", "-version=2.0.0", "-load=2s")
			next := w.loadingSuccessor()
			h, err := next.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			w.killEntry(old)
			queued, err := net.Dial("unix", w.service("t")+"/sock")
			if err != nil {
				t.Fatal(err)
			}
			defer queued.Close()
			if err := remove(w.service("t")); err != nil {
				t.Fatal(err)
			}
			_ = queued.SetDeadline(time.Now().Add(time.Minute))
			if _, err := fmt.Fprintln(queued, "0"); err != nil {
				t.Fatal(err)
			}
			if reply, err := bufio.NewReader(queued).ReadString('\n'); err != nil || answeredBy(reply) != buildName(2) {
				t.Fatalf("the client that waited got %q, %v", reply, err)
			}
			_ = queued.Close()
			w.await(h) // it finds itself stranded
			w.dial()
		})
	}
}

// TestUnadoptedSuccessor: one that never shows itself, and whose launcher is gone,
// is in nobody's way for longer than adopting may take.
func TestUnadoptedSuccessor(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace")
	w.upgrade(tool, 2, false)
	w.mustTool(tool, "dial", "-on-version=replace", "-hang", "-adopt=100ms")
	w.untilBuild(tool, 2, "-adopt=100ms")
	w.eventually("one generation lives", func() bool { return len(w.living("t")) == 1 })
}

// TestLeaseDuringSuccession: what is agreed with the old daemon while its successor
// loads holds for that one.
func TestLeaseDuringSuccession(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	first, second := filepath.Join(w.dir, "first"), filepath.Join(w.dir, "second")
	for _, d := range []string{first, second} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace", "-lease-dir="+first)
	w.upgrade(tool, 2, false)
	w.mustTool(tool, "dial", "-on-version=replace", "-load=2s")
	w.mustTool(tool, "dial", "-lease-dir="+second)
	w.untilBuild(tool, 2)
	w.eventually("one generation lives", func() bool { return len(w.living("t")) == 1 })
	remove(t, first)
	w.still("t", 2*time.Second)
	remove(t, second)
	if r := w.gone("t"); r.Ended != "last lease gone" {
		t.Errorf("it ended as %+v", r)
	}
}

// TestWaitingBlocksNobody: who waits for a successor is connected to nobody, so
// that a daemon which serves one client after the other serves the others.
func TestWaitingBlocksNobody(t *testing.T) {
	w := newWorld(t)
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace", "-version=1.0.0", "-serial")
	w.upgrade(tool, 2, false)
	cmd := w.command("testprog", "dial", "-on-version=replace", "-version=2.0.0", "-want=2", "-serial", "-load=3s")
	cmd.Path, cmd.Args[0] = tool, tool
	waiting := w.startCommand(cmd)
	w.eventually("the successor loads", func() bool { return len(w.living("t")) == 2 })
	for range 5 {
		if out := w.mustTool(tool, "dial", "-version=1.0.0"); answeredBy(out) != buildName(1) {
			t.Errorf("answered by %s", out)
		}
	}
	if out := waiting.line(); answeredBy(out) != buildName(2) {
		t.Errorf("who waited was answered by %q", out)
	}
	_, _ = waiting.finish()
}

// TestRestartReplaces: the connections that are open are served on while a
// restarted daemon loads, and nobody is refused.
func TestRestartReplaces(t *testing.T) {
	w := newWorld(t)
	loop := w.startClient("loop", "-load=300ms")
	if l := loop.line(); l != "looping" {
		t.Fatal(l)
	}
	again := w.startClient("again", "-for=3s")
	out, err := w.output(w.command("fastbind", "restart", "t"))
	if err != nil || !strings.HasSuffix(out, "/t/sock") {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := loop.finish(); err != nil || !strings.HasPrefix(out, "ok") {
		t.Error(out, err)
	}
	if l := again.line(); !strings.HasPrefix(l, "ok") {
		t.Error(l)
	}
	_, _ = again.finish()
	w.eventually("the old daemon is gone", func() bool { return len(w.living("t")) == 1 })
	if e := w.living("t")[0]; e.Number != 2 || w.execs() != 2 {
		t.Errorf("generation %d, %d execs", e.Number, w.execs())
	}
	if out := w.must("restart"); out != "" {
		t.Error(out)
	}
}

// TestRestartOfDraining: one that drains hands its listener to nobody; a restart
// waits for its end, and launches anew.
func TestRestartOfDraining(t *testing.T) {
	w := newWorld(t)
	held := w.startClient("hold")
	if l := held.line(); l != "holding" {
		t.Fatal(l)
	}
	old := w.living("t")[0]
	stop := w.startCommand(w.command("fastbind", "stop", "t"))
	w.eventually("it drains", func() bool {
		e := w.generations("t")
		return len(e) == 1 && e[0].Record.Phase == record.Draining
	})
	restart := w.startCommand(w.command("fastbind", "restart", "t"))
	w.still("t", 300*time.Millisecond) // neither replaced nor given up
	if out, err := held.finish(); err != nil {
		t.Error(out, err)
	}
	if out, err := stop.finish(); err != nil {
		t.Error(out, err)
	}
	if out, err := restart.finish(); err != nil || !strings.HasSuffix(out, "/t/sock") {
		t.Error(out, err)
	}
	w.eventually("the next one runs", func() bool { return w.execs() == 2 })
	if alive := w.living("t"); len(alive) != 1 || alive[0].Name == old.Name {
		t.Errorf("%d living", len(alive))
	}
}

// TestVersionRefused: R15, R16. A refusal names both executables and what differs.
func TestVersionRefused(t *testing.T) {
	w := newWorld(t)
	tool, other := filepath.Join(w.dir, "tool"), filepath.Join(w.dir, "other")
	w.upgrade(tool, 1, true)
	w.upgrade(other, 2, true)
	w.mustTool(tool, "dial", "-version=1.0.0")
	for _, args := range [][]string{
		{"-on-version=refuse", "-version=2.0.0"},
		{"-on-version=refuse", "-version=1.0.0", "-min-version=1.5.0"},
		{"-version=1.0.0", "-want=2"},
	} {
		out, err := w.tool(other, append([]string{"dial"}, args...)...)
		if err == nil || !strings.Contains(out, "refused=true") || !strings.Contains(out, "stage=policy") ||
			!strings.Contains(out, tool) || !strings.Contains(out, other) || !strings.Contains(out, "1.0.0") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
	// Coexisting versions do not meet.
	for _, v := range []string{"1.0.0", "2.0.0"} {
		w.mustTool(tool, "dial", "-on-version=coexist", "-version="+v)
	}
	if n := w.execs(); n != 3 {
		t.Errorf("%d execs, want one and one for each version", n)
	}
}

// TestFlapping: R15. Two builds without versions that keep replacing each other
// are stopped from it, and told so.
func TestFlapping(t *testing.T) {
	w := newWorld(t)
	tools := []string{filepath.Join(w.dir, "one"), filepath.Join(w.dir, "two")}
	w.upgrade(tools[0], 1, true)
	w.upgrade(tools[1], 2, true)
	for i := range 12 {
		w.mustTool(tools[i%2], "dial", "-on-version=replace") // nobody is refused for it
		w.eventually("the successor has taken over or there is none", func() bool { return len(w.living("t")) == 1 })
	}
	if n := w.execs(); n < 4 || n > 6 {
		t.Errorf("%d execs in 12 turns, want the first and some three replacements", n)
	}
	out, err := w.output(w.command("fastbind", "why", "t"))
	if err != nil || !strings.Contains(out, "replacing each other") || !strings.Contains(out, tools[0]) || !strings.Contains(out, tools[1]) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStrandedSuccession: I3. An outsider deletes the service's directory while a
// successor loads: whoever waits in the queue that it has, or will have, is served,
// and then it ends.
func TestStrandedSuccession(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("old one killed %t", killed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tool := filepath.Join(w.dir, "tool")
			w.upgrade(tool, 1, true)
			w.mustTool(tool, "dial", "-on-version=replace")
			old := w.living("t")[0]
			w.upgrade(tool, 2, false)
			// Longer than the old one waits for a successor that goes as well.
			w.mustTool(tool, "dial", "-on-version=replace", "-load=4s")
			next := w.loadingSuccessor()
			h, err := next.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			was, err := old.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer was.Close()
			if killed {
				w.killEntry(old)
			} else if err := was.Signal(syscall.SIGSTOP); err != nil { // so that it does not accept
				t.Fatal(err)
			}
			queued, err := net.Dial("unix", w.service("t")+"/sock")
			if err != nil {
				t.Fatal(err)
			}
			defer queued.Close()
			if _, err := fmt.Fprintln(queued, "0"); err != nil {
				t.Fatal(err)
			}
			remove(t, w.service("t"))
			if !killed {
				if err := was.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			_ = queued.SetDeadline(time.Now().Add(deadline))
			if reply, err := bufio.NewReader(queued).ReadString('\n'); err != nil {
				t.Errorf("who waited in the queue got %q, %v\n%s", reply, err, w.logs())
			}
			_ = queued.Close()
			w.await(h)
			if !killed {
				w.await(was)
			}
			w.dial()
			w.oneOwner("t", false)
		})
	}
}
