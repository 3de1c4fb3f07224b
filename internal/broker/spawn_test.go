//go:build linux

package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// notifier is a service that notifyd serves.
func (w *world) notifier(name string, words ...string) Service {
	s := w.service(definition.Definition{Service: name, Command: append([]string{w.bin + "/notifyd"}, words...), Foreign: true})
	s.Sign = probe.Sign{Kind: probe.Notify}
	return s
}

func (w *world) view(name string) View {
	w.t.Helper()
	list, err := w.broker.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range list {
		if v.Name == name {
			return v
		}
	}
	w.t.Fatalf("no %s in %v", name, list)
	return View{}
}

// until waits for a view.
func (w *world) until(name, what string, f func(View) bool) View {
	w.t.Helper()
	var v View
	w.eventually(name+": "+what, func() bool {
		v = w.view(name)
		return f(v)
	})
	return v
}

func (w *world) request(name string, verb supervise.Verb) supervise.Answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	a, err := w.broker.Request(ctx, name, verb)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// touch makes a file that a daemon waits for.
func (w *world) touch(path string) {
	w.t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// shown returns what a daemon has shown of its environment.
func (w *world) shown(path string) map[string]string {
	w.t.Helper()
	var text []byte
	w.eventually("it has shown "+path, func() (ok bool) {
		b, err := os.ReadFile(path)
		text = b
		return err == nil
	})
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		env[k] = v
	}
	return env
}

func (w *world) record(name string, v View) record.Record {
	w.t.Helper()
	for _, e := range w.living(name) {
		if e.Number == v.Number {
			return e.Record
		}
	}
	w.t.Fatalf("%s: generation %d does not live", name, v.Number)
	return record.Record{}
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("no process, %d: it is not known yet", pid) // 0 would be ourselves and our kin
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// halt stops a process, and returns when none of its threads runs any more.
func (w *world) halt(pid int) {
	w.t.Helper()
	kill(w.t, pid, syscall.SIGSTOP)
	w.eventually("it is stopped", func() bool {
		tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
		if err != nil || len(tasks) == 0 {
			w.t.Fatalf("threads of %d: %v, %v", pid, tasks, err)
		}
		for _, path := range tasks {
			text, err := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(text), ") ")
			if err != nil || !strings.HasPrefix(rest, "T") {
				return false
			}
		}
		return true
	})
}

// TestNotified: a daemon is ready when it says so, and what it says of itself is seen.
func TestNotified(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "show="+w.dir+"/env", "say=STATUS=it loads", "wait="+w.dir+"/go", "say=READY=1;STATUS=it serves",
		"wait="+w.dir+"/leave", "say=STOPPING=1", "deaf")
	s.Policy.Watchdog = time.Hour
	w.run(s)
	w.must("n")
	v := w.until("n", "it says that it loads", func(v View) bool { return v.Status == "it loads" })
	if v.State != supervise.Starting || !v.ReadyAt.IsZero() || v.Phase != record.Bound || v.Number != 1 {
		t.Errorf("before READY=1: %+v", v)
	}
	env := w.shown(w.dir + "/env")
	if pid := strconv.Itoa(v.PID); env["SELF"] != pid || env["LISTEN_PID"] != pid || env["WATCHDOG_PID"] != pid ||
		env["WATCHDOG_USEC"] != "3600000000" || env["NOTIFY_SOCKET"] == "" {
		t.Errorf("process %d has %v", v.PID, env)
	}
	w.touch(w.dir + "/go")
	if a := w.request("n", supervise.VerbReady); !a.Done {
		t.Error(a.Reason)
	}
	v = w.until("n", "it says that it serves", func(v View) bool { return v.Status == "it serves" })
	if v.State != supervise.Ready || v.Phase != record.Ready || v.Status != "it serves" || v.ReadyAt.IsZero() || v.Memory <= 0 {
		t.Errorf("after READY=1: %+v", v)
	}
	m, err := w.broker.Metrics(t.Context())
	if err != nil || len(m.Services) != 1 || m.Services[0].Launches != 1 || m.Services[0].Launch.Count() != 1 || m.Services[0].Ready.Count() != 1 {
		t.Errorf("%+v, %v", m, err)
	}
	w.touch(w.dir + "/leave")
	w.until("n", "it leaves", func(v View) bool { return v.State == supervise.Draining && v.Phase == record.Draining })
}

// TestNoNotifySocket: a daemon whose definition says nothing of it gets no variable
// that it could take for systemd's.
func TestNoNotifySocket(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "show="+w.dir+"/env")
	s.Sign = probe.Sign{}
	w.run(s)
	w.must("n")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if v, ok := w.shown(w.dir + "/env")[name]; ok {
			t.Errorf("%s is %q", name, v)
		}
	}
	w.until("n", "it is seen to accept", func(v View) bool { return v.State == supervise.Ready })
}

// TestNotReadyInTime: ready_within, of a daemon that serves and never says so.
func TestNotReadyInTime(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "say=STATUS=it loads for ever")
	s.Policy.ReadyWithin = 300 * time.Millisecond
	w.run(s)
	a := w.request("n", supervise.VerbReady)
	if a.Done {
		t.Fatal("it is ready, they say")
	}
	v := w.until("n", "it has failed", func(v View) bool { return v.LastFailure != "" })
	if !strings.Contains(v.LastFailure, string(supervise.CauseUnready)) {
		t.Errorf("it failed of %q", v.LastFailure)
	}
	m, _ := w.broker.Metrics(t.Context())
	if m.Services[0].Failures[launch.StageLoad] == 0 {
		t.Errorf("failures by stage: %v", m.Services[0].Failures)
	}
}

// TestWatchdog: pulses keep a daemon alive, and without it is replaced.
func TestWatchdog(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "say=READY=1", "pulse=40,25ms", "say=STATUS=it has no pulse", "deaf")
	s.Policy.Watchdog = 500 * time.Millisecond // so the pulses last for two of these
	s.Policy.Restart = supervise.RestartOnFailure
	w.run(s)
	w.must("n")
	v := w.until("n", "it has no pulse", func(v View) bool { return v.Status == "it has no pulse" })
	if v.Number != 1 {
		t.Errorf("while its pulse was there it was replaced by generation %d", v.Number)
	}
	v = w.until("n", "it is replaced", func(v View) bool { return v.Number == 2 })
	if !strings.Contains(v.LastFailure, string(supervise.CauseWatchdog)) || v.Restarts != 1 {
		t.Errorf("%d restarts, the failure is %q", v.Restarts, v.LastFailure)
	}
}

// TestDespair: WATCHDOG=trigger is a daemon's own word that it hangs.
func TestDespair(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "say=READY=1", "wait="+w.dir+"/go", "say=WATCHDOG=trigger", "deaf")
	w.run(s)
	w.must("n")
	w.until("n", "it serves", func(v View) bool { return v.State == supervise.Ready })
	w.touch(w.dir + "/go")
	w.until("n", "it is killed", func(v View) bool { return strings.Contains(v.LastFailure, string(supervise.CauseDespair)) })
}

// TestMainProcess: a daemon that forks and leaves goes on as its child, of whose end
// it is told.
func TestMainProcess(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "fork", "serve", "say=READY=1;STATUS=the child")
	s.Access = notify.AccessAll
	w.run(s)
	if a := w.request("n", supervise.VerbReady); !a.Done {
		t.Fatal(a.Reason)
	}
	v := w.view("n")
	if pid := w.must("n"); pid != strconv.Itoa(v.PID) || v.Number != 1 || v.Status != "the child" {
		t.Errorf("process %s answers; %+v", pid, v)
	}
	if r := w.record("n", v); r.PID != v.PID || r.Phase != record.Ready || r.Failure != nil {
		t.Errorf("on record is process %d, %s, %+v", r.PID, r.Phase, r.Failure)
	}
	kill(t, v.PID, syscall.SIGKILL)
	v = w.until("n", "its end is seen", func(v View) bool { return v.State == supervise.Held })
	// It is the first process's child by then, which tells when it reaps it.
	if f := v.LastFailure; !strings.Contains(f, "signal: killed") && !strings.Contains(f, "unknown") {
		t.Errorf("it failed of %q", f)
	}
	if again := w.must("n"); again == strconv.Itoa(v.PID) {
		t.Error("the dead answers")
	}
	w.until("n", "it is known who goes on", func(v View) bool { return v.State == supervise.Ready })
}

// TestOwnWords: why a daemon fails, in its own words, for those who wait.
func TestOwnWords(t *testing.T) {
	w := newWorld(t)
	w.run(w.notifier("n", "say=ERRNO=28;STATUS=no room", "exit=5"))
	a := w.request("n", supervise.VerbReady)
	if a.Done || !strings.Contains(a.Reason, "no space left on device") || !strings.Contains(a.Reason, "status 5") {
		t.Errorf("done %v: %q", a.Done, a.Reason)
	}
}

// TestOurOwnConnection: who looks whether a daemon accepts is no client that the next
// one is launched for.
func TestOurOwnConnection(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "wait="+w.dir+"/go", "exit=3")
	s.Sign = probe.Sign{}
	w.run(s)
	if a := w.request("n", supervise.VerbLaunch); !a.Done {
		t.Fatal(a.Reason)
	}
	w.until("n", "the broker waits in its queue", func(v View) bool { return v.Waiting == 1 })
	w.touch(w.dir + "/go")
	v := w.until("n", "its end is seen", func(v View) bool { return v.State == supervise.Held })
	if v.Waiting != 0 {
		t.Errorf("%d wait", v.Waiting)
	}
	m, _ := w.broker.Metrics(t.Context())
	if n := m.Services[0].Launches; n != 1 {
		t.Errorf("%d launches", n)
	}
}

// TestHung: a daemon that does not accept is replaced, and who waits is served by the
// next one; one that answers at its control endpoint is let be (R25, R26).
func TestHung(t *testing.T) {
	w := newWorld(t)
	services := []Service{w.foreign("f"), w.backend("b")}
	for i := range services {
		services[i].Definition.HangAfter, services[i].Policy.HangAfter = 400*time.Millisecond, 400*time.Millisecond
	}
	w.run(services...)
	for _, name := range []string{"f", "b"} {
		w.must(name)
		v := w.until(name, "it is ready", func(v View) bool { return v.State == supervise.Ready })
		w.halt(v.PID)
		w.must(name) // waits for the next one
		next := w.until(name, "the next one is ready", func(v View) bool { return v.State == supervise.Ready })
		if next.Number == v.Number || !strings.Contains(next.LastFailure, string(supervise.CauseUnaccepted)) || next.Restarts != 1 {
			t.Errorf("%s: generation %d after %d, of %q, %d restarts", name, next.Number, v.Number, next.LastFailure, next.Restarts)
		}
	}
}

// TestBusy: R25. A backend that accepts nobody and answers at its control endpoint is
// busy.
func TestBusy(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b", "-serial")
	s.Definition.HangAfter, s.Policy.HangAfter = 200*time.Millisecond, 200*time.Millisecond
	w.run(s)
	first := w.must("b")
	w.until("b", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	hold, err := net.Dial("unix", w.sock("b")) // serves this one alone
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	replies := make(chan string)
	go func() {
		reply, err := w.ask("b")
		replies <- reply + errText(err)
	}()
	w.until("b", "somebody waits", func(v View) bool { return v.Waiting > 0 })
	// Until a hang would have been judged ten times over.
	var number uint64
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		number = w.view("b").Number
	}
	_ = hold.Close()
	if reply := <-replies; reply != first || number != 1 {
		t.Errorf("generation %d says %q, the first one %q", number, reply, first)
	}
}

// TestLeft: a backend that drains by itself has left its queue to the next one, which
// is launched beside it for the first who comes.
func TestLeft(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	first := w.must("b")
	v := w.until("b", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	kept, err := net.Dial("unix", w.sock("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	ask := func() {
		t.Helper()
		var b [64]byte
		_ = kept.SetDeadline(time.Now().Add(deadline))
		_, werr := kept.Write([]byte("1\n"))
		if n, err := kept.Read(b[:]); err != nil || werr != nil || n == 0 {
			t.Errorf("who was accepted is not served: %v, %v", werr, err)
		}
	}
	ask()
	kill(t, v.PID, syscall.SIGTERM)
	w.eventually("it drains", func() bool {
		for _, e := range w.living("b") {
			if e.Number == v.Number && e.Record.Drained {
				return true
			}
		}
		return false
	})
	if next := w.must("b"); next == first {
		t.Errorf("the one that drains has answered: %q", next)
	}
	ask()
	_ = kept.Close()
	w.eventually("it has ended", func() bool { l := w.living("b"); return len(l) == 1 && l[0].Number == v.Number+1 })
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestHungBehindTheGone: the queue of a hung daemon in which the clients at the front
// have left tells nothing by itself: of those one cannot be told from another.
func TestHungBehindTheGone(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f")
	s.Definition.HangAfter, s.Policy.HangAfter = 400*time.Millisecond, 400*time.Millisecond
	w.run(s)
	w.must("f")
	v := w.until("f", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	w.halt(v.PID)
	for range 3 {
		c, err := net.Dial("unix", w.sock("f"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	w.until("f", "it is replaced", func(n View) bool { return n.Number != v.Number && n.State == supervise.Ready })
}

// TestNothingToLookAt: while nobody waits there is no timer, whatever runs.
func TestNothingToLookAt(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f")
	s.Policy.HangAfter = 100 * time.Millisecond
	w.run(s, w.foreign("other"))
	w.must("f")
	w.until("f", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	w.eventually("no look is due", func() bool {
		var due time.Duration
		var armed_ bool
		if err := w.broker.call(t.Context(), func() {
			due, armed_ = earlier(w.broker.looks.at, w.broker.schedule.Next()), w.broker.names["f"].queue == armed
		}); err != nil {
			t.Fatal(err)
		}
		return due == 0 && armed_
	})
}

// TestFound: the next broker hears a foreign daemon that it has found, knows that it
// is ready, and sees it die.
func TestFound(t *testing.T) {
	w := newWorld(t)
	s := w.notifier("n", "serve", "say=READY=1;STATUS=the first", "wait="+w.dir+"/go", "say=STATUS=the second", "deaf")
	w.run(s)
	pid := w.must("n")
	w.until("n", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	w.stop()
	w.run(s)
	v := w.until("n", "it is found", func(v View) bool { return v.State == supervise.Following })
	if v.Phase != record.Ready || strconv.Itoa(v.PID) != pid {
		t.Errorf("%+v, process %s", v, pid)
	}
	w.touch(w.dir + "/go")
	w.until("n", "it is heard", func(v View) bool { return v.Status == "the second" })
	kill(t, v.PID, syscall.SIGKILL)
	w.until("n", "the endpoint is bound again", func(v View) bool { return v.State == supervise.Held && v.Holding })
	if again := w.must("n"); again == pid {
		t.Error("the dead answers")
	}
}

// TestLimits: what is wanted is in force, or it is said why not; on record, and of one
// that was found.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	f := w.notifier("f", "serve", "show="+w.dir+"/f", "say=READY=1")
	f.Limits = limit.Wanted{OpenFiles: 96, Memory: 1 << 30, Tasks: 100}
	b := w.backend("b")
	b.Limits = limit.Wanted{OpenFiles: 300}
	w.run(f, b)
	w.must("f")
	w.must("b")
	check := func() {
		t.Helper()
		v := w.until("f", "it is ready", func(v View) bool { return v.Phase == record.Ready })
		if r := v.Limits.Of(limit.OpenFiles); r.Force != limit.InForce || r.Actual != 96 {
			t.Errorf("%v", r)
		}
		for _, k := range []limit.Kind{limit.Memory, limit.Tasks} {
			if r := v.Limits.Of(k); r.Wanted == 0 || r.Force != limit.InForce && r.Reason == "" {
				t.Errorf("%s: %+v", k, r)
			}
		}
		if rec := w.record("f", v); len(rec.Limits) != 3 || !strings.HasPrefix(rec.Limits[2], "open_files 96: in force") {
			t.Errorf("on record: %q", rec.Limits)
		}
		t.Log(strings.ReplaceAll(v.Limits.String(), "\n", "; "))
	}
	check()
	if n := w.shown(w.dir + "/f")["FILES"]; n != "96" {
		t.Errorf("it may open %s files", n)
	}
	v := w.until("b", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	text, err := os.ReadFile("/proc/" + strconv.Itoa(v.PID) + "/limits")
	if err != nil || !strings.Contains(string(text), "300                  files") {
		t.Errorf("%v, %s", err, text)
	}
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(v.PID) + "/environ")
	if err != nil || strings.Contains("\x00"+string(environ), "\x00PWD=") {
		t.Errorf("%v, the environment is %q", err, environ)
	}
	if a := w.request("b", supervise.VerbRestart); !a.Done {
		t.Fatal(a.Reason)
	}
	next := w.until("b", "its successor serves", func(n View) bool { return n.Number != v.Number && n.State == supervise.Ready })
	if r := next.Limits.Of(limit.OpenFiles); r.Force != limit.InForce || r.Actual != 300 {
		t.Errorf("of the successor: %v", r)
	}
	first := w.must("b")
	w.stop()
	w.run(f, b)
	check()
	if again := w.must("b"); again != first {
		t.Errorf("%q, then %q", first, again)
	}
}

// TestMemoryLimit: R30. A daemon that reaches its limit ends, with a reason, and
// nobody else does.
func TestMemoryLimit(t *testing.T) {
	w := newWorld(t)
	f := w.notifier("f", "serve", "say=READY=1", "wait="+w.dir+"/go", "hog")
	f.Limits = limit.Wanted{Memory: 256 << 20}
	w.run(f, w.backend("b"))
	first := w.must("b")
	w.must("f")
	v := w.until("f", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	by := v.Limits.Of(limit.Memory)
	t.Log(by)
	if by.Force == limit.Not {
		t.Fatalf("there is no limit at all: %v", by)
	}
	w.touch(w.dir + "/go")
	v = w.until("f", "it has died", func(v View) bool { return v.State == supervise.Held })
	switch t.Log(v.LastFailure); by.By {
	case limit.Rlimit:
		// It kills nobody: what the daemon does without memory is its own.
		if !strings.Contains(v.LastFailure, "status 2") {
			t.Error("it is not what the Go runtime does without memory")
		}
	default:
		if !strings.Contains(v.LastFailure, "memory limit") {
			t.Error("it does not say so")
		}
		entries, _ := launch.Generations(filepath.Dir(w.sock("f")))
		for _, e := range entries {
			if e.Number == 1 && endOf(e.Record) != supervise.EndMemory {
				t.Errorf("its end is %v: %+v", endOf(e.Record), e.Record.Failure)
			}
		}
	}
	if again := w.must("b"); again != first {
		t.Errorf("the other one has said %q, and says %q", first, again)
	}
	if pid := w.must("f"); pid == strconv.Itoa(v.PID) {
		t.Error("the dead answers")
	}
}

// TestPlace: R21. A daemon with a cgroup of its own is put there before its first
// instruction; what it leaves behind ends with it, and nothing stays of the cgroup.
func TestPlace(t *testing.T) {
	w := newWorld(t)
	f := w.notifier("f", "leave", "serve", "say=READY=1")
	b := w.backend("b")
	for _, s := range []*Service{&f, &b} {
		s.Limits, s.Policy.StopWithin = limit.Wanted{Own: true}, 300*time.Millisecond
	}
	w.run(f, b)
	if why := w.broker.available(t.Context(), "default").Cgroup.Why; why != "" {
		t.Skip("no cgroup can be made here: " + why)
	}
	for _, name := range []string{"f", "b"} {
		w.must(name)
		v := w.until(name, "it is ready", func(v View) bool { return v.State == supervise.Ready })
		place, err := limit.ParsePlace(w.record(name, v).Place)
		in, werr := limit.Where(v.PID)
		if err != nil || werr != nil || place.By == limit.None || in != place.Cgroup {
			t.Fatalf("%s is in %q, and on record is %+v; %v, %v", name, in, place, err, werr)
		}
		if r := v.Limits.Of(limit.Own); r.Force == limit.Not && r.Reason == "" {
			t.Errorf("%s: %+v", name, r)
		}
		dir := ""
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if _, err := os.Stat(mount + place.Cgroup + "/cgroup.procs"); err == nil {
				dir = mount + place.Cgroup
			}
		}
		if dir == "" {
			t.Fatalf("%s is not found", place.Cgroup)
		}
		kill(t, v.PID, syscall.SIGKILL)
		w.eventually(name+": its cgroup is gone", func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, os.ErrNotExist)
		})
	}
}

// TestSubscribe: who reads the events gets them in order, and a slow one is told how
// many it has lost.
func TestSubscribe(t *testing.T) {
	w := newWorld(t)
	w.run(w.foreign("f"))
	w.until("f", "it is held", func(v View) bool { return v.State == supervise.Held }) // and that is noted
	sub, err := w.broker.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	w.must("f")
	v := w.until("f", "it is ready", func(v View) bool { return v.State == supervise.Ready })
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	n, err := sub.Next(ctx)
	if err != nil || n.Kind != "launched" || n.Service != "f" || n.PID != v.PID || n.Time.IsZero() || n.Lost != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	kill(t, v.PID, syscall.SIGKILL)
	if n, err = sub.Next(ctx); err != nil || n.Kind != "failed" {
		t.Errorf("%+v, %v", n, err)
	}

	for i := range maxUnread + 7 {
		w.broker.feed.tell(Noted{Event: n.Event, Time: time.Unix(int64(i), 0)})
	}
	if n, err = sub.Next(ctx); err != nil || n.Lost != 7 || n.Time.Unix() != 7 {
		t.Errorf("lost %d, the next is %d, %v", n.Lost, n.Time.Unix(), err)
	}
	if n, err = sub.Next(ctx); err != nil || n.Lost != 0 || n.Time.Unix() != 8 {
		t.Errorf("lost %d, the next is %d, %v", n.Lost, n.Time.Unix(), err)
	}

	for range MaxSubscriptions - 1 {
		if _, err := w.broker.Subscribe(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.broker.Subscribe(); !errors.Is(err, ErrSubscriptions) {
		t.Errorf("one too many: %v", err)
	}
	sub.Close()
	if _, err := w.broker.Subscribe(); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	w.stop()
	for err = nil; err == nil; _, err = sub.Next(ctx) {
	}
	if !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	if _, err := w.broker.Subscribe(); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	if _, err := w.broker.Metrics(ctx); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

// TestHistogram: each duration is in the bucket whose bound is the least that is not
// below it.
func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, Buckets[0], Buckets[0] + 1, Buckets[len(Buckets)-1], Buckets[len(Buckets)-1] + 1, time.Hour} {
		h.observe(d)
	}
	if h.Counts[0] != 2 || h.Counts[1] != 1 || h.Counts[len(Buckets)-1] != 1 || h.Counts[len(Buckets)] != 2 || h.Count() != 6 {
		t.Errorf("%v", h)
	}
}

// TestFoundTooEarly: a successor can serve before the broker that launches it has
// admitted it. Whoever finds it waits for that.
func TestFoundTooEarly(t *testing.T) {
	var b Broker
	a := b.newAid(t.Context(), Service{}, nil)
	a.dir = "d"
	b.aids.put(a.dir, a)
	seen := make(chan limit.Report)
	go func() {
		r := &run{entry: launch.Entry{Dir: "d"}}
		b.assist(t.Context(), Service{}, nil, r, nil)
		seen <- r.aid.report
	}()
	select {
	case <-seen:
		t.Error("it is used while it is made")
	case <-time.After(20 * time.Millisecond):
	}
	a.report = limit.Report{{Kind: limit.Memory}}
	a.known()
	if report := <-seen; len(report) != 1 {
		t.Errorf("its limits are %v", report)
	}
}
