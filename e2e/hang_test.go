//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// hangs returns the service t, to be used in this very process: its connections
// are then watched by the race detector too.
func (w *world) hangs(after time.Duration, policy fastbind.HangPolicy, args ...string) fastbind.Service {
	w.t.Helper()
	w.t.Setenv("FASTBIND_RUNTIME_DIR", w.root)
	return fastbind.Service{
		Name: "t", Command: append([]string{filepath.Join(w.bin, "testprog"), "daemon"}, args...),
		Env: []string{"TESTPROG_EXECS=" + w.execsFile()}, HangAfter: after, OnHang: policy,
	}
}

// connect dials in this process.
func (w *world) connect(svc fastbind.Service) *fastbind.Conn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	conn, err := fastbind.Dial(ctx, svc)
	if err != nil {
		w.t.Fatalf("dial: %v\n%s", err, w.logs())
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say writes a line and returns what came back.
func say(conn *fastbind.Conn, line string) (string, error) {
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// serving returns the pid of who answers a new connection.
func (w *world) serving(svc fastbind.Service) int {
	w.t.Helper()
	conn := w.connect(svc)
	defer conn.Close()
	reply, err := say(conn, "0")
	if err != nil {
		w.t.Fatalf("no answer: %v\n%s", err, w.logs())
	}
	pid, err := strconv.Atoi(strings.Fields(reply)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

// stopped stops the only living generation, as ^Z does, and returns its process.
func (w *world) stopped(name string) *proc.Handle {
	w.t.Helper()
	alive := w.living(name)
	if len(alive) != 1 {
		w.t.Fatalf("%d living generations of %s, want 1", len(alive), name)
	}
	h, err := alive[0].Open()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = h.Close() })
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("it is stopped", func() bool {
		st, err := h.State()
		if errors.Is(err, errors.ErrUnsupported) {
			w.t.Skip("this system does not tell whether a process is stopped")
		}
		return st.Stopped
	})
	return h
}

// events are the lines of a kind in a service's journal.
func (w *world) events(name, kind string) []map[string]any {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.root, ".state", "default", name+".journal"))
	if err != nil {
		w.t.Fatal(err)
	}
	var list []map[string]any
	for line := range strings.Lines(string(b)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		if e["event"] == kind {
			list = append(list, e)
		}
	}
	return list
}

func (w *world) log(name string) string {
	return read(w.t, filepath.Join(w.root, ".state", "default", name+".log"))
}

// hung checks the error of a connection to a hung daemon.
func (w *world) hung(err error, stage, phase string) *fastbind.Error {
	w.t.Helper()
	var fe *fastbind.Error
	if !errors.As(err, &fe) || !errors.Is(err, fastbind.ErrHung) || errors.Is(err, fastbind.ErrLaunchFailed) {
		w.t.Fatalf("the connection says %v, not that its daemon is hung\n%s", err, w.logs())
	}
	if fe.Stage != stage || fe.Generation == 0 || fe.Log == "" || len(fe.LogTail) == 0 {
		w.t.Errorf("the error is %+v", fe)
	}
	if text := fe.Error(); !strings.Contains(text, "last phase "+phase) || !strings.Contains(text, "nor from its control endpoint") {
		w.t.Errorf("the error says %q", text)
	}
	return fe
}

// TestHang: R26. A daemon that is stopped, before or after a client connects:
// who waits is told, the evidence is in the log, and by policy it is replaced or
// left as it is.
func TestHang(t *testing.T) {
	for _, when := range []string{"before connecting", "after connecting", "after writing"} {
		for _, policy := range []fastbind.HangPolicy{fastbind.HangReplace, fastbind.HangReport} {
			t.Run(when+"/"+string(policy), func(t *testing.T) {
				w := newWorld(t)
				svc := w.hangs(200*time.Millisecond, policy)
				old := w.serving(svc)
				var h *proc.Handle
				if when == "before connecting" {
					h = w.stopped("t")
				}
				conn := w.connect(svc)
				if when == "after connecting" {
					h = w.stopped("t")
				}
				// A handler that sleeps is stopped before it has answered.
				if _, err := io.WriteString(conn, "-60000\n"); err != nil {
					t.Fatal(err)
				}
				if when == "after writing" {
					h = w.stopped("t")
				}
				_, err := conn.Read(make([]byte, 64))
				fe := w.hung(err, "serve", "ready")
				if fe.Generation != 1 || !strings.Contains(fe.Error(), fmt.Sprintf("process %d is stopped", old)) {
					t.Errorf("the error says %q of generation %d", fe, fe.Generation)
				}
				if _, again := conn.Write([]byte("x")); !errors.Is(again, fastbind.ErrHung) {
					t.Errorf("a write afterwards says %v", again)
				}
				log := w.log("t")
				for _, want := range []string{"generation 1 hung: no answer for", "State T (stopped)", "wchan", "thread " + itoa(old)} {
					if !strings.Contains(log, want) {
						t.Errorf("the log lacks %q:\n%s", want, log)
					}
				}
				events := w.events("t", "hung")
				if len(events) != 1 || events[0]["pid"] != float64(old) || events[0]["phase"] != "ready" {
					t.Errorf("the journal has %v", events)
				}
				if policy == fastbind.HangReport {
					w.reported(svc, h, old)
				} else {
					w.replaced(svc, h, old)
				}
			})
		}
	}
}

// replaced checks that the stopped process is dead and that another one, which
// was launched already, serves.
func (w *world) replaced(svc fastbind.Service, h *proc.Handle, old int) {
	w.t.Helper()
	w.await(h)
	w.eventually("the next generation is launched without a dial", func() bool { return w.execs() == 2 })
	if pid := w.serving(svc); pid == old || w.execs() != 2 {
		w.t.Errorf("process %d serves after process %d, %d execs", pid, old, w.execs())
	}
	w.oneOwner("t", false)
	for _, e := range w.generations("t") {
		if f := e.Record.Failure; e.Number == 1 && (f == nil || f.Kind != launch.KindHung || e.Record.Phase != record.Failed ||
			f.Signal != "killed" || !strings.HasPrefix(f.Cause, "hung: ")) {
			w.t.Errorf("the record of the killed generation is in phase %s with failure %+v", e.Record.Phase, f)
		}
	}
	out, err := w.output(w.command("fastbind", "why", "t"))
	if err != nil || !strings.Contains(out, "was hung: no answer for") || !strings.Contains(out, "killed, to be replaced") ||
		!strings.Contains(out, "last failure: generation 1 hung: no answer") {
		w.t.Errorf("why says %v: %s", err, out)
	}
}

// reported checks that nothing was done to the process, that a second client is
// told as well and the evidence is not written again, and that it goes on.
func (w *world) reported(svc fastbind.Service, h *proc.Handle, old int) {
	w.t.Helper()
	_, err := say(w.connect(svc), "0")
	if !errors.Is(err, fastbind.ErrHung) {
		w.t.Errorf("a second client is told %v", err)
	}
	if n := len(w.events("t", "hung")); n != 1 || w.execs() != 1 || !h.Alive() {
		w.t.Errorf("%d reports within a minute, %d execs, alive %v", n, w.execs(), h.Alive())
	}
	if st, _ := h.State(); !st.Stopped {
		w.t.Error("it was resumed")
	}
	if err := h.Signal(syscall.SIGCONT); err != nil {
		w.t.Fatal(err)
	}
	if pid := w.serving(svc); pid != old {
		w.t.Errorf("process %d serves, not the resumed %d", pid, old)
	}
}

// TestHangAfterFirstReply: from the first byte on a connection's errors are its
// own, and a new dial of the stopped daemon is watched like any other.
func TestHangAfterFirstReply(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(200*time.Millisecond, fastbind.HangReplace)
	conn := w.connect(svc)
	if _, err := say(conn, "0"); err != nil {
		t.Fatal(err)
	}
	h := w.stopped("t")
	_ = conn.SetDeadline(time.Now().Add(700 * time.Millisecond))
	var ne net.Error
	if _, err := say(conn, "1"); !errors.As(err, &ne) || !ne.Timeout() || errors.Is(err, fastbind.ErrHung) {
		t.Errorf("a connection that had its reply says %v", err)
	}
	if !h.Alive() || len(w.events("t", "hung")) != 0 {
		t.Error("a connection that had its reply was watched")
	}
	_, err := say(w.connect(svc), "0")
	w.hung(err, "serve", "ready")
	w.replaced(svc, h, h.PID())
}

// TestHangAtDeadline: R26. The caller's deadline holds, and what is known then is
// told; the replacement is warm for whoever dials next.
func TestHangAtDeadline(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(time.Hour, fastbind.HangReplace)
	old := w.serving(svc)
	h := w.stopped("t")
	conn := w.connect(svc)
	const within = 300 * time.Millisecond
	began := time.Now()
	_ = conn.SetReadDeadline(began.Add(within))
	_, err := say(conn, "0")
	took := time.Since(began)
	// 100 ms by contract; the machine may be busy.
	if took < within || took > within+5*time.Second {
		t.Errorf("a deadline of %v took %v", within, took)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, fastbind.ErrHung) {
		t.Errorf("the connection says %v", err)
	}
	w.await(h)
	w.replaced(svc, h, old)
}

// TestHangOfCommand: the same for who has no SDK: fastbind dial ends at the
// deadline, or without one after hang_after, with the exit status of a hung daemon.
func TestHangOfCommand(t *testing.T) {
	for _, c := range []struct{ start, dial []string }{
		{nil, []string{"--timeout", "300ms"}},
		{[]string{"--hang-after", "200ms"}, nil},
	} {
		w := newWorld(t)
		daemon := []string{"--foreign=false", "--env", "TESTPROG_EXECS", "--", filepath.Join(w.bin, "testprog"), "daemon"}
		start := append(append([]string{"start", "t", "--wait", "ready"}, c.start...), daemon...)
		if out, err := w.output(w.command("fastbind", start...)); err != nil {
			t.Fatal(err, out)
		}
		h := w.stopped("t")
		cmd := w.command("fastbind", append([]string{"dial", "t"}, c.dial...)...)
		in, err := cmd.StdinPipe() // that does not end
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, "0\n"); err != nil {
			t.Fatal(err)
		}
		out, err := w.output(cmd)
		if err == nil || cmd.ProcessState.ExitCode() != 8 || !strings.Contains(out, "hung: no answer for") || !strings.Contains(out, "is stopped") {
			t.Errorf("exit status %d: %s", cmd.ProcessState.ExitCode(), out)
		}
		w.await(h)
		cmd = w.command("fastbind", "dial", "t")
		cmd.Stdin = strings.NewReader("0\n")
		if out, err := w.output(cmd); err != nil || !strings.HasSuffix(out, " 2 0 none") || w.execs() != 2 {
			t.Errorf("the next dial: %v: %s, %d execs", err, out, w.execs())
		}
	}
}

// TestHangWhileLoading: a daemon that is stopped while it loads is replaced each
// time: that spends no budget and fails no dial.
func TestHangWhileLoading(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(100*time.Millisecond, fastbind.HangReplace, "-load=60s")
	for n := 1; n <= 5; n++ {
		conn := w.connect(svc)
		w.eventually("it loads", func() bool {
			alive := w.living("t")
			return len(alive) == 1 && alive[0].Record.Phase == record.Loading
		})
		h := w.stopped("t")
		_, err := say(conn, "0")
		if fe := w.hung(err, "load", "loading"); fe.Generation != uint64(n) {
			t.Errorf("generation %d hung, want %d", fe.Generation, n)
		}
		w.await(h)
		w.eventually("the next generation is launched without a dial", func() bool { return w.execs() == n+1 })
	}
}

// TestHangWhileWaiting: who waits for a loading daemon to be ready is told as well.
func TestHangWhileWaiting(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(200*time.Millisecond, fastbind.HangReplace, "-load=60s")
	failed := make(chan error, 1)
	loading := make(chan struct{})
	go func() {
		first := true
		conn, err := fastbind.Dial(t.Context(), svc, fastbind.WaitReady(func(fastbind.Progress) {
			if first {
				close(loading)
			}
			first = false
		}))
		if err == nil {
			_ = conn.Close()
		}
		failed <- err
	}()
	<-loading
	h := w.stopped("t")
	w.hung(<-failed, "load", "loading")
	w.await(h)
}

// TestHangOfWriter: a client that sends more than the kernel takes is blocked in
// Write, and is told there.
func TestHangOfWriter(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(200*time.Millisecond, fastbind.HangReplace)
	old := w.serving(svc)
	h := w.stopped("t")
	_, err := w.connect(svc).Write(make([]byte, 8<<20))
	w.hung(err, "serve", "ready")
	w.replaced(svc, h, old)
}

// TestHangOfRunningDaemon: one that runs and answers nothing is given its time,
// writes its goroutines' stacks into the log, and is replaced.
func TestHangOfRunningDaemon(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(100*time.Millisecond, fastbind.HangReplace)
	old := w.serving(svc)
	h, err := w.living("t")[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, err = say(w.connect(svc), "wedge")
	fe := w.hung(err, "serve", "ready")
	if !strings.Contains(fe.Error(), fmt.Sprintf("process %d is running", old)) {
		t.Errorf("the error says %q", fe)
	}
	w.await(h)
	log := w.log("t")
	for _, want := range []string{"generation 1 hung: no answer for", "thread " + itoa(old), "SIGQUIT", "goroutine ", "main.wedge"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if pid := w.serving(svc); pid == old || w.execs() != 2 {
		t.Errorf("process %d serves after process %d, %d execs", pid, old, w.execs())
	}
}

// TestHangIsNotBusy: R25. However long a daemon loads or works, it is never
// called hung.
func TestHangIsNotBusy(t *testing.T) {
	t.Run("loading", func(t *testing.T) {
		w := newWorld(t)
		conn := w.connect(w.hangs(50*time.Millisecond, fastbind.HangReplace, "-load=60s"))
		_ = conn.SetDeadline(time.Now().Add(1500 * time.Millisecond))
		if _, err := say(conn, "0"); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fastbind.ErrHung) {
			t.Errorf("a loading daemon: %v", err)
		}
		w.untouched()
	})
	t.Run("working", func(t *testing.T) {
		w := newWorld(t)
		if reply, err := say(w.connect(w.hangs(50*time.Millisecond, fastbind.HangReplace)), "-1500"); err != nil {
			t.Errorf("a working daemon: %v %q", err, reply)
		}
		w.untouched()
	})
	t.Run("before it adopts", func(t *testing.T) {
		w := newWorld(t)
		conn := w.connect(w.hangs(50*time.Millisecond, fastbind.HangReplace, "-hang"))
		_ = conn.SetDeadline(time.Now().Add(1500 * time.Millisecond))
		if _, err := say(conn, "0"); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fastbind.ErrHung) {
			t.Errorf("a daemon that has time to adopt: %v", err)
		}
		w.untouched()
	})
	t.Run("resumed in time", func(t *testing.T) {
		w := newWorld(t)
		svc := w.hangs(deadline, fastbind.HangReplace)
		w.serving(svc)
		h := w.stopped("t")
		conn := w.connect(svc)
		if _, err := io.WriteString(conn, "0\n"); err != nil {
			t.Fatal(err)
		}
		if err := h.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 64)); err != nil {
			t.Error(err)
		}
		w.untouched()
	})
	t.Run("foreign", func(t *testing.T) {
		w := newWorld(t)
		svc := w.hangs(50*time.Millisecond, fastbind.HangReplace)
		svc.Foreign, svc.Command = true, []string{"/bin/sh", "-c", "echo >>" + w.execsFile() + "; exec sleep 1000"}
		conn := w.connect(svc)
		_ = conn.SetDeadline(time.Now().Add(700 * time.Millisecond))
		if _, err := say(conn, "0"); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fastbind.ErrHung) {
			t.Errorf("a foreign daemon: %v", err)
		}
		w.untouched()
	})
}

// untouched checks that one daemon was launched and nobody called it hung.
func (w *world) untouched() {
	w.t.Helper()
	if n, alive := len(w.events("t", "hung")), len(w.living("t")); n != 0 || alive != 1 || w.execs() != 1 {
		w.t.Errorf("%d hang events, %d living, %d execs\n%s", n, alive, w.execs(), w.logs())
	}
}

// TestHangOfCrowd: twenty clients notice at once, in processes of their own and
// in this one: one kill, one exec.
func TestHangOfCrowd(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(500*time.Millisecond, fastbind.HangReplace)
	w.serving(svc)
	h := w.stopped("t")
	type answer struct {
		text string
		err  error
	}
	const each = 10
	answers := make(chan answer, 2*each)
	for range each {
		go func() {
			out, err := w.output(w.command("testprog", "dial", "-hang-after=500ms"))
			if strings.Contains(out, "hung=true") {
				err = fastbind.ErrHung
			}
			answers <- answer{out, err}
		}()
		conn := w.connect(svc)
		go func() {
			out, err := say(conn, "0")
			answers <- answer{out, err}
		}()
	}
	told := 0
	for range 2 * each {
		// One that comes late is served by the next generation.
		a := <-answers
		if errors.Is(a.err, fastbind.ErrHung) {
			told++
		} else if a.err != nil {
			t.Errorf("a client is told %v: %s", a.err, a.text)
		}
	}
	if told < each {
		t.Errorf("%d of %d clients were told", told, 2*each)
	}
	w.await(h)
	w.serving(svc)
	if n := len(w.events("t", "hung")); n != 1 || w.execs() != 2 {
		t.Errorf("%d kills, %d execs\n%s", n, w.execs(), w.logs())
	}
	w.oneOwner("t", false)
}

// TestHangOfHeir: R26. The successor of a daemon that was killed has its queue; if
// it hangs before it has taken over, whoever waits in the queue is told, and it is
// replaced.
func TestHangOfHeir(t *testing.T) {
	w := newWorld(t)
	svc := w.hangs(200*time.Millisecond, fastbind.HangReplace)
	w.serving(svc)
	old := w.living("t")[0]
	cmd := w.command("testprog", "dial", "-on-version=replace", "-load=600s")
	cmd.Path = filepath.Join(w.dir, "tool")
	w.upgrade(cmd.Path, 2, true)
	if out, err := w.output(cmd); err != nil {
		t.Fatal(out, err)
	}
	next := w.loadingSuccessor()
	h, err := next.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.killEntry(old)
	// Later, its end would be that of a dial that had begun by then.
	w.eventually("the end of the old one is on record", func() bool {
		r, err := record.Read(filepath.Join(old.Dir, record.FileName))
		return err == nil && r.Failure != nil
	})
	conn := w.connect(svc)
	if reply, err := say(conn, "0"); !errors.Is(err, fastbind.ErrHung) {
		t.Errorf("who waits in the queue got %q, %v", reply, err)
	}
	w.await(h)
	if pid := w.serving(svc); pid == old.Record.PID || pid == next.Record.PID {
		t.Errorf("answered by %d", pid)
	}
	w.eventually("one generation lives", func() bool { return len(w.living("t")) == 1 })
}
