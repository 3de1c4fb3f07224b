//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// What the soak's clients ask for. A daemon without clients ends soon, so that
// "nobody is left" is something to wait for; silence is long even for a machine
// that does other things too.
const (
	soakIdle      = time.Second
	soakHangAfter = 4 * time.Second
	soakHolders   = 4 // of connections, in this process
	soakCalmEvery = 6 // steps

	// soakDescriptors bounds those of a daemon without clients: three for its
	// output, its listener, control endpoint, locks, watches and the runtime's.
	soakDescriptors = 20
)

// A trouble is one thing that is done while a crowd of clients dials.
type trouble struct {
	what  string
	after time.Duration // since the crowd was let go, or the trouble before
	pick  int           // whom or what it is done to, modulo how many there are
}

// A soakStep is a crowd and what befalls it.
type soakStep struct {
	clients, requests int
	load              time.Duration // of a daemon that one of them launches
	troubles          []trouble
	calm              bool // afterwards all comes to rest, and is looked at
}

func (s soakStep) String() string {
	text := fmt.Sprintf("%d clients, %d requests each, load %v", s.clients, s.requests, s.load)
	for _, t := range s.troubles {
		text += fmt.Sprintf("; after %v %s (%d)", t.after, t.what, t.pick)
	}
	if s.calm {
		text += "; calm"
	}
	return text
}

// troubles are what can be done, and how often of a hundred.
var troubles = []struct {
	what  string
	often int
	do    func(*soak, trouble)
}{
	{"nothing", 10, func(*soak, trouble) {}},
	{"kill -9 of a daemon", 15, (*soak).killDaemon},
	{"kill -9 of clients", 12, (*soak).killClients},
	{"kill -9 of a launcher before a step", 12, (*soak).killAtStep},
	{"stop", 7, (*soak).stop},
	{"stop --now", 3, (*soak).stopNow},
	{"upgrade", 9, (*soak).upgrade},
	{"kill -9 within a succession", 6, (*soak).killSuccession},
	{"restart", 4, (*soak).restart},
	{"deletion", 12, (*soak).delete},
	{"SIGSTOP of a client", 4, (*soak).suspendClient},
	{"SIGSTOP of a daemon", 3, (*soak).suspendDaemon},
	{"chatter", 3, (*soak).chatter},
}

// A soakSchedule is all that a seed determines: what is done, to the how-manieth,
// in which order. What comes of it, the machine determines.
type soakSchedule struct {
	rng *rand.Rand
	n   int
}

func newSoakSchedule(seed uint64) *soakSchedule {
	return &soakSchedule{rng: rand.New(rand.NewPCG(seed, 0))}
}

func (g *soakSchedule) next() soakStep {
	r := g.rng
	s := soakStep{clients: 1 + r.IntN(16), requests: 1 + r.IntN(3), load: time.Duration(r.IntN(2)*r.IntN(120)) * time.Millisecond}
	for range 1 + r.IntN(3) {
		// Half of them at once, while the crowd has hardly begun.
		t := trouble{after: time.Duration(r.IntN(2)*r.IntN(120)) * time.Millisecond, pick: r.IntN(1 << 16)}
		n := r.IntN(100)
		for _, c := range troubles {
			if n -= c.often; n < 0 {
				t.what = c.what
				break
			}
		}
		s.troubles = append(s.troubles, t)
	}
	g.n++
	s.calm = g.n%soakCalmEvery == 0
	return s
}

// TestSoakSchedule: a seed's schedule is always the same, every trouble is in it,
// and another seed has another one.
func TestSoakSchedule(t *testing.T) {
	sum := 0
	for _, c := range troubles {
		sum += c.often
	}
	if sum != 100 {
		t.Errorf("the troubles are %d of a hundred", sum)
	}
	a, b, other := newSoakSchedule(7), newSoakSchedule(7), newSoakSchedule(8)
	seen, same := map[string]bool{}, 0
	for range 500 {
		step := a.next()
		if again := b.next(); step.String() != again.String() {
			t.Fatalf("%v, then %v", step, again)
		}
		if step.String() == other.next().String() {
			same++
		}
		for _, tr := range step.troubles {
			seen[tr.what] = true
		}
	}
	if len(seen) != len(troubles) || same > 10 {
		t.Errorf("%d of %d troubles, %d steps as with another seed", len(seen), len(troubles), same)
	}
}

// A soak is one run. The main goroutine does the steps, one after the other;
// the holders dial and ask all the while, from within this process.
type soak struct {
	*world
	seed  uint64
	tool  string // the program, of which upgrade makes another build
	build int
	crowd []*soakClient

	gate    sync.RWMutex // held shared by holders with a connection, alone in a calm
	holders sync.WaitGroup
	ended   chan struct{}

	mu      sync.Mutex
	blows   []blow         // what can have cost a dial or a connection
	victims map[int]string // pid: what was done to it
	misses  []miss         // of the holders, not judged yet
	wrong   []string
	done    map[string]int // counts, for people
	last    []string       // what was done last
}

// A blow is something that dials and connections may fail of.
type blow struct {
	at   time.Time
	kind string // "kill", "suspend" or "deletion"
}

// A miss is a holder's failed dial, or a connection that was cut.
type miss struct {
	began, ended time.Time
	pid          int // that had answered, 0 if none had
	err          error
}

// A soakClient is a process that dials.
type soakClient struct {
	cmd    *exec.Cmd
	out    bytes.Buffer
	exited chan struct{}
	killed bool // by us
}

// TestSoak: I1 to I5, for as long as FASTBIND_SOAK says. A random schedule of
// crowds and of what can befall them, from a seed (FASTBIND_SOAK_SEED, another one
// each time in the long form) that is printed; all along, a dial fails only with a
// typed error that the schedule explains, no connection is cut but by the end of
// its daemon's process, and no two daemons are ready for longer than it takes to
// notice; and whenever all comes to rest, nobody and nothing is left over.
func TestSoak(t *testing.T) {
	within, seed := 20*time.Second, uint64(1) // the form among the other tests
	if v := os.Getenv("FASTBIND_SOAK"); v != "" {
		var err error
		if within, err = time.ParseDuration(v); err != nil {
			t.Fatalf("FASTBIND_SOAK: %v", err)
		}
		seed = uint64(time.Now().UnixNano())
	}
	if v := os.Getenv("FASTBIND_SOAK_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("FASTBIND_SOAK_SEED: %v", err)
		}
	}
	t.Logf("to see it again: FASTBIND_SOAK=%v FASTBIND_SOAK_SEED=%d go test -timeout %v -run 'TestSoak$' ./e2e", within, seed, 2*within+10*time.Minute)
	s := &soak{world: newWorld(t), seed: seed, ended: make(chan struct{}), victims: map[int]string{}, done: map[string]int{}}
	s.tool = filepath.Join(s.dir, "tool")
	for _, v := range s.env {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "FASTBIND_") || strings.HasPrefix(name, "TESTPROG_") {
			t.Setenv(name, value)
		}
	}
	t.Cleanup(func() {
		s.killRest()
		if t.Failed() {
			t.Logf("seed %d; what was done last:\n%s\n%s", seed, strings.Join(s.last, "\n"), s.logs())
		}
	})
	s.install()
	// A launch of a process that was started with signals ignored, as by nohup, catches
	// them for a moment; the goroutine that os/signal begins for that never ends.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGUSR1)
	signal.Stop(caught)
	before := ourselves()
	for i := range soakHolders {
		s.holders.Go(func() { s.holdOn(rand.New(rand.NewPCG(seed, uint64(i)+1))) })
	}
	s.holders.Go(s.watch)

	schedule := newSoakSchedule(seed)
	began := time.Now()
	n := 0
	for ; time.Since(began) < within && !s.failed(); n++ {
		step := schedule.next()
		s.note("step %d: %v", n, step)
		s.do(step)
		if step.calm && !s.failed() {
			s.calm()
		}
	}
	if !s.failed() {
		s.calm()
	}
	close(s.ended)
	s.holders.Wait()
	if !s.failed() {
		s.eventually("nobody lives", func() bool { return len(s.alive()) == 0 })
		s.noMore(before)
	}
	if s.failed() {
		return
	}
	t.Logf("seed %d: %d steps in %v, %d daemons executed\n%s", seed, n, time.Since(began).Round(time.Second), s.execs(), s.counts())
}

// --- what is kept of the run

func (s *soak) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, fmt.Sprintf("%s %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...)))
	s.last = s.last[max(0, len(s.last)-40):]
}

// broken reports that an invariant does not hold. The run ends with the step.
func (s *soak) broken(format string, args ...any) {
	s.t.Helper()
	text := fmt.Sprintf(format, args...)
	s.note("BROKEN: %s", text)
	s.t.Error(text)
	s.mu.Lock()
	s.wrong = append(s.wrong, text)
	s.mu.Unlock()
}

func (s *soak) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wrong) > 0 || s.t.Failed()
}

func (s *soak) count(what string) {
	s.mu.Lock()
	s.done[what]++
	s.mu.Unlock()
}

func (s *soak) counts() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for what, n := range s.done {
		lines = append(lines, fmt.Sprintf("%7d %s", n, what))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[8:], b[8:]) })
	return strings.Join(lines, "\n")
}

// strike says beforehand that dials may fail, and the connections of the
// processes be cut.
func (s *soak) strike(kind, how string, pids ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blows = append(s.blows, blow{time.Now(), kind})
	for _, pid := range pids {
		s.victims[pid] = how
	}
}

// struck reports whether a dial of that time may have failed of a blow. The blow
// may be a moment older: a killed process closes its descriptors one by one, and
// whoever was stopped is missed only after a time.
func (s *soak) struck(kind string, began, ended time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.blows, func(b blow) bool {
		return b.kind == kind && b.at.Before(ended) && b.at.After(began.Add(-5*time.Second))
	})
}

// kills is how many blows a spawn budget can have been spent by.
func (s *soak) kills(since time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blows {
		if b.kind == "kill" && b.at.After(since) {
			n++
		}
	}
	return n
}

// explained reports whether the schedule explains a failed dial, as testprog
// describes it, and counts it.
func (s *soak) explained(text string, began, ended time.Time) bool {
	has := func(what string) bool { return strings.Contains(text, what) }
	switch {
	case !has("typed ") || has("untyped ") || has("deadline=true"):
		return false
	case has("stage=budget") && has("retry=true"):
		// Three of the killed were loading, and their launchers had left.
		s.count("refused: the budget was spent")
		return s.kills(began.Add(-time.Minute)) >= 3
	case has("hung=true"):
		s.count("failed: hung")
		return s.struck("suspend", began.Add(-10*time.Second), ended)
	case has("launch=true"):
		s.count("failed: launch failed")
		return s.struck("kill", began, ended) || s.struck("suspend", began.Add(-10*time.Second), ended)
	}
	return false
}

// --- the steps

func (s *soak) do(step soakStep) {
	began := time.Now()
	s.release(step)
	for _, t := range step.troubles {
		time.Sleep(t.after)
		for _, c := range troubles {
			if c.what == t.what {
				c.do(s, t)
				s.count("did: " + t.what)
			}
		}
	}
	for _, c := range s.crowd {
		<-c.exited
		s.judge(c, step, began)
	}
	s.crowd = nil
	s.judgeHolders()
}

func (s *soak) dialArgs(load time.Duration, more ...string) []string {
	return append([]string{"dial", "-timeout=" + deadline.String(), "-on-version=replace", "-idle=" + soakIdle.String(),
		"-hang-after=" + soakHangAfter.String(), "-load=" + load.String()}, more...)
}

// release starts a crowd and lets it go at once.
func (s *soak) release(step soakStep) {
	gate, open, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	for range step.clients {
		cmd := s.command("testprog", s.dialArgs(step.load, "-gate", "-requests="+itoa(step.requests))...)
		cmd.Path, cmd.Args[0] = s.tool, s.tool
		cmd.Stdin = gate
		s.crowd = append(s.crowd, s.begin(cmd))
	}
	_ = gate.Close()
	_ = open.Close()
}

func (s *soak) begin(cmd *exec.Cmd) *soakClient {
	c := &soakClient{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &c.out, &c.out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	stop := context.AfterFunc(s.t.Context(), func() { _ = cmd.Process.Kill() })
	go func() {
		_ = cmd.Wait()
		stop()
		close(c.exited)
	}()
	return c
}

// judge looks at how a client's dial ended.
func (s *soak) judge(c *soakClient, step soakStep, began time.Time) {
	text := strings.TrimSpace(c.out.String())
	switch {
	case c.cmd.ProcessState.Success() && strings.HasPrefix(text, "ok "):
		s.count("dials of processes that were answered")
	case c.killed && c.cmd.ProcessState.ExitCode() < 0:
		s.count("clients that were killed")
	case strings.HasPrefix(text, "fail untyped") && !strings.Contains(text, "i/o timeout") && step.requests > 1 &&
		(s.struck("kill", began, time.Now()) || s.struck("suspend", began.Add(-10*time.Second), time.Now())):
		// After its first answer. Who was suspended is killed by those who find it hung.
		s.count("connections of processes that were cut by a kill")
	case !s.explained(text, began, time.Now()):
		s.broken("a client was told %q (%v)", text, c.cmd.ProcessState)
	}
}

func (s *soak) judgeHolders() {
	s.mu.Lock()
	misses := s.misses
	s.misses = nil
	s.mu.Unlock()
	for _, m := range misses {
		s.mu.Lock()
		how := s.victims[m.pid]
		s.mu.Unlock()
		switch {
		case m.pid != 0 && how != "":
			s.count("held connections cut by: " + how)
		case m.pid != 0:
			s.broken("a connection that %d had answered on was cut: %v", m.pid, m.err)
		case !s.explained(describe(m.err), m.began, m.ended):
			s.broken("a holder's dial failed: %s", describe(m.err))
		}
	}
}

// describe is testprog's.
func describe(err error) string {
	var fe *fastbind.Error
	if !errors.As(err, &fe) {
		return fmt.Sprintf("untyped %q", err)
	}
	return fmt.Sprintf("typed stage=%s launch=%t deadline=%t retry=%t hung=%t %q", fe.Stage, errors.Is(err, fastbind.ErrLaunchFailed),
		errors.Is(err, context.DeadlineExceeded), !fe.RetryAt.IsZero(), errors.Is(err, fastbind.ErrHung), err)
}

// holdOn dials, asks for a while and hangs up, again and again. It is a host
// process as any other: it launches daemons too, of a build that the next dial of
// the tool replaces.
func (s *soak) holdOn(rng *rand.Rand) {
	svc := fastbind.Service{
		Name: "t", Command: []string{filepath.Join(s.bin, "testprog"), "daemon"}, Env: []string{"TESTPROG_EXECS"},
		IdleExit: soakIdle, HangAfter: soakHangAfter,
	}
	for {
		s.gate.RLock()
		m := miss{began: time.Now()}
		m.pid, m.err = s.session(svc, rng, m.began.Add(time.Duration(rng.IntN(2500))*time.Millisecond))
		s.gate.RUnlock()
		if m.err != nil {
			m.ended = time.Now()
			s.mu.Lock()
			s.misses = append(s.misses, m)
			s.mu.Unlock()
		}
		select {
		case <-s.ended:
			return
		case <-time.After(time.Duration(rng.IntN(200)) * time.Millisecond):
		}
	}
}

// session is one connection; it ends soon enough for a stop to wait for it.
func (s *soak) session(svc fastbind.Service, rng *rand.Rand, until time.Time) (pid int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	conn, err := fastbind.Dial(ctx, svc)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := 1; ; i++ {
		request := itoa(i)
		if rng.IntN(10) == 0 {
			request = itoa(-1 - rng.IntN(50)) // answered after as many milliseconds
		}
		_ = conn.SetDeadline(time.Now().Add(deadline))
		_, werr := io.WriteString(conn, request+"\n")
		reply, err := r.ReadString('\n')
		if err != nil {
			if pid != 0 {
				err = errors.Join(err, werr)
			}
			return pid, err
		}
		f := strings.Fields(reply)
		if len(f) != 4 || f[2] != request {
			s.broken("%q was answered with %q", request, reply)
			return pid, nil
		}
		by, _ := strconv.Atoi(f[0])
		if pid != 0 && by != pid {
			s.broken("one connection was answered by %d and %d", pid, by)
		}
		pid = by
		s.count("requests of holders that were answered")
		if time.Now().After(until) {
			return pid, nil
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

// watch looks for two daemons that both are ready, in one directory, for longer
// than one can need to notice that it is not the owner.
func (s *soak) watch() {
	const limit = 30 * time.Second
	var since time.Time
	for {
		select {
		case <-s.ended:
			return
		case <-time.After(50 * time.Millisecond):
		}
		entries, err := launch.Generations(s.service("t"))
		var ready []string
		for _, e := range entries {
			if e.Alive && e.Record.Phase == record.Ready {
				ready = append(ready, e.Name)
			}
		}
		switch {
		case err != nil || len(ready) < 2:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > limit:
			s.broken("ready for %v beside each other: %v", limit, ready)
			return
		}
	}
}

// --- the troubles

// targets are the living generations, and nobody's processes.
func (s *soak) targets() []launch.Entry {
	entries, _ := launch.Generations(s.service("t"))
	return slices.DeleteFunc(entries, func(e launch.Entry) bool { return !e.Alive || e.Record.PID == 0 })
}

// kill kills a generation and waits for its end.
func (s *soak) kill(e launch.Entry, how string) {
	h, err := e.Open()
	if err != nil {
		return // it has ended meanwhile
	}
	defer h.Close()
	s.strike("kill", how, e.Record.PID)
	if err := h.Signal(syscall.SIGKILL); err == nil {
		s.await(h)
	}
	s.strike("kill", how, e.Record.PID)
}

func (s *soak) killDaemon(t trouble) {
	if list := s.targets(); len(list) > 0 {
		s.kill(list[t.pick%len(list)], "kill -9")
	}
}

func (s *soak) killClients(t trouble) {
	s.strike("kill", "")
	for i, c := range s.crowd {
		if t.pick>>(i%8)&1 == 1 {
			c.killed = true
			_ = c.cmd.Process.Kill()
		}
	}
	s.strike("kill", "")
}

// killAtStep is a client that kills itself before a step of its launch, if it
// meets it.
func (s *soak) killAtStep(t trouble) {
	steps := launch.Steps()
	s.strike("kill", "")
	cmd := s.command("testprog", s.dialArgs(0, "-kill-at="+itoa(int(steps[t.pick%len(steps)])))...)
	cmd.Path, cmd.Args[0] = s.tool, s.tool
	c := s.begin(cmd)
	c.killed = true
	<-c.exited
	s.strike("kill", "")
	s.crowd = append(s.crowd, c)
}

// fastbind runs the command. That a service does not run, or has never been
// launched since its directory was deleted, is no failure of the command.
func (s *soak) fastbind(args ...string) {
	cmd := s.command("fastbind", args...)
	out, err := s.output(cmd)
	const notRunning = 3
	unrecorded := strings.Contains(out, "no living generation is on record") || strings.Contains(out, "no generation has a readable record")
	if unrecorded && s.struck("deletion", time.Now(), time.Now()) {
		s.count("refused: an outsider has deleted the records") // until the daemon puts its own back
		return
	}
	if err != nil && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != notRunning) && !strings.Contains(out, "never launched here") {
		s.broken("fastbind %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (s *soak) stop(trouble) { s.fastbind("stop", "t") }

func (s *soak) stopNow(trouble) {
	pids := func() (list []int) {
		for _, p := range s.pids() {
			pid, _ := strconv.Atoi(p)
			list = append(list, pid)
		}
		return list
	}
	s.strike("kill", "")
	s.fastbind("stop", "--now", "t")
	// Whoever was launched in between may have been among them.
	s.strike("kill", "stop --now", pids()...)
}

// install makes the tool another build, as a package manager does that renames it
// into its place. Another process writes it: of a descriptor in this one a child
// could have a copy, and then the file cannot be executed.
func (s *soak) install() {
	s.t.Helper()
	s.build++
	script := `cp "$1" "$2.new" && printf 'build:%08d' "$3" >>"$2.new" && mv "$2.new" "$2"`
	if out, err := exec.Command("/bin/sh", "-c", script, "sh", filepath.Join(s.bin, "testprog"), s.tool, itoa(s.build)).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// more adds one more client to the crowd.
func (s *soak) more(load time.Duration) *soakClient {
	cmd := s.command("testprog", s.dialArgs(load)...)
	cmd.Path, cmd.Args[0] = s.tool, s.tool
	c := s.begin(cmd)
	s.crowd = append(s.crowd, c)
	return c
}

func (s *soak) upgrade(trouble) {
	s.install()
	<-s.more(50 * time.Millisecond).exited
}

// killSuccession kills whoever takes part in an upgrade while the successor loads.
func (s *soak) killSuccession(t trouble) {
	s.install()
	upgrader := s.more(time.Second)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		list := s.targets()
		i := slices.IndexFunc(list, func(e launch.Entry) bool { return e.Record.Succeeds != "" && e.Record.Phase == record.Loading })
		if i < 0 {
			continue
		}
		s.count("met a successor that loads")
		j := slices.IndexFunc(list, func(e launch.Entry) bool { return e.Name == list[i].Record.Succeeds })
		if t.pick&1 == 1 {
			s.kill(list[i], "kill -9 of a successor")
		}
		if t.pick&2 == 2 && j >= 0 {
			s.kill(list[j], "kill -9 beside a successor")
		}
		if t.pick&3 == 0 {
			s.strike("kill", "")
			upgrader.killed = true
			_ = upgrader.cmd.Process.Kill()
		}
		return
	}
}

func (s *soak) restart(trouble) { s.fastbind("restart", "t") }

func (s *soak) delete(t trouble) {
	dir := s.service("t")
	all := [][]string{{dir + "/sock"}, {dir + "/keep"}, {dir + "/sock", dir + "/keep"}, {dir}, {dir + "/current"}, {filepath.Dir(dir)}}
	paths := all[t.pick%len(all)]
	s.note("deletes %q", paths)
	defer s.strike("deletion", "")
	for _, p := range paths {
		_ = os.RemoveAll(p) // somebody may put new things into it meanwhile
	}
}

func (s *soak) suspendClient(t trouble) {
	if len(s.crowd) == 0 {
		return
	}
	c := s.crowd[t.pick%len(s.crowd)]
	_ = c.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(time.Duration(t.pick%400) * time.Millisecond)
	_ = c.cmd.Process.Signal(syscall.SIGCONT)
}

// suspendDaemon lets one hang until a client has noticed, if it is one that
// clients come to.
func (s *soak) suspendDaemon(t trouble) {
	list := s.targets()
	if len(list) == 0 {
		return
	}
	e := list[t.pick%len(list)]
	h, err := e.Open()
	if err != nil {
		return
	}
	defer h.Close()
	s.strike("suspend", "SIGSTOP", e.Record.PID)
	if h.Signal(syscall.SIGSTOP) != nil {
		return
	}
	<-s.more(0).exited
	_ = h.Signal(syscall.SIGCONT)
	s.strike("suspend", "SIGSTOP", e.Record.PID)
}

// chatter makes a daemon write more than its log holds.
func (s *soak) chatter(trouble) {
	conn, err := net.Dial("unix", s.service("t")+"/sock")
	if err != nil {
		return // nobody is there
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	_, _ = io.WriteString(conn, "chatter\n")
	_, _ = bufio.NewReader(conn).ReadString('\n')
}

// --- the calm

// calm lets all come to rest, looks at what is left, and begins anew.
func (s *soak) calm() {
	s.gate.Lock() // nobody holds a connection, nobody dials
	defer s.gate.Unlock()
	s.judgeHolders()
	if s.failed() {
		return
	}
	s.eventually("every daemon without clients has ended", func() bool { return len(s.alive()) == 0 })
	if held, err := lock.Held(s.service("t")); held || err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.broken("nobody lives, and the launch lock is held (%v)", err)
	}
	s.bounded()

	// What was killed while it loaded has spent its budget.
	if out, err := s.output(s.command("fastbind", "reset", "t")); err != nil && !strings.Contains(out, "never launched") {
		s.broken("reset: %v: %s", err, out)
	}
	before := s.execs()
	lines := s.world.crowd(8, nil, "-on-version=replace", "-idle="+soakIdle.String(), "-hang-after="+soakHangAfter.String())
	s.onePID(lines)
	// Who has found one hung launches the next, perhaps a moment after its own end.
	if n := s.execs() - before; n != 1 && (n != 0 || !s.struck("suspend", time.Now().Add(-10*time.Second), time.Now())) {
		s.broken("%d execs for a crowd that found nobody, want 1", n)
	}
	s.oneOwner("t", false)
	if list := s.targets(); len(list) == 1 {
		// It may still be closing its connections, or have ended.
		s.eventually("a daemon without clients has few descriptors", func() bool { return descriptors(list[0].Record.PID) <= soakDescriptors })
	}
	s.count("calms")
}

// bounded looks at what lies in the directories when nobody lives.
func (s *soak) bounded() {
	now := proc.BootTime()
	names, err := os.ReadDir(s.service("t"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.broken("%v", err)
	}
	kept := 0
	for _, n := range names {
		switch n.Name() {
		case "sock", "keep", "current":
			continue
		}
		files, _ := os.ReadDir(filepath.Join(s.service("t"), n.Name()))
		for _, f := range files {
			if !slices.Contains([]string{"record", "life", "ctl"}, f.Name()) {
				s.broken("%s in the directory of a generation", f.Name())
			}
		}
		if len(files) == 0 {
			s.broken("%s in a service's directory", n.Name())
		}
		kept++
	}
	// Those that have failed are kept for 30 s, the others until the next launch:
	// at most those of the last step before it, which came one by one.
	entries, _ := launch.Generations(s.service("t"))
	old := 0
	for _, e := range entries {
		if f := e.Record.Failure; f != nil && now-e.Record.PhaseAt < 2*time.Minute {
			kept--
		} else if now-e.Record.LaunchedBoot > 5*time.Minute {
			old++
		}
	}
	if kept > 16 || old > 1 {
		s.broken("%d directories of generations, %d of them old: %v", kept, old, names)
	}
	var size int64
	state := filepath.Join(s.root, ".state")
	if err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			fi, err := d.Info()
			if err != nil {
				return err
			}
			size += fi.Size()
			switch strings.TrimSuffix(filepath.Base(path), ".1") {
			case "t.log", "t.journal":
			default:
				s.broken("%s in the state directory", path)
			}
		}
		return nil
	}); err != nil {
		s.broken("%v", err)
	}
	// Two of each, and what a daemon writes before it looks.
	if size > 4*journal.MaxSize+8<<20 {
		s.broken("%d bytes of logs and journals", size)
	}
}

// alive are the daemons' processes of this run, zombies left aside.
func (s *soak) alive() (pids []int) {
	for _, p := range s.pids() {
		exe, err := os.Readlink("/proc/" + p + "/exe")
		if err == nil && (strings.HasPrefix(exe, s.bin+"/") || strings.HasPrefix(exe, s.dir+"/")) {
			pid, _ := strconv.Atoi(p)
			pids = append(pids, pid)
		}
	}
	return pids
}

// killRest ends what a failed run has left, whether it has a record or not.
func (s *soak) killRest() {
	for _, pid := range s.alive() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func descriptors(pid int) int {
	names, _ := os.ReadDir("/proc/" + itoa(pid) + "/fd")
	return len(names)
}

type inventory struct{ files, goroutines, children int }

// noMore waits until this process has no more than at first.
func (s *soak) noMore(before inventory) {
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		now := ourselves()
		if now.files <= before.files && now.goroutines <= before.goroutines && now.children <= before.children {
			return
		}
		if time.Now().After(end) {
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			files, _ := exec.Command("ls", "-l", "/proc/"+itoa(os.Getpid())+"/fd").Output()
			children, _ := exec.Command("ps", "-o", "pid,stat,etimes,args", "--ppid", itoa(os.Getpid())).Output()
			s.broken("this process has %+v, and had %+v at first\n%s\n%s\n%s", now, before, children, files, stacks.String())
			return
		}
	}
}

// ourselves is what this process has.
func ourselves() inventory {
	// A thread's children are those that it has forked (proc_tid_children(5)).
	children := 0
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, l := range lists {
		out, _ := os.ReadFile(l)
		children += len(bytes.Fields(out))
	}
	return inventory{descriptors(os.Getpid()), runtime.NumGoroutine(), children}
}
