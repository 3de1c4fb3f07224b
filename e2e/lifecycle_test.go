//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/record"
)

// gone waits until no generation of the service lives, and returns the record of
// the newest.
func (w *world) gone(name string) record.Record {
	w.t.Helper()
	w.eventually("the daemon ends by itself", func() bool { return len(w.living(name)) == 0 })
	return w.readRecord(name)
}

// still fails if the service's daemon ends within a time in which it must not.
func (w *world) still(name string, within time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if len(w.living(name)) == 0 {
			w.t.Fatalf("the daemon has ended: %+v\n%s", w.readRecord(name), w.logs())
		}
	}
}

// TestIdleExit: R31. Without a connection for the time, it drains and ends, and
// says why; the countdown is to be seen; a connection holds it.
func TestIdleExit(t *testing.T) {
	w := newWorld(t)
	c := w.startClient("dial", "-idle=300ms", "-linger")
	if l := c.line(); !strings.HasPrefix(l, "ok") {
		t.Fatal(l)
	}
	if r := w.gone("t"); r.Phase != record.Gone || r.Ended != "idle" || r.Failure != nil {
		t.Errorf("it ended as %+v", r)
	}
	loop := w.startClient("loop", "-idle=200ms")
	if l := loop.line(); l != "looping" {
		t.Fatal(l)
	}
	w.still("t", time.Second)
	if out, err := loop.finish(); err != nil || !strings.HasPrefix(out, "ok") {
		t.Error(out, err)
	}
	w.gone("t")
	if n := w.execs(); n != 2 {
		t.Errorf("%d execs", n)
	}

	// Half an hour is told, and is not over yet.
	w.must("dial", "-idle=30m", "-name=long")
	w.eventually("the countdown is told", func() bool { // once the daemon has noticed the connection's end
		out, err := w.output(w.command("fastbind", "status", "long", "--json"))
		if err != nil {
			t.Fatal(err, out)
		}
		return strings.Contains(out, `"ends_in_seconds":17`) // 1799 or so
	})
	if out, err := w.output(w.command("fastbind", "why", "t")); err != nil || !strings.Contains(out, "gone") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestIdleExitWaitsForLoading: who loads is needed, by itself.
func TestIdleExitWaitsForLoading(t *testing.T) {
	w := newWorld(t)
	w.must("start", "-idle=50ms", "-load=1s")
	w.eventually("it is ready", func() bool { return w.readRecord("t").WasReady })
	w.gone("t")
	w.must("start", "-idle=50ms", "-load=1s", "-later")
	w.eventually("it is ready", func() bool { return w.readRecord("t").WasReady })
	w.gone("t")
}

// TestIdleCycles: R23. Dials that race the idle exit are all answered, by one
// generation after the other. With FASTBIND_LONG=1 there are 100,000.
func TestIdleCycles(t *testing.T) {
	n := 2_000
	if os.Getenv("FASTBIND_LONG") == "1" {
		n = 100_000
	}
	w := newWorld(t)
	c := w.startClient("cycles", "-idle=1ms", "-n", strconv.Itoa(n))
	fields := strings.Fields(c.line()) // "ok", dials, generations
	rest, err := c.finish()
	if err != nil || len(fields) != 3 || fields[0] != "ok" {
		t.Fatalf("%v: %q %s\n%s", err, fields, rest, w.logs())
	}
	exits, _ := strconv.Atoi(fields[2])
	if exits < n/20 || w.execs() != exits {
		t.Errorf("%d dials met %d generations, %d were executed", n, exits, w.execs())
	}
	t.Logf("%d dials, %d idle exits, no error", n, exits)
	w.gone("t")
}

// TestLeases: R29. When the last of what its life is tied to is gone, the daemon
// goes within seconds, whoever is connected.
func TestLeases(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "worktree")
	lease := func() {
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ended := func(why string) {
		t.Helper()
		began := time.Now()
		if r := w.gone("t"); r.Ended != "last lease gone" || r.Phase != record.Gone {
			t.Errorf("%s: it ended as %+v", why, r)
		}
		t.Logf("%s: ended after %v", why, time.Since(began).Round(time.Millisecond))
	}

	lease()
	w.must("dial", "-lease-dir="+dir)
	w.still("t", 1500*time.Millisecond)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	ended("directory deleted")

	lease()
	w.must("dial", "-lease-dir="+dir)
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	lease() // another directory of that name is not the one
	ended("directory replaced")

	owner := w.startClient("loop", "-name=owner") // any process will do
	if l := owner.line(); l != "looping" {
		t.Fatal(l)
	}
	w.must("dial", "-lease-pid="+itoa(owner.cmd.Process.Pid))
	w.still("t", 1500*time.Millisecond)
	_ = owner.cmd.Process.Kill()
	_ = owner.cmd.Wait()
	ended("owner killed with -9")

	// Of several the last one counts.
	lease()
	c := w.startClient("dial", "-lease-conn", "-linger")
	if l := c.line(); !strings.HasPrefix(l, "ok") {
		t.Fatal(l)
	}
	w.gone("t") // request closes its connection, and with it the lease
	held := w.startClient("hold", "-lease-conn", "-lease-dir="+dir)
	if l := held.line(); l != "holding" {
		t.Fatal(l)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.still("t", 1500*time.Millisecond)
	_ = held.cmd.Process.Kill()
	_ = held.cmd.Wait()
	ended("connection lost")
	if out, err := c.finish(); err != nil {
		t.Error(out, err)
	}
}

// TestLeasesOutliveACrash: who took a lease does not know that the daemon it was
// taken of has crashed.
func TestLeasesOutliveACrash(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "worktree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.must("dial", "-lease-dir="+dir)
	w.kill9("t")
	w.dial() // without a lease of its own
	w.still("t", 1500*time.Millisecond)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if r := w.gone("t"); r.Ended != "last lease gone" {
		t.Errorf("it ended as %+v", r)
	}
	if w.execs() != 2 {
		t.Errorf("%d execs", w.execs())
	}
	// A stop ends what was agreed: the next daemon is nobody's.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.must("dial", "-lease-dir="+dir)
	w.must("stop")
	w.dial()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	w.still("t", 2*time.Second)
}

// TestLeaseRefused: what is not there cannot be what a life is tied to.
func TestLeaseRefused(t *testing.T) {
	w := newWorld(t)
	for _, arg := range []string{"-lease-dir=" + w.dir + "/nowhere", "-lease-pid=999999999"} {
		out, err := w.run("dial", arg)
		if err == nil || !strings.Contains(out, "stage=control") || !strings.Contains(out, "refused=true") {
			t.Errorf("%s: %v %s", arg, err, out)
		}
	}
}

// TestJobBound: R22. A daemon tied to its job's process ends with it, one that is
// not outlives the job.
func TestJobBound(t *testing.T) {
	w := newWorld(t)
	script := w.bin + "/testprog dial -name=bound -lease-pid=$$ && " + w.bin + "/testprog dial -name=escaping && read -r line"
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env, cmd.Dir = w.env, w.dir
	job := w.startCommand(cmd)
	for range 2 {
		if l := job.line(); !strings.HasPrefix(l, "ok") {
			t.Fatal(l)
		}
	}
	w.still("bound", 1500*time.Millisecond)
	_ = job.cmd.Process.Kill() // as a runner ends a job
	_ = job.cmd.Wait()
	if r := w.gone("bound"); r.Ended != "last lease gone" {
		t.Errorf("it ended as %+v", r)
	}
	w.still("escaping", time.Second)
}

// TestStacks: however long it loads, it says what it does, in its log too.
func TestStacks(t *testing.T) {
	w := newWorld(t)
	w.must("start", "-load=60s")
	w.eventually("it loads", func() bool { return w.readRecord("t").Phase == record.Loading })
	out, err := w.output(w.command("fastbind", "stacks", "t"))
	if err != nil || !strings.Contains(out, "goroutine 1 [") || !strings.Contains(out, "main.loading") {
		t.Errorf("%v: %s", err, out)
	}
	if log, err := os.ReadFile(w.readRecord("t").Log); err != nil || !strings.Contains(string(log), "main.loading") {
		t.Errorf("the log does not have them: %v %s", err, log)
	}
}

// TestHash: the daemon says what it runs, also when that is at its path no more.
func TestHash(t *testing.T) {
	w := newWorld(t)
	b, err := os.ReadFile(filepath.Join(w.bin, "testprog"))
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial")
	want := fmt.Sprintf(`"sha256":"%x"`, sha256.Sum256(append(b, "build:00000001"...)))
	w.upgrade(tool, 2, false)
	for range 2 {
		if out, err := w.output(w.command("fastbind", "status", "t", "--json", "--hash")); err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: %s, want %s", err, out, want)
		}
	}
}

// TestStopNow: nobody is waited for.
func TestStopNow(t *testing.T) {
	w := newWorld(t)
	loop := w.startClient("loop")
	if l := loop.line(); l != "looping" {
		t.Fatal(l)
	}
	out, err := w.output(w.command("fastbind", "stop", "--now", "t"))
	if err != nil || !strings.Contains(out, "t: killed generation 1, pid ") || strings.Contains(out, "in time") {
		t.Errorf("%v: %s", err, out)
	}
	if len(w.living("t")) != 0 {
		t.Error("it still lives")
	}
	if out, err := loop.finish(); err == nil {
		t.Errorf("its connection was not cut off: %s", out)
	}
	for range 4 { // spends no budget
		w.dial()
		if out, err := w.output(w.command("fastbind", "stop", "--now", "t")); err != nil {
			t.Fatal(out, err)
		}
	}
}

// TestStopNowTellsWhy: I2. Who waits for the first answer of a daemon that is
// killed because somebody asked for it is told so, although the daemon has read the
// request and its launcher has left.
func TestStopNowTellsWhy(t *testing.T) {
	w := newWorld(t)
	w.dial()
	conn := w.connect(w.hangs(time.Minute, fastbind.HangReplace))
	read := filepath.Join("/proc", itoa(w.living("t")[0].Record.PID), "io")
	before, err := os.ReadFile(read)
	if err != nil {
		t.Skip("this system does not tell what a process has read:", err)
	}
	if _, err := io.WriteString(conn, "-60000\n"); err != nil {
		t.Fatal(err)
	}
	w.eventually("the daemon has read the request", func() bool {
		now, err := os.ReadFile(read)
		return err == nil && !bytes.Equal(now, before)
	})
	if out, err := w.output(w.command("fastbind", "stop", "--now", "t")); err != nil {
		t.Fatal(out, err)
	}
	if reply, err := bufio.NewReader(conn).ReadString('\n'); !errors.Is(err, fastbind.ErrLaunchFailed) || !strings.Contains(err.Error(), "was stopped before it answered") {
		t.Errorf("got %q, %T %v", reply, err, err)
	}
}

// TestStopNowOfDraining: the same of a daemon that was draining already.
func TestStopNowOfDraining(t *testing.T) {
	w := newWorld(t)
	w.dial()
	conn := w.connect(w.hangs(time.Minute, fastbind.HangReplace))
	if _, err := io.WriteString(conn, "-60000\n"); err != nil {
		t.Fatal(err)
	}
	w.eventually("the daemon has accepted", func() bool {
		out, _ := w.output(w.command("fastbind", "status", "t", "--json"))
		return strings.Contains(out, `"connections":1`)
	})
	stop := w.startCommand(w.command("fastbind", "stop", "t"))
	w.eventually("it drains", func() bool { return w.living("t")[0].Record.Phase == record.Draining })
	if out, err := w.output(w.command("fastbind", "stop", "--now", "t")); err != nil {
		t.Fatal(out, err)
	}
	if reply, err := bufio.NewReader(conn).ReadString('\n'); !errors.Is(err, fastbind.ErrLaunchFailed) || !strings.Contains(err.Error(), "was stopped before it answered") {
		t.Errorf("got %q, %T %v", reply, err, err)
	}
	_, _ = stop.finish()
}
