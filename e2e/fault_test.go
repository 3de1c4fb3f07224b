//go:build unix

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// A faultRow says how a launcher comes to a step, and what it leaves behind
// when it is killed before it.
type faultRow struct {
	// reach prepares a world in which the launcher meets the step.
	reach func(*testing.T, *world)
	verb  string   // of testprog, "dial" if empty
	args  []string // further arguments of the launcher
	skip  string   // why the step cannot be met in this mode
	alive bool     // a daemon lives afterwards

	// keepless: nobody may have lived to link keep. The daemon serves all the
	// same, and a deletion of sock costs its generation.
	keepless bool
}

func cold(*testing.T, *world) {}

// stale leaves the socket of a killed daemon.
func stale(_ *testing.T, w *world) {
	w.dial()
	w.kill9("t")
}

// nameless leaves a living daemon whose sock was deleted.
func nameless(t *testing.T, w *world) {
	w.dial()
	remove(t, filepath.Join(w.service("t"), "sock"))
}

// busy lets somebody else hold the launch lock.
func busy(t *testing.T, w *world) {
	stale(t, w)
	f, err := os.Open(w.service("t"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := lock.Try(f); !ok {
		t.Fatal("the launch lock is held", err)
	}
	t.Cleanup(func() { _ = f.Close() })
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// brokerRows has one row for each launch step of a broker-owned bind. A new
// step without a row fails TestFaultMatrix.
var brokerRows = map[launch.Step]faultRow{
	launch.StepConnect:     {reach: cold, verb: "start"},
	launch.StepPause:       {reach: busy},
	launch.StepLock:        {reach: cold},
	launch.StepVerifyDir:   {reach: stale},
	launch.StepReconnect:   {reach: stale},
	launch.StepProbeKeep:   {reach: stale},
	launch.StepRestore:     {reach: nameless, alive: true},
	launch.StepSucceed:     {skip: "only a successor asks it"},
	launch.StepOwn:         {skip: "only a standing broker asks it"},
	launch.StepAdmit:       {reach: stale},
	launch.StepExecutable:  {reach: stale},
	launch.StepPrepare:     {reach: stale},
	launch.StepUnlink:      {reach: stale},
	launch.StepBind:        {reach: stale},
	launch.StepVerifyBind:  {reach: stale},
	launch.StepKeep:        {reach: stale},
	launch.StepCurrent:     {reach: stale},
	launch.StepListen:      {reach: stale},
	launch.StepSpawn:       {reach: stale},
	launch.StepAwaitBound:  {skip: "the broker binds: there is nothing to wait for"},
	launch.StepCloseCopies: {reach: stale, alive: true},
	launch.StepAbandon:     {skip: "reached only by a launch that fails; the daemon's rows have it"},
	launch.StepUnlock:      {reach: stale, alive: true},
	launch.StepDone:        {reach: stale, alive: true},
}

// outdated leaves a daemon of another build than the tool of the world is by now.
func outdated(t *testing.T, w *world) {
	tool := filepath.Join(w.dir, "tool")
	w.upgrade(tool, 1, true)
	w.mustTool(tool, "dial", "-on-version=replace")
	w.upgrade(tool, 2, false)
}

// contended is outdated with somebody else at the launch lock.
func contended(t *testing.T, w *world) {
	outdated(t, w)
	f, err := os.Open(w.service("t"))
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := lock.Try(f); !ok {
		t.Fatal("the launch lock is held", err)
	}
	t.Cleanup(func() { _ = f.Close() })
}

const notOfSuccessor = "a successor touches no name"

// successorRows are those of a client that starts a successor.
var successorRows = map[launch.Step]faultRow{
	launch.StepConnect:     {skip: "a dial connects by itself; its launch begins with the lock"},
	launch.StepPause:       {reach: contended},
	launch.StepLock:        {reach: outdated, alive: true},
	launch.StepVerifyDir:   {reach: outdated, alive: true},
	launch.StepReconnect:   {skip: notOfSuccessor},
	launch.StepProbeKeep:   {skip: notOfSuccessor},
	launch.StepRestore:     {skip: notOfSuccessor},
	launch.StepSucceed:     {reach: outdated, alive: true},
	launch.StepOwn:         {skip: "only a standing broker asks it"},
	launch.StepAdmit:       {reach: outdated, alive: true},
	launch.StepExecutable:  {reach: outdated, alive: true},
	launch.StepPrepare:     {reach: outdated, alive: true},
	launch.StepUnlink:      {skip: notOfSuccessor},
	launch.StepBind:        {skip: notOfSuccessor},
	launch.StepVerifyBind:  {skip: notOfSuccessor},
	launch.StepKeep:        {skip: notOfSuccessor},
	launch.StepCurrent:     {skip: notOfSuccessor},
	launch.StepListen:      {skip: notOfSuccessor},
	launch.StepSpawn:       {reach: outdated, alive: true},
	launch.StepAwaitBound:  {skip: notOfSuccessor},
	launch.StepCloseCopies: {reach: outdated, alive: true},
	launch.StepAbandon:     {skip: "reached only by a launch that fails; the daemon's rows have it"},
	launch.StepUnlock:      {reach: outdated, alive: true},
	launch.StepDone:        {reach: outdated, alive: true},
}

// TestFaultMatrixOfSuccession: I3, I4. An upgrader killed before any of its steps
// leaves the old daemon serving, or a successor that takes over; the next client
// of the new build is served by that.
func TestFaultMatrixOfSuccession(t *testing.T) {
	for _, step := range launch.Steps() {
		row, ok := successorRows[step]
		if !ok {
			t.Errorf("step %q has no row for a successor", step)
			continue
		}
		t.Run(strings.ReplaceAll(step.String(), " ", "-"), func(t *testing.T) {
			if row.skip != "" {
				t.Skip(row.skip)
			}
			w := newWorld(t)
			row.reach(t, w)
			tool := filepath.Join(w.dir, "tool")
			cmd := w.command("testprog", "dial", "-on-version=replace", "-kill-at="+itoa(int(step)))
			cmd.Path, cmd.Args[0] = tool, tool
			out, err := w.output(cmd)
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the upgrader did not meet step %q: %v: %s", step, err, out)
			}
			w.dial() // whichever build serves, it serves
			if step == launch.StepPause {
				return // somebody else holds the lock, and will until the test's end
			}
			// A successor that lives holds it for the moment of taking over.
			w.eventually("the launch lock is free", func() bool {
				held, err := lock.Held(w.service("t"))
				return !held && err == nil
			})
			w.untilBuild(tool, 2)
			w.oneOwner("t", false)
		})
	}
}

// daemonRows are those of a daemon that binds itself.
var daemonRows = map[launch.Step]faultRow{
	launch.StepConnect:     {reach: cold, verb: "start"},
	launch.StepPause:       {reach: busy},
	launch.StepLock:        {reach: cold},
	launch.StepVerifyDir:   {reach: stale},
	launch.StepReconnect:   {reach: stale},
	launch.StepProbeKeep:   {reach: stale},
	launch.StepRestore:     {reach: nameless, alive: true},
	launch.StepSucceed:     {skip: "only a successor asks it"},
	launch.StepOwn:         {skip: "only a standing broker asks it"},
	launch.StepAdmit:       {reach: stale},
	launch.StepExecutable:  {reach: stale},
	launch.StepPrepare:     {reach: stale},
	launch.StepUnlink:      {reach: stale},
	launch.StepBind:        {skip: "the daemon binds"},
	launch.StepVerifyBind:  {skip: "the daemon binds"},
	launch.StepKeep:        {reach: stale, alive: true, keepless: true},
	launch.StepCurrent:     {reach: stale},
	launch.StepListen:      {skip: "the daemon listens"},
	launch.StepSpawn:       {reach: stale},
	launch.StepAwaitBound:  {reach: stale, alive: true, keepless: true},
	launch.StepCloseCopies: {reach: stale, alive: true},
	launch.StepAbandon:     {reach: cold, args: []string{"-fail=bind"}},
	launch.StepUnlock:      {reach: stale, alive: true},
	launch.StepDone:        {reach: stale, alive: true},
}

// TestFaultMatrix: R9, R37, I4. A launcher killed before any of its steps leaves
// nothing that the next dial trips over: it succeeds, there is one owner, and no
// lock outlives its holder.
func TestFaultMatrix(t *testing.T) {
	for mode, rows := range map[string]map[launch.Step]faultRow{"broker": brokerRows, "daemon": daemonRows, "further": furtherRows()} {
		for _, step := range launch.Steps() {
			row, ok := rows[step]
			if !ok {
				t.Errorf("step %q has no row for bind %q", step, mode)
				continue
			}
			t.Run(mode+"/"+strings.ReplaceAll(step.String(), " ", "-"), func(t *testing.T) {
				if row.skip != "" {
					t.Skip(row.skip)
				}
				killAtStep(t, mode, step, row)
			})
		}
	}
}

const (
	notOfHolder   = "a broker that holds makes no generation"
	notOfLauncher = "its listener is there already"
)

// holdRows has one row for each launch step of a standing broker that holds.
var holdRows = map[launch.Step]faultRow{
	launch.StepConnect:     {skip: "a broker begins with the lock"},
	launch.StepPause:       {reach: busy},
	launch.StepLock:        {reach: cold},
	launch.StepVerifyDir:   {reach: stale},
	launch.StepReconnect:   {reach: stale},
	launch.StepProbeKeep:   {reach: stale},
	launch.StepRestore:     {reach: nameless, alive: true},
	launch.StepSucceed:     {skip: "only a successor asks it"},
	launch.StepOwn:         {skip: notOfHolder},
	launch.StepAdmit:       {skip: notOfHolder},
	launch.StepExecutable:  {skip: notOfHolder},
	launch.StepPrepare:     {skip: notOfHolder},
	launch.StepUnlink:      {reach: stale},
	launch.StepBind:        {reach: stale},
	launch.StepVerifyBind:  {reach: stale},
	launch.StepKeep:        {reach: stale},
	launch.StepCurrent:     {skip: notOfHolder},
	launch.StepListen:      {reach: stale},
	launch.StepSpawn:       {skip: notOfHolder},
	launch.StepAwaitBound:  {skip: notOfHolder},
	launch.StepCloseCopies: {skip: notOfHolder},
	launch.StepAbandon:     {skip: "reached only if a step of holding fails, which nothing makes it do here"},
	launch.StepUnlock:      {reach: stale},
	launch.StepDone:        {reach: stale},
}

// activateRows are those of a broker that launches for who waits.
var activateRows = map[launch.Step]faultRow{
	launch.StepConnect:     {skip: "who has the listener does not connect to it"},
	launch.StepPause:       {skip: "reached only while somebody else has the lock; holdRows has it"},
	launch.StepLock:        {reach: stale},
	launch.StepVerifyDir:   {reach: stale},
	launch.StepReconnect:   {skip: "who has the listener does not connect to it"},
	launch.StepProbeKeep:   {skip: "who has the listener does not connect to it"},
	launch.StepRestore:     {skip: "it is part of the look who owns"},
	launch.StepSucceed:     {skip: "only a successor asks it"},
	launch.StepOwn:         {reach: stale},
	launch.StepAdmit:       {reach: stale},
	launch.StepExecutable:  {reach: stale},
	launch.StepPrepare:     {reach: stale},
	launch.StepUnlink:      {skip: notOfLauncher},
	launch.StepBind:        {skip: notOfLauncher},
	launch.StepVerifyBind:  {skip: notOfLauncher},
	launch.StepKeep:        {skip: notOfLauncher},
	launch.StepCurrent:     {reach: stale},
	launch.StepListen:      {skip: notOfLauncher},
	launch.StepSpawn:       {reach: stale},
	launch.StepAwaitBound:  {skip: notOfLauncher},
	launch.StepCloseCopies: {reach: stale, alive: true},
	launch.StepAbandon:     {skip: "reached only by a launch that fails; the daemon's rows have it"},
	launch.StepUnlock:      {reach: stale, alive: true},
	launch.StepDone:        {reach: stale, alive: true},
}

// TestFaultMatrixOfBroker: R9, R37, I4. A standing broker that is killed before any of
// its steps, while it binds and while it launches, leaves nothing that the next dial
// trips over, and another broker holds after it.
func TestFaultMatrixOfBroker(t *testing.T) {
	for mode, rows := range map[string]map[launch.Step]faultRow{"hold": holdRows, "activate": activateRows} {
		for _, step := range launch.Steps() {
			row, ok := rows[step]
			if !ok {
				t.Errorf("step %q has no row to %s", step, mode)
				continue
			}
			t.Run(mode+"/"+strings.ReplaceAll(step.String(), " ", "-"), func(t *testing.T) {
				if row.skip != "" {
					t.Skip(row.skip)
				}
				killBrokerAtStep(t, mode == "activate", step, row)
			})
		}
	}
}

func killBrokerAtStep(t *testing.T, activates bool, step launch.Step, row faultRow) {
	w := newWorld(t)
	row.reach(t, w)
	args := []string{"-kill-at=" + itoa(int(step))}
	if activates {
		args = append(args, "-second")
	}
	broker := w.startBroker(args...)
	if activates {
		w.eventually("the broker holds", func() bool { return w.holds("t") })
		// It says that it holds before anybody can connect.
		w.eventually("the broker listens", func() bool {
			conn, err := net.Dial("unix", filepath.Join(w.service("t"), "sock"))
			if err == nil {
				t.Cleanup(func() { _ = conn.Close() })
			}
			return err == nil
		})
	}
	err := broker.cmd.Wait()
	if ws, ok := broker.cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the broker did not meet step %q: %v", step, err)
	}
	if step == launch.StepPause {
		return // somebody else holds the lock, and will until the test's end
	}
	if held, err := lock.Held(w.service("t")); held || err != nil {
		t.Errorf("the launch lock outlives its holder (%v)", err)
	}
	if w.holds("t") {
		t.Error("a broker that is dead holds")
	}
	pid := w.dial()
	if again := w.dial(); again != pid {
		t.Errorf("two daemons answer: %s and %s", pid, again)
	}
	w.oneOwner("t", row.keepless)

	// The next broker holds whom it finds: that one's end is no gap.
	next := w.startBroker()
	w.eventually("another broker holds", func() bool { return w.holds("t") })
	w.kill9("t")
	if again := w.dial(); again == pid {
		t.Errorf("%s answers after its death", pid)
	}
	if out, err := next.finish(); err != nil {
		t.Errorf("the broker ended with %v: %s", err, out)
	}
}

// startBroker starts a standing broker that holds the service t.
func (w *world) startBroker(args ...string) *client {
	w.t.Helper()
	c := w.startCommand(w.command("standing", append(args, w.dir, filepath.Join(w.bin, "testprog"), "daemon")...))
	w.t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// holds reports whether a living broker has said that it holds the service's endpoint.
func (w *world) holds(name string) bool { return launch.Holder(w.service(name)) != "" }

func killAtStep(t *testing.T, mode string, step launch.Step, row faultRow) {
	w := newWorld(t)
	bind := "-bind=" + mode
	if mode == "further" {
		bind = "-bind=broker"
		w.dials = furtherDials(t)
	}
	row.reach(t, w)
	verb := row.verb
	if verb == "" {
		verb = "dial"
	}
	args := slices.Concat([]string{verb, bind, "-kill-at=" + itoa(int(step))}, w.dials, row.args)
	cmd := w.command("testprog", args...)
	out, err := w.output(cmd)
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the launcher did not meet step %q: %v: %s", step, err, out)
	}
	if step == launch.StepPause {
		return // somebody else holds the lock, and will until the test's end
	}
	if held, err := lock.Held(w.service("t")); held || err != nil {
		t.Errorf("the launch lock outlives its holder (%v)", err)
	}
	pid := w.dial(bind)
	if again := w.dial(bind); again != pid {
		t.Errorf("two daemons answer: %s and %s", pid, again)
	}
	w.oneOwner("t", row.keepless)
	if mode == "further" {
		w.further("t", pid)
	}
	if len(w.living("t")) == 0 && row.alive {
		t.Error("nobody lives")
	}
	for _, e := range w.generations("t") {
		if e.Record.Phase == record.Launching && e.Alive {
			t.Errorf("generation %d is launching for ever", e.Number)
		}
	}
}

// oneOwner waits until the generation at the endpoint is the only living one.
func (w *world) oneOwner(name string, keepless bool) {
	w.t.Helper()
	w.eventually("one living generation", func() bool { return len(w.living(name)) == 1 })
	sock, err := endpoint.Inode(filepath.Join(w.service(name), "sock"))
	if err != nil {
		w.t.Fatal(err)
	}
	keep, err := endpoint.Inode(filepath.Join(w.service(name), "keep"))
	if !(keepless && os.IsNotExist(err)) && keep != sock {
		w.t.Errorf("keep is %v, sock is %v: %v", keep, sock, err)
	}
	e, ok := launch.Current(w.service(name), w.generations(name))
	if !ok || !e.Alive {
		w.t.Errorf("current does not name the living generation: %+v", e)
	}
	if _, err := os.Lstat(filepath.Join(w.service(name), "new")); !os.IsNotExist(err) {
		w.t.Errorf("a temporary name is left: %v", err)
	}
}

// TestDeletions: R6, R7, R11. Whoever deletes names, directories or the root:
// established connections are never cut, new dials work, the daemon whose names
// are gone for good leaves when its connections have ended.
func TestDeletions(t *testing.T) {
	for _, c := range []struct {
		name     string
		paths    func(*world) []string
		stranded bool // another daemon takes the place
		late     bool // once it has noticed
	}{
		{"sock", func(w *world) []string { return []string{w.service("t") + "/sock"} }, false, false},
		{"keep", func(w *world) []string { return []string{w.service("t") + "/keep"} }, false, false},
		{"both names", func(w *world) []string { return []string{w.service("t") + "/sock", w.service("t") + "/keep"} }, true, false},
		{"service directory", func(w *world) []string { return []string{w.service("t")} }, true, false},
		{"instance directory", func(w *world) []string { return []string{filepath.Dir(w.service("t"))} }, true, false},
		{"root", func(w *world) []string { return []string{w.root} }, true, false},
		{"generation's directory", func(w *world) []string { return []string{w.living("t")[0].Dir} }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			pid := w.dial()
			old, err := w.living("t")[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			var loops []*client
			for range 8 {
				l := w.startClient("loop")
				if line := l.line(); line != "looping" {
					t.Fatalf("a loop said %q", line)
				}
				loops = append(loops, l)
			}
			for _, p := range c.paths(w) {
				remove(t, p)
			}
			if c.late {
				w.eventually("another daemon answers", func() bool { return w.dial() != pid })
			}
			next := w.dial()
			if (next != pid) != c.stranded {
				t.Errorf("daemon %s answered before, %s after", pid, next)
			}
			if again := w.dial(); again != next {
				t.Errorf("daemons %s and %s answer now", next, again)
			}
			if !old.Alive() {
				t.Error("a daemon left while it had connections")
			}
			for _, l := range loops {
				if out, err := l.finish(); err != nil || !strings.HasPrefix(out, "ok") {
					t.Errorf("a loop on an established connection was cut: %v: %s", err, out)
				}
			}
			if c.stranded {
				w.await(old) // it notices by itself
				// and writes nothing into the record of who took its place
				if r := w.living("t")[0].Record; r.Phase != record.Ready {
					t.Errorf("the record of the living daemon says %s", r.Phase)
				}
			}
			w.oneOwner("t", c.name == "keep")
		})
	}
}

// TestForeignProcessesAreLeftAlone: R10. A record of another boot, or one whose
// pid is a stranger's by now, blocks nobody and gets nobody killed.
func TestForeignProcessesAreLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines func(stranger int) []record.Line
	}{
		{"recycled pid", func(pid int) []record.Line {
			return []record.Line{record.Int("pid", pid), {Key: "start", Value: "12345"}}
		}},
		{"changed boot id", func(pid int) []record.Line {
			id, err := proc.Of(pid)
			if err != nil {
				t.Fatal(err)
			}
			return []record.Line{record.Int("pid", pid), record.Int("start", id.Start), {Key: "boot-id", Value: "00000000-dead-beef-0000-000000000000"}}
		}},
		{"unknown pid namespace", func(pid int) []record.Line {
			id, err := proc.Of(pid)
			if err != nil {
				t.Fatal(err)
			}
			return []record.Line{record.Int("pid", pid), record.Int("start", id.Start), {Key: "pid-namespace"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			stale(t, w)
			stranger := w.startClient("dial", "-gate")
			pid := stranger.cmd.Process.Pid
			dir := w.generations("t")[0].Dir
			if err := record.Append(filepath.Join(dir, record.FileName), c.lines(pid)...); err != nil {
				t.Fatal(err)
			}
			if out, err := w.run("stop"); err == nil {
				t.Errorf("stop found something to stop: %s", out)
			}
			if out := w.must("status"); strings.HasPrefix(out, "ready") {
				t.Errorf("a stranger is taken for the daemon: %s", out)
			}
			w.dial()
			if w.execs() != 2 {
				t.Errorf("%d execs, want 2", w.execs())
			}
			if out, err := stranger.finish(); err != nil {
				t.Errorf("the stranger was harmed: %v: %s", err, out)
			}
		})
	}
}

// TestStartedByHand: R7. Two daemons started by hand are one daemon and one that
// is told so; a launched one and one by hand as well.
func TestStartedByHand(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		a, b := w.startClient("daemon", "-by-hand"), w.startClient("daemon", "-by-hand")
		w.eventually("a daemon answers", func() bool { return len(w.living("t")) == 1 && w.living("t")[0].Record.Phase == record.Ready })
		winner, loser := a, b
		if w.living("t")[0].Record.PID == b.cmd.Process.Pid {
			winner, loser = b, a
		}
		// It may be late, so it is waited for: after the stop it would be no loser.
		if out, err := loser.finish(); err == nil || !strings.Contains(out, "already bound") {
			t.Fatalf("the loser was not told why: %v: %s", err, out)
		}
		out, err := w.run("daemon", "-by-hand")
		if err == nil || !strings.Contains(out, "already bound") {
			t.Fatalf("a third starter: %v: %s", err, out)
		}
		w.must("stop")
		if out, err := winner.finish(); err != nil {
			t.Fatalf("the winner was stopped: %v: %s", err, out)
		}
	}
	w.dial()
	if out, err := w.run("daemon", "-by-hand"); err == nil || !strings.Contains(out, "already bound") {
		t.Errorf("by hand beside a launched one: %v: %s", err, out)
	}
}
