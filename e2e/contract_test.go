//go:build unix

package e2e

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// TestFailures: R3. Whatever goes wrong in a daemon, who dials gets a typed
// error with the stage, the exit and the log.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		args string
		want []string
		not  string // must not be in the log
	}{
		{"bind fails", "-bind=daemon -fail=bind", []string{"stage=bind", "status=1", "told to fail in bind"}, "loading"},
		{"bind fails with a raw errno", "-bind=daemon -fail=bind-errno",
			[]string{"stage=bind", "status=1", "errno=98", "already=true"}, "loading"},
		{"bind panics", "-bind=daemon -panic=bind", []string{"stage=bind", "status=2", "told to panic in bind"}, "loading\n"},
		{"bind exits", "-bind=daemon -exit=bind", []string{"status=7"}, "loading"},
		{"load fails", "-fail=load", []string{"stage=load", "status=1", "told to fail in load"}, ""},
		{"load panics", "-panic=load", []string{"stage=load", "status=2", "panic: told to panic in load (exit"}, ""},
		{"load exits", "-exit=load", []string{"stage=load", "status=7"}, ""},
		{"serve fails", "-fail=serve", []string{"stage=serve", "status=1", "told to fail in serve"}, ""},
		{"serve panics", "-panic=serve", []string{"stage=serve", "status=2"}, ""},
		{"serve returns early", "-early", []string{"stage=serve", "status=1", "nobody asked it to stop"}, ""},
		{"load fails, waiting for ready", "-fail=load -ready", []string{"stage=load", "told to fail in load"}, ""},
		{"main forgets Run", "-forget", []string{"stage=adopt", "status=9", "before it adopted"}, ""},
		{"main never adopts", "-hang -adopt=300ms", []string{"stage=adopt", `signal="killed"`, "does main call daemon.Run?"}, ""},
		{"binds too late", "-bind=daemon -bind-late=60s", []string{"stage=bound", "not listening within 500ms of exec", "it says it is launching"}, "loading"},
		{"binds another path", "-bind=daemon -aside", []string{"stage=bound", "its socket is not"}, ""},
		{"binds too late for a longer budget", "-bind=daemon -bind-late=60s -bound=700ms", []string{"stage=bound", "not listening within 700ms"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			out, err := w.run(append([]string{"dial"}, strings.Fields(c.args)...)...)
			if err == nil {
				t.Fatalf("the dial succeeded: %s", out)
			}
			for _, want := range append(c.want, "typed", "launch=true", "log=true") {
				if !strings.Contains(out, want) {
					t.Errorf("the error lacks %q: %s", want, out)
				}
			}
			if strings.Contains(out, "second line") {
				t.Errorf("the cause has more than a line: %s", out)
			}
			log, err := os.ReadFile(filepath.Join(w.root, ".state", "default", "t.log"))
			if err != nil || c.not != "" && strings.Contains(string(log), c.not) {
				t.Errorf("the log has %q, or cannot be read (%v):\n%s", c.not, err, log)
			}
			if w.execs() != 1 {
				t.Errorf("%d execs, want 1", w.execs())
			}
			if alive := w.living("t"); len(alive) != 0 {
				t.Errorf("something lives: %+v", alive)
			}
			if c.args == "-forget" && !strings.Contains(string(log), "does its main call daemon.Run?") {
				t.Errorf("a forgetful main is not told: %s", log)
			}
			if st := w.must("status"); !strings.HasPrefix(st, "failed ") {
				t.Errorf("status is %q", st)
			}
			// I4: nothing is left behind that a healthy launch trips over.
			w.dial()
		})
	}
}

// TestFailureForEverybody: R3. A launch that fails, fails for each process that
// waits for it; nobody launches again in its wake.
func TestFailureForEverybody(t *testing.T) {
	w := newWorld(t)
	gate, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	const n = 32
	outs := make(chan string, n)
	for range n {
		cmd := w.command("testprog", "dial", "-gate", "-load=400ms", "-fail=serve")
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = gate, &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = cmd.Wait()
			outs <- out.String()
		}()
	}
	_ = gate.Close()
	_ = release.Close()
	for range n {
		if out := <-outs; !strings.Contains(out, "stage=serve") || !strings.Contains(out, "told to fail") {
			t.Errorf("a waiter was told %s", out)
		}
	}
	if w.execs() > 2 {
		t.Errorf("%d execs for one crowd", w.execs())
	}
}

// TestBudget: after three launches that died before they were ready, dials are
// answered at once with the reason and the time to try again.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		if out, _ := w.run("dial", "-exit=load"); !strings.Contains(out, "stage=load status=7") {
			t.Fatalf("launch %d: %s", i, out)
		}
	}
	out, _ := w.run("dial", "-exit=load")
	for _, want := range []string{"stage=budget", "refused=true", "launch=false", "retry=true", "3 launches failed within 30 s"} {
		if !strings.Contains(out, want) {
			t.Errorf("the refusal lacks %q: %s", want, out)
		}
	}
	if w.execs() != 3 {
		t.Errorf("%d execs, want 3", w.execs())
	}
}

// TestBudgetIsNotSpentByKills: a daemon that the user ends while it loads, and
// whose launcher lives to see the signal, did not fail by itself.
func TestBudgetIsNotSpentByKills(t *testing.T) {
	w := newWorld(t)
	for range 4 {
		c := w.startClient("dial", "-load=60s", "-linger")
		w.eventually("loading", func() bool {
			alive := w.living("t")
			return len(alive) == 1 && alive[0].Record.Phase == record.Loading
		})
		w.kill9("t")
		if line := c.line(); !strings.Contains(line, `stage=load status=-1 signal="killed"`) {
			t.Errorf("the waiting client was told %s", line)
		}
		_, _ = c.finish()
	}
	w.dial()
}

// TestBudgetIsNotSpentByStops: nor did one that was stopped, at once or by asking,
// when nobody but the stop is left to see it; nor if the stop is killed before it
// sees the end, or another dial comes first.
func TestBudgetIsNotSpentByStops(t *testing.T) {
	w := newWorld(t)
	for _, how := range []string{"--now", "--now", "", "--now"} {
		w.must("start", "-load=60s")
		w.eventually("loading", func() bool { return w.readRecord("t").Phase == record.Loading })
		args := strings.Fields("stop t " + how)
		if out, err := w.output(w.command("fastbind", args...)); err != nil {
			t.Fatalf("stop %s: %v: %s", how, err, out)
		}
		if !w.readRecord("t").Stopped {
			t.Error("the order is not on record")
		}
		// Asked to end, its Load returns an error, which it reports.
		if st := w.must("status"); how != "" && !strings.HasPrefix(st, "gone ") {
			t.Errorf("status after stop %s: %q", how, st)
		}
	}
	for range 4 {
		w.must("start", "-load=60s")
		w.eventually("loading", func() bool { return w.readRecord("t").Phase == record.Loading })
		if err := record.Append(filepath.Join(w.living("t")[0].Dir, record.FileName), record.StoppedLine()); err != nil {
			t.Fatal(err)
		}
		w.kill9("t") // as a stop does that is killed itself then
		if st := w.must("status"); !strings.HasPrefix(st, "gone ") {
			t.Errorf("status is %q", st)
		}
	}
	w.dial()
}

// TestBudgetIsSpentByUnseenDeaths: a daemon that exits while it loads is refused
// the fourth launch although no launcher stays to see its status. A kill -9 then
// looks the same, and counts (README, Limits).
func TestBudgetIsSpentByUnseenDeaths(t *testing.T) {
	for name, end := range map[string]func(*world){
		"exit":    nil,
		"kill -9": func(w *world) { w.kill9("t") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			args := []string{"start", "-exit=load"}
			if end != nil {
				args[1] = "-load=60s"
			}
			for range 3 {
				w.must(args...)
				if end != nil {
					w.eventually("loading", func() bool { return w.readRecord("t").Phase == record.Loading })
					end(w)
				}
				w.eventually("it is dead", func() bool { return len(w.living("t")) == 0 })
			}
			if out, err := w.run(args...); err == nil || !strings.Contains(out, "stage=budget") {
				t.Errorf("the fourth launch: %v: %s", err, out)
			}
		})
	}
}

// TestLoading: R2, R25. A daemon that loads for a minute: connected at once, its
// progress is told, only the caller's deadline counts.
func TestLoading(t *testing.T) {
	w := newWorld(t)
	const load = 10 * time.Minute // longer than any deadline here: nobody waits for it
	began := time.Now()
	held := w.startClient("hold", "-load="+load.String())
	if line := held.line(); line != "holding" {
		t.Fatalf("a dial said %q", line)
	}
	// Far from the end of the load; a cold launch on a busy machine takes less.
	if d := time.Since(began); d > deadline/4 || w.readRecord("t").WasReady {
		t.Errorf("connected after %v", d)
	}
	conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
	if err != nil {
		t.Fatalf("a plain client cannot connect: %v", err)
	}
	defer conn.Close()
	w.eventually("loading", func() bool { return strings.HasPrefix(w.must("status"), "loading 1 ") })
	out, err := w.run("dial", "-ready", "-timeout=200ms")
	if err == nil || !strings.Contains(out, "deadline=true") {
		t.Errorf("waiting for ready with a deadline: %v: %s", err, out)
	}
	out, err = w.run("dial", "-timeout=200ms")
	if err == nil || strings.Contains(out, "launch=true") {
		t.Errorf("a reply while loading: %v: %s", err, out)
	}
	w.kill9("t")
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the killed daemon answered")
	}
	w.eventually("the launcher, which lives, has said how it ended", func() bool {
		f := w.readRecord("t").Failure
		return f != nil && f.Signal == "killed"
	})
	st := w.must("status")
	if !strings.HasPrefix(st, "failed 1 0") {
		t.Errorf("status after the kill is %q", st)
	}
	// The next caller is told what is known, and launches.
	w.said(w.fastbind("status", "t", "--json"), `"stage":"load"`, `"signal":"SIGKILL"`, "exit 3")
	w.dial()
	if out, err := held.finish(); err != nil {
		t.Error(err, out)
	}

	// Nobody was left to see this one.
	w.must("stop")
	w.must("start", "-load="+load.String())
	w.eventually("loading", func() bool { return w.readRecord("t").Phase == record.Loading })
	w.kill9("t")
	w.said(w.fastbind("status", "t", "--json"), `"stage":"load"`, "the process is gone", "launcher left", "exit 3")
	w.dial()
}

// TestServeWhileLoading: the daemon answers before it is ready, and says ready
// later.
func TestServeWhileLoading(t *testing.T) {
	w := newWorld(t)
	w.dial("-load=2s", "-later")
	if st := w.must("status"); !strings.HasPrefix(st, "loading") {
		t.Errorf("it answers, and its phase is %q", st)
	}
	w.must("dial", "-ready")
	if st := w.must("status"); !strings.HasPrefix(st, "ready") {
		t.Errorf("after waiting for ready its phase is %q", st)
	}
}

// TestOrder: the record tells bind, load and ready in this order, and the
// daemon's identity before any of them.
func TestOrder(t *testing.T) {
	for _, bind := range []string{"broker", "daemon"} {
		w := newWorld(t)
		w.dial("-bind=" + bind)
		b, err := os.ReadFile(filepath.Join(w.generations("t")[0].Dir, record.FileName))
		if err != nil {
			t.Fatal(err)
		}
		at := -1
		for _, line := range []string{"\nphase launching\n", "\npid ", "\nphase bound\n", "\nphase loading\n", "\nphase ready\n"} {
			next := strings.Index(string(b), line)
			if next <= at {
				t.Errorf("bind %s: %q is not in its place:\n%s", bind, line, b)
			}
			at = next
		}
		journal, _ := os.ReadFile(filepath.Join(w.root, ".state", "default", "t.journal"))
		for _, want := range []string{`"event":"launched"`, `"generation":1`, `"pid":`, `"bound_after_us":`} {
			if !strings.Contains(string(journal), want) {
				t.Errorf("bind %s: the journal lacks %s: %s", bind, want, journal)
			}
		}
	}
}

// TestHangup: R19. Work for a client that has left is told so although nobody
// reads from its connection; one that only half-closed has not left.
func TestHangup(t *testing.T) {
	w := newWorld(t)
	w.dial()
	log := filepath.Join(w.root, ".state", "default", "t.log")
	// The daemon notes the end of the request's context, and that its own lives.
	hungUp := func() int {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), "hung up context canceled <nil>")
	}
	best := deadline
	for n := range 5 {
		conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "hangup\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.dial() // the daemon has gone on since
		if hungUp() != n {
			t.Fatal("a half-close is taken for a hang-up")
		}
		began := time.Now()
		_ = conn.Close()
		w.eventually("the hang-up is noticed", func() bool { return hungUp() == n+1 })
		best = min(best, time.Since(began))
	}
	// Of several, so that a busy machine does not count.
	if best > time.Second {
		t.Errorf("a hang-up is noticed after %v at best", best)
	}
	t.Logf("noticed after %v at best", best)
}

// TestStopServesWhatIsThere: R24, I3. A stop answers the request under way and
// those that were queued, then the process is gone.
func TestStopServesWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.dial()
	h, err := w.living("t")[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const n = 20
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "-300\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	stopped := make(chan error, 1)
	go func() {
		_, err := w.run("stop")
		stopped <- err
	}()
	for i, conn := range conns {
		b := make([]byte, 64)
		if _, err := conn.Read(b); err != nil {
			t.Errorf("connection %d was dropped by a stop: %v", i, err)
		}
		_ = conn.Close()
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if h.Alive() {
		t.Error("stop returned before the process was gone")
	}
	if st := w.must("status"); !strings.HasPrefix(st, "gone 1 0") {
		t.Errorf("status is %q", st)
	}
}

// TestStopStart: R24. Stop and start, again and again; with FASTBIND_LONG=1 a
// thousand times.
func TestStopStart(t *testing.T) {
	w := newWorld(t)
	loops := 100
	if os.Getenv("FASTBIND_LONG") == "1" {
		loops = 1000
	}
	for range loops {
		w.dial()
		w.must("stop")
	}
	if w.execs() != loops {
		t.Errorf("%d execs for %d loops", w.execs(), loops)
	}
	if n := len(w.generations("t")); n > 2 {
		t.Errorf("%d generations are left on disk", n)
	}
}

// TestNoZombies: a launcher that lives long reaps the daemons it launched.
func TestNoZombies(t *testing.T) {
	w := newWorld(t)
	c := w.startClient("dial", "-linger")
	if line := c.line(); !strings.HasPrefix(line, "ok") {
		t.Fatal(line)
	}
	pid := w.living("t")[0].Record.PID
	w.kill9("t")
	w.eventually("the dead daemon is reaped", func() bool {
		_, err := proc.Of(pid)
		return err != nil
	})
	r := w.readRecord("t")
	w.eventually("its end is on record", func() bool { r = w.readRecord("t"); return r.Failure != nil })
	if r.Failure.Signal != "killed" || r.Failure.Stage != "serve" {
		t.Errorf("its end is recorded as %+v", r.Failure)
	}
	if out, err := c.finish(); err != nil {
		t.Error(err, out)
	}
}

// TestSurvivesItsExecutable: R17. The executable is deleted, then replaced, and
// the tool that still runs launches its own daemon all the same.
func TestSurvivesItsExecutable(t *testing.T) {
	w := newWorld(t)
	exe := filepath.Join(w.dir, "tool")
	b, err := os.ReadFile(filepath.Join(w.bin, "testprog"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("testprog", "dial", "-gate", "-name=u")
	cmd.Path = exe
	c := w.startCommand(cmd)
	if err := os.Remove(exe); err != nil {
		t.Fatal(err)
	}
	if out, err := c.finish(); err != nil || !strings.HasPrefix(out, "ok ") {
		t.Errorf("launching from a deleted executable: %v: %s", err, out)
	}
}

// TestEnvironmentPolicies: R18. Ignore, coexist and refuse.
func TestEnvironmentPolicies(t *testing.T) {
	w := newWorld(t)
	base := w.env
	with := func(v string) { w.env = append(base[:len(base):len(base)], "FLAVOUR="+v) }
	flags := func(policy string) []string {
		return []string{"-name=" + policy, "-env=FLAVOUR", "-env-policy=" + policy}
	}
	with("a")
	ignored, coexisting, refusing := w.dial(flags("ignore")...), w.dial(flags("coexist")...), w.dial(flags("refuse")...)
	if again := w.dial(flags("refuse")...); again != refusing {
		t.Error("the same environment was refused")
	}
	with("b")
	if pid := w.dial(flags("ignore")...); pid != ignored {
		t.Error("policy ignore launched another daemon")
	}
	if pid := w.dial(flags("coexist")...); pid == coexisting {
		t.Error("policy coexist shared a daemon")
	}
	out, err := w.run(append([]string{"dial"}, flags("refuse")...)...)
	if err == nil || !strings.Contains(out, "refused=true") || !strings.Contains(out, "env FLAVOUR") {
		t.Errorf("policy refuse: %v: %s", err, out)
	}
	with("a")
	if pid := w.dial(flags("coexist")...); pid != coexisting {
		t.Error("policy coexist forgot its daemon")
	}
}

// TestLogIsBounded: a daemon that writes much keeps two files of bounded size,
// and the last of what it wrote.
func TestLogIsBounded(t *testing.T) {
	w := newWorld(t)
	w.dial()
	conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log := filepath.Join(w.root, ".state", "default", "t.log")
	for range 4 {
		if _, err := io.WriteString(conn, "chatter\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		// Between two looks a fast writer can write a burst of one request.
		const burst = 40_000 * 80
		w.eventually("the log is moved aside", func() bool {
			now, err := os.Stat(log)
			old, oldErr := os.Stat(log + ".1")
			return err == nil && oldErr == nil && now.Size() <= 1<<20 && old.Size() <= 1<<20+burst
		})
	}
	w.dial("-name=t")
	if _, err := io.WriteString(conn, "1\n"); err != nil {
		t.Fatal(err)
	}
	last, _ := os.ReadFile(log)
	before, _ := os.ReadFile(log + ".1")
	if !strings.Contains(string(before)+string(last), "chatter 039999") {
		t.Error("the last line is lost")
	}
}

// TestNextDialAfterKill: R9, I4. Once the kernel has released the descriptors of
// a killed daemon, the next dial works, also while its launcher is about to
// write down how it died.
func TestNextDialAfterKill(t *testing.T) {
	w := newWorld(t)
	sock := filepath.Join(w.service("t"), "sock")
	for range 50 {
		c := w.startClient("dial", "-linger")
		if line := c.line(); !strings.HasPrefix(line, "ok") {
			t.Fatal(line)
		}
		h, err := w.living("t")[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.eventually("its descriptors are released", func() bool {
			conn, err := net.Dial("unix", sock)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
		w.dial()
		w.await(h)
		w.kill9("t")
		_ = h.Close()
		if out, err := c.finish(); err != nil {
			t.Fatal(out, err)
		}
	}
}
