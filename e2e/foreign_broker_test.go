//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// TestForeignBroker has one standing broker hold the endpoints of the daemons of
// others that take a listener, each as foreign/broker/NAME.toml says, and uses each
// with its own client, which knows nothing of fastbind. What it logs, with -v, is
// kept in docs/foreign-broker.md.
func TestForeignBroker(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_FOREIGN") != "1" {
		t.Skip("installs and runs daemons of others; FASTBIND_E2E_FOREIGN=1 asks for it")
	}
	bin, err := foreignTools()
	if err != nil {
		t.Fatal(err)
	}
	b := newForeignBroker(t, bin)
	b.start()
	b.nothingRuns()
	b.do("fastbind", "top")
	b.each(t, "activated", (*heldWorld).activated)
	b.do("fastbind", "top")
	b.each(t, "killed", (*heldWorld).killedHeld)
	b.brokerKilled()
	b.each(t, "without a broker", (*heldWorld).unheld)
	b.start()
	b.each(t, "the next broker", (*heldWorld).watched)
	b.each(t, "stopped", (*heldWorld).stoppedHeld)
	b.ends()

	t.Logf("\n%s\n%s", b.table(), b.transcript.String())
	for _, w := range b.held {
		t.Logf("%s\n%s", w.name, w.transcript.String())
	}
}

// A foreignBroker is a broker and the daemons that it holds.
type foreignBroker struct {
	*foreignWorld
	cmd  *exec.Cmd
	held []*heldWorld
}

// A heldWorld is what one daemon of them is looked at with.
type heldWorld struct {
	foreignWorld
	broker     *foreignBroker
	definition string
	pid        int // of the newest generation that was seen

	cold, warm, afterKill, afterNext time.Duration // until the client had its answer
	ready                            float64       // seconds from launch to ready
	by                               string        // who answered after the kill
	refused                          int           // connections after the kill under the next broker
}

func newForeignBroker(t *testing.T, bin string) *foreignBroker {
	b := &foreignBroker{foreignWorld: newForeignDir(t, bin)}
	t.Cleanup(b.cleanUp)
	for _, f := range foreigners {
		definition, err := os.ReadFile(filepath.Join("foreign", "broker", f.name+".toml"))
		if os.IsNotExist(err) {
			continue // it inherits no listener, so there is nothing to hold
		}
		if err != nil {
			t.Fatal(err)
		}
		shared, w := *b.world, &heldWorld{foreignWorld: *b.foreignWorld, broker: b, definition: string(definition)}
		w.world = &shared
		w.of(f)
		w.phase, w.shown = "ready", w.endpoint
		w.copyFiles("foreign", f.name)
		w.copyFiles("foreign/broker", f.name+".toml")
		b.held = append(b.held, w)
	}
	for _, e := range []string{"wsgi.py", "asgi.py", "pid.php", "ppid.cgi"} {
		b.copyFiles("foreign", e)
	}
	return b
}

// each runs a step for every daemon.
func (b *foreignBroker) each(t *testing.T, step string, f func(*heldWorld)) {
	t.Helper()
	for _, w := range b.held {
		if !t.Run(w.name+"/"+step, func(t *testing.T) {
			w.t = t
			f(w)
			w.t = b.t
		}) {
			t.FailNow() // the next step begins where this one ends
		}
	}
}

// start starts a broker in the foreground, and waits until it holds what it can.
func (b *foreignBroker) start() {
	b.t.Helper()
	log, err := os.OpenFile(filepath.Join(b.dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = b.command("fastbind", "broker")
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.eventually("the broker is ready", func() bool {
		out, err := b.try([]string{"fastbind", "status", "fastbind-broker", "--json"}, nil)
		return err == nil && strings.Contains(out, `"phase":"ready"`) && strings.Contains(out, `"pid":`+itoa(b.cmd.Process.Pid))
	})
}

// brokerKilled is kill -9 of the broker.
func (b *foreignBroker) brokerKilled() {
	b.t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		b.t.Fatal(err)
	}
	_ = b.cmd.Wait()
}

// cleanUp ends what a test that failed leaves.
func (b *foreignBroker) cleanUp() {
	if b.cmd != nil && b.cmd.ProcessState == nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
	for _, w := range b.held {
		w.t = b.t
		w.see()
		w.killSessions()
	}
}

// top is a line of fastbind top.
type topLine struct {
	Phase         *string
	PID, Restarts *int
	Held          bool
	Status        *string
}

func (b *foreignBroker) top() map[string]topLine {
	b.t.Helper()
	out, err := b.try([]string{"fastbind", "top", "--json"}, nil)
	var reply struct {
		Services []struct {
			Service string
			topLine
		}
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &reply)
	}
	if err != nil {
		b.t.Fatalf("top: %v\n%s", err, out)
	}
	lines := map[string]topLine{}
	for _, s := range reply.Services {
		lines[s.Service] = s.topLine
	}
	return lines
}

// nothingRuns: every endpoint is there, and no daemon was launched, nor has the
// broker any child.
func (b *foreignBroker) nothingRuns() {
	b.t.Helper()
	lines := b.top()
	for _, w := range b.held {
		if l := lines[w.name]; !l.Held || l.PID != nil || l.Phase == nil || *l.Phase != "held" {
			b.t.Errorf("%s: top says %+v before anybody has connected", w.name, l)
		}
		if fi, err := os.Stat(w.endpoint); err != nil || fi.Mode().Type() != os.ModeSocket {
			b.t.Errorf("%s has no endpoint: %v", w.name, err)
		}
		if g := w.generations(w.name); len(g) != 0 {
			b.t.Errorf("%s was launched before anybody has connected", w.name)
		}
		out, err := w.try([]string{"fastbind", "status", w.name}, nil)
		if exitStatus(err) != 3 {
			b.t.Errorf("status %s: %v\n%s", w.name, err, out)
		}
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", b.cmd.Process.Pid))
	if err != nil || len(children) > 0 {
		b.t.Errorf("the broker has the children %q, %v", children, err)
	}
}

// see notes the living generations, which the end of the test ends.
func (w *heldWorld) see() (pids []int) {
	for _, e := range w.living(w.name) {
		pids = append(pids, e.Record.PID)
		if !slices.Contains(w.sessions, e.Record.PID) {
			w.sessions = append(w.sessions, e.Record.PID)
		}
	}
	return pids
}

// serves waits until one generation runs and is ready, and returns it.
func (w *heldWorld) serves() (pid int, number uint64) {
	w.t.Helper()
	w.eventually(w.name+" runs and is ready", func() bool {
		if len(w.see()) != 1 {
			return false
		}
		l := w.broker.top()[w.name]
		return l.Phase != nil && *l.Phase == "ready"
	})
	pid, number = w.current()
	w.pid = pid
	return pid, number
}

// answered has the client connect, which must succeed, and returns the session that
// answered, 0 if answers do not tell, and how long the client took.
func (w *heldWorld) answered() (int, time.Duration) {
	w.t.Helper()
	begun := time.Now()
	out, err := w.try(w.question(), nil)
	took := time.Since(begun)
	var pid int
	if err == nil {
		pid, err = w.answerer(w.want, out)
	}
	if err != nil {
		w.t.Fatalf("%q: %v\n%s\n%s", w.question(), err, out, w.logs())
	}
	w.keep(w.question(), out)
	return pid, took
}

// activated: the client's connection launches the daemon and is answered by it. The
// daemon is what its definition says, and has nothing of the client's.
func (w *heldWorld) activated() {
	w.keep(strings.Fields(w.version), w.says())
	by, took := w.answered()
	pid, number := w.serves()
	if number != 1 || by != 0 && by != pid {
		w.t.Errorf("generation %d, pid %d, and %d has answered", number, pid, by)
	}
	w.cold = took
	w.ready = w.metric("fastbind_service_ready_seconds_sum")
	if n := w.metric("fastbind_service_launches_total"); n != 1 {
		w.t.Errorf("%v launches", n)
	}
	_, w.warm = w.answered()
	w.do("fastbind", "status", w.name)
	w.script()
	w.handedOver()
	var reply struct {
		Services []struct {
			HeldBy     *int     `json:"held_by"`
			NotInForce []string `json:"not_in_force"`
		}
	}
	out, err := w.try([]string{"fastbind", "status", w.name, "--json"}, nil)
	if err == nil {
		err = json.Unmarshal([]byte(out), &reply)
	}
	if err != nil || len(reply.Services) != 1 || reply.Services[0].HeldBy == nil ||
		*reply.Services[0].HeldBy != w.broker.cmd.Process.Pid || reply.Services[0].NotInForce != nil {
		w.t.Errorf("it is not held as defined: %v\n%s", err, out)
	}
	if out, err := w.try([]string{"fastbind", "start", w.name, "--wait", "ready"}, nil); err != nil || out != w.endpoint {
		w.t.Errorf("start --wait ready: %v\n%s", err, out)
	}
}

// metric is what fastbind metrics has of the service.
func (w *heldWorld) metric(family string) float64 {
	w.t.Helper()
	out, err := w.try([]string{"fastbind", "metrics"}, nil)
	m := regexp.MustCompile(`(?m)^` + family + `\{instance="default",service="` + w.name + `"\} (\S+)$`).FindStringSubmatch(out)
	if err != nil || m == nil {
		w.t.Fatalf("no %s of %s: %v\n%s", family, w.name, err, out)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// kill9Newest kills the daemon, and waits for its death.
func (w *heldWorld) kill9Newest() {
	w.t.Helper()
	fmt.Fprintf(&w.transcript, "$ kill -9 %d\n", w.pid)
	w.kill9(w.name)
}

// killedHeld is kill -9 of the daemon while the broker has its listener: nobody is
// refused, and another one runs, whether its orphans answer or not.
func (w *heldWorld) killedHeld() {
	before := w.pid
	w.kill9Newest()
	by, took := w.answered()
	pid, number := w.serves()
	if pid == before || number != 2 {
		w.t.Errorf("generation %d, pid %d, after %d", number, pid, before)
	}
	switch {
	case by == before:
		w.by = "its orphans"
	case by == pid || by == 0:
		w.by = "the next one"
	default:
		w.t.Errorf("%d has answered, neither %d nor %d", by, before, pid)
	}
	w.afterKill = took
	w.endOrphans(before)
	if by, _ := w.answered(); by != 0 && by != pid {
		w.t.Errorf("%d has answered, want %d", by, pid)
	}
	w.do("fastbind", "events", w.name)
}

// endOrphans ends what is left of a generation that is dead.
func (w *heldWorld) endOrphans(session int) {
	w.t.Helper()
	if w.orphans == "stay" {
		fmt.Fprintf(&w.transcript, "$ pkill -9 --session %d\n", session)
		for _, pid := range inSession(session) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	w.eventually("its orphans are gone", func() bool { return len(inSession(session)) == 0 })
}

// unheld: the broker was killed with kill -9, and the daemon serves.
func (w *heldWorld) unheld() {
	fmt.Fprintf(&w.transcript, "# kill -9 of the broker\n")
	if by, _ := w.answered(); by != 0 && by != w.pid {
		w.t.Errorf("%d has answered, want %d", by, w.pid)
	}
	if pid, _ := w.current(); pid != w.pid {
		w.t.Errorf("%d runs, want %d", pid, w.pid)
	}
}

// watched: the next broker has found the daemon, which serves, and launches another
// one when it is killed. It has no copy of the listener then, so who comes in between
// may be refused.
func (w *heldWorld) watched() {
	before := w.pid
	fmt.Fprintf(&w.transcript, "# another broker\n")
	if pid, number := w.serves(); pid != before || number != 2 {
		w.t.Fatalf("generation %d, pid %d, runs, want %d", number, pid, before)
	}
	if by, _ := w.answered(); by != 0 && by != before {
		w.t.Errorf("%d has answered, want %d", by, before)
	}
	w.kill9Newest()
	begun := time.Now()
	w.endOrphans(before)
	w.eventually("the next one answers", func() bool {
		out, err := w.try(w.question(), nil)
		if err != nil {
			w.refused++
			return false
		}
		by, err := w.answerer(w.want, out)
		return err == nil && by != before
	})
	w.afterNext = time.Since(begun)
	pid, number := w.serves()
	if pid == before || number != 3 {
		w.t.Errorf("generation %d, pid %d, after %d", number, pid, before)
	}
	if by, _ := w.answered(); by != 0 && by != pid {
		w.t.Errorf("%d has answered, want %d", by, pid)
	}
}

// stoppedHeld: nothing of it runs after stop, its endpoint is held, and of 20 clients
// who come at once the first launches the daemon that answers them all.
func (w *heldWorld) stoppedHeld() {
	pid, number := w.serves()
	h, err := w.living(w.name)[0].Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	want := fmt.Sprintf("%s: stopped generation %d, pid %d", w.name, number, pid)
	if out := w.do("fastbind", "stop", w.name); out != want {
		w.t.Errorf("stop printed %q, want %q", out, want)
	}
	if h.Alive() {
		w.t.Errorf("stop returned and the daemon, %d, lives", pid)
	}
	w.eventually("its children are gone", func() bool { return len(inSession(pid)) == 0 })
	w.eventually("it is held", func() bool {
		l := w.broker.top()[w.name]
		return l.Held && l.Phase != nil && *l.Phase == "held"
	})
	if n := len(w.see()); n != 0 {
		w.t.Errorf("%d generations run after stop", n)
	}
	const n = 20
	answers := w.clients(n, nil)
	pid, next := w.serves()
	for i, by := range answers {
		if by != 0 && by != pid {
			w.t.Errorf("client %d was answered by %d, want %d", i, by, pid)
		}
	}
	if next != number+1 {
		w.t.Errorf("generation %d follows generation %d", next, number)
	}
	fmt.Fprintf(&w.transcript, "# %d clients at once, nothing runs: %d answers, generation %d, pid %d\n", n, n, next, pid)
	if l := w.broker.top()[w.name]; l.Status != nil {
		fmt.Fprintf(&w.transcript, "# it says of itself: %s\n", *l.Status)
	}
}

// ends: stop --all ends the broker and all daemons, and nobody accepts any more.
func (b *foreignBroker) ends() {
	b.t.Helper()
	out, err := b.try([]string{"fastbind", "stop", "--all"}, nil)
	if err != nil {
		b.t.Errorf("stop --all: %v\n%s", err, out)
	}
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("the broker: %v", err)
	}
	for _, w := range b.held {
		b.eventually("nothing of "+w.name+" runs", func() bool {
			return !slices.ContainsFunc(w.sessions, func(s int) bool { return len(inSession(s)) > 0 })
		})
		if c, err := net.Dial("unix", w.endpoint); err == nil {
			_ = c.Close()
			b.t.Errorf("somebody accepts for %s", w.name)
		}
	}
}

// table is what was seen, one line for each daemon.
func (b *foreignBroker) table() string {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 8, 1, ' ', 0)
	row := func(cells ...string) { fmt.Fprintf(t, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	row("daemon", "takes the listener", "ready by", "first answer", "ready", "answer", "after kill -9", "by", "after kill -9, next broker", "refused")
	row("---", "---", "---", "---", "---", "---", "---", "---", "---", "---")
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	for _, w := range b.held {
		takes := "`LISTEN_FDS`"
		if m := regexp.MustCompile(`(?m)^fd_env *= \["(.*)"\]$`).FindStringSubmatch(w.definition); m != nil {
			takes = "`" + m[1] + "`"
		} else if strings.Contains(w.definition, `"{fd}"`) {
			takes = "`{fd}`"
		}
		ready := "accept"
		if m := regexp.MustCompile(`(?m)^ready *= "(\w+)`).FindStringSubmatch(w.definition); m != nil {
			ready = m[1]
		}
		if strings.Contains(w.definition, "\nwatchdog ") {
			ready += ", watchdog"
		}
		version := regexp.MustCompile(`\d+(\.\d+)+`).FindString(w.says())
		row(w.name+" "+version, takes, ready, ms(w.cold), fmt.Sprintf("%.0f", w.ready*1000), ms(w.warm), ms(w.afterKill), w.by,
			ms(w.afterNext), itoa(w.refused))
	}
	_ = t.Flush()
	return text.String()
}

// TestForeignBrokerDocs: what the documentation shows is what TestForeignBroker runs.
func TestForeignBrokerDocs(t *testing.T) {
	showsFiles(t, "../docs/foreign-broker.md", "foreign/broker")
}
