//go:build amd64

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/lock"
)

// A scene is a command that is run again and again, each time with one call of one
// of its processes cut: the process is killed before it, or the call fails.
type scene struct {
	name   string
	target role

	reach   func(*testing.T, *world) // what the command finds
	command func(*world) *exec.Cmd

	// act is the command that counts, run when the first one has ended: only the
	// target's calls from then on do. nil: all of them do, until the command ends.
	act func(*world) *exec.Cmd

	// next is the dial afterwards, which succeeds; nil is "testprog dial".
	next func(*world)

	// keeps: who is queued is served, whatever call fails and whatever client is
	// killed.
	keeps bool

	// whole: the calls of the program's own start count as well, which are the same
	// in every scene; else those from the first on that is this module's.
	whole bool

	// follow: the command does not wait for the target, which is followed to the end
	// of its role.
	follow bool

	// keepless: nobody may have lived to link keep.
	keepless bool
}

// A cut is what is done in one run.
type cut struct {
	kill int // kill before this call of the target, from 1 on; 0: fail one

	nr    uint64
	errno syscall.Errno
	nth   int // of the calls of this number that can fail so, from 1 on

	about string // count only the calls whose description has this
	fatal bool   // kill before that call, too
}

// kills reports whether the target is killed.
func (c cut) kills() bool { return c.kill > 0 || c.fatal }

func (c cut) String() string {
	switch {
	case c.kill > 0:
		return "kill/" + strconv.Itoa(c.kill)
	case c.nth == 0:
		return "uncut"
	}
	return "fail/" + rows[c.nr].name + "/" + unix.ErrnoName(c.errno) + "/" + strconv.Itoa(c.nth)
}

// A failing is a way in which a call can fail.
type failing struct {
	nr    uint64
	errno syscall.Errno
}

// A run is what came of a cut.
type run struct {
	hit   string // the call that was cut, "" if none was
	calls int
	can   map[failing]int // how many calls could have failed so
	fine  bool            // the command succeeded all the same
	lives bool            // after a kill: the generation that current names does

	queued, served bool // somebody was queued at that moment, and was served
}

// TestSyscallSweep: I1 to I4 at every system call. Whatever call of a launching,
// upgrading or stopping client or of a daemon is the last one, and whichever fails
// in whatever way the manual knows: the next dial works, one generation lives,
// nobody holds the launch lock, nothing lies about, who was queued is served or
// told, and who failed was told why.
//
// With FASTBIND_LONG=1 every cut is made, else a sample; FASTBIND_SEED repeats one.
func TestSyscallSweep(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("FASTBIND_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal("FASTBIND_SEED:", err)
		}
	}
	long := os.Getenv("FASTBIND_LONG") == "1"
	if !long {
		t.Logf("FASTBIND_SEED=%d", seed)
	}
	// Whatever this process was started with is no matter of the SDK's here.
	for fd := 3; fd < 256; fd++ {
		unix.CloseOnExec(fd)
	}
	sum := &tally{scenes: map[string]*counts{}}
	t.Cleanup(func() { sum.print(t) })
	two := make(chan struct{}, 2)
	for i, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			two <- struct{}{}
			defer func() { <-two }()
			base := s.base(t)
			if long {
				s.all(t, base, sum)
			} else {
				s.sample(t, base, rand.New(rand.NewPCG(seed, uint64(i))), sum)
			}
		})
	}
}

// A tally counts for each scene.
type tally struct {
	mu     sync.Mutex
	scenes map[string]*counts
}

// counts are of the cuts that were made, and in the end of those of all scenes.
type counts struct{ kills, fails, fine, queued, served int }

func (n *counts) add(c cut, r run) {
	if r.hit == "" {
		return
	}
	if c.kill > 0 {
		n.kills++
	} else if n.fails++; r.fine {
		n.fine++
	}
	if r.queued {
		n.queued++
	}
	if r.served {
		n.served++
	}
}

func (n *counts) String() string {
	return fmt.Sprintf("%6d %6d %6d %6d %6d", n.kills, n.fails, n.fine, n.queued, n.served)
}

func (s *tally) put(sc scene, n counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scenes[sc.name] = &n
}

func (s *tally) print(t *testing.T) {
	const format = "%-34s %s"
	t.Logf(format, "", " kills  fails   fine queued served")
	var all counts
	for _, sc := range scenes {
		n := s.scenes[sc.name]
		if n == nil {
			continue
		}
		t.Logf(format, sc.name, n)
		all = counts{all.kills + n.kills, all.fails + n.fails, all.fine + n.fine, all.queued + n.queued, all.served + n.served}
	}
	t.Logf(format, "all", &all)
}

// base runs the scene uncut and learns what can be cut.
func (s scene) base(t *testing.T) run {
	base := s.run(t, cut{})
	if !base.fine || t.Failed() {
		t.Fatal("it fails uncut")
	}
	return base
}

// all makes every cut. The calls vary from run to run a little, as goroutines are
// scheduled, so each enumeration goes on until it meets nothing any more.
func (s scene) all(t *testing.T, base run, sum *tally) {
	var n counts
	defer func() { sum.put(s, n) }()
	each := func(expected int, nth func(int) cut) {
		for i := 1; ; i++ {
			c := nth(i)
			r, ran := s.cut(t, c)
			n.add(c, r)
			if r.hit == "" && i > expected && (ran || i > 300) {
				return
			}
		}
	}
	each(base.calls, func(i int) cut { return cut{kill: i} })
	for _, f := range sorted(base.can) {
		each(base.can[f], func(i int) cut { return cut{nr: f.nr, errno: f.errno, nth: i} })
	}
}

// sample makes a few cuts.
func (s scene) sample(t *testing.T, base run, r *rand.Rand, sum *tally) {
	const each = 2
	var n counts
	defer func() { sum.put(s, n) }()
	fs := sorted(base.can)
	for range each {
		f := fs[r.IntN(len(fs))]
		for _, c := range []cut{{kill: 1 + r.IntN(base.calls)}, {nr: f.nr, errno: f.errno, nth: 1 + r.IntN(base.can[f])}} {
			got, _ := s.cut(t, c)
			n.add(c, got)
		}
	}
}

// TestSweepFound: what the sweep has found once, by the call that was cut.
func TestSweepFound(t *testing.T) {
	for _, f := range found {
		t.Run(f.name, func(t *testing.T) {
			i := slices.IndexFunc(scenes, func(s scene) bool { return s.name == f.scene })
			if i < 0 {
				t.Fatal("no such scene")
			}
			r := scenes[i].run(t, f.cut)
			if r.hit == "" {
				t.Error("the call is not made any more")
			}
			if f.fine && !r.fine {
				t.Error("it failed")
			}
		})
	}
}

// TestLauncherDiesUnnoted: a launcher that is killed before it has noted the pid of a
// daemon that binds itself leaves one that the next launch meets, and waits for.
func TestLauncherDiesUnnoted(t *testing.T) {
	s := scene{name: "client that lets the daemon bind", target: role{0, 1}, command: dialLateBinder, keepless: true,
		next: func(w *world) { w.dial("-bind=daemon", "-run-late=300ms", "-bound=5s") }}
	r := s.run(t, cut{nr: unix.SYS_WRITE, errno: unix.ENOSPC, nth: 2, about: "/record)", fatal: true})
	if r.hit == "" {
		t.Error("the call is not made any more")
	}
}

func sorted(can map[failing]int) []failing {
	return slices.SortedFunc(maps.Keys(can), func(a, b failing) int {
		if a.nr != b.nr {
			return strings.Compare(rows[a.nr].name, rows[b.nr].name)
		}
		return int(a.errno) - int(b.errno)
	})
}

// cut is run as a test of its own; ran is false if -run leaves it out.
func (s scene) cut(t *testing.T, c cut) (r run, ran bool) {
	t.Run(c.String(), func(t *testing.T) {
		ran = true
		r = s.run(t, c)
	})
	return r, ran
}

// hangs is when a command that should have ended at its own deadline is killed.
const hangs = 90 * time.Second

// A cutter decides, in one run, which call is cut.
type cutter struct {
	w *world
	c cut

	begun   bool           // what is called from now on counts
	seen    int            // calls that could have failed as the cut says
	alike   map[string]int // calls by what they are about
	unknown map[uint64]bool
	queue   *queued // who connected at the moment of the cut, or nil
	run     run
}

// decide is called for each call of the target, on the tracer's thread.
func (k *cutter) decide(at call) deed {
	r, known := rows[at.nr]
	if !known && !killOnly[at.nr] && !k.unknown[at.nr] {
		k.unknown[at.nr] = true
		k.w.t.Errorf("system call %d has no row", at.nr)
	}
	var errs []syscall.Errno
	if known && (k.c == cut{} || !k.begun || k.c.nr == at.nr) {
		errs = k.w.ways(at, r)
	}
	if k.begun = k.begun || len(errs) > 0; !k.begun || k.run.hit != "" {
		return deed{}
	}
	k.run.calls++
	if k.c.kill > 0 {
		if k.run.calls < k.c.kill {
			return deed{}
		}
		k.hit(at)
		return deed{kill: true}
	}
	if len(errs) == 0 {
		return deed{}
	}
	what := k.w.describe(at)
	if k.alike[what] == twice {
		return deed{}
	}
	k.alike[what]++
	for _, e := range errs {
		k.run.can[failing{at.nr, e}]++
	}
	if at.nr != k.c.nr || !slices.Contains(errs, k.c.errno) || !strings.Contains(what, k.c.about) {
		return deed{}
	}
	if k.seen++; k.seen != k.c.nth {
		return deed{}
	}
	k.hit(at)
	if k.c.fatal {
		return deed{kill: true}
	}
	return deed{errno: k.c.errno, after: r.after}
}

func (k *cutter) hit(at call) {
	k.run.hit = k.w.describe(at)
	k.queue = k.w.queue("t")
}

// run runs the scene once with a cut and checks what came of it.
func (s scene) run(t *testing.T, c cut) run {
	w := newWorld(t)
	if s.reach != nil {
		s.reach(t, w)
	}
	k := &cutter{w: w, c: c, begun: s.whole, alike: map[string]int{}, unknown: map[uint64]bool{},
		run: run{can: map[failing]int{}}}
	out, status := s.play(t, w, k)
	r := k.run
	defer func() {
		if t.Failed() {
			t.Logf("cut: %s at %s\nsaid: %#x %s\n%s", c, r.hit, status, out, w.logs())
		}
	}()
	if s.target.depth == 0 && c.kills() && r.hit != "" {
		// Another thread may just have been about to end it.
		if status != 0 && (!status.Signaled() || status.Signal() != unix.SIGKILL) {
			t.Errorf("it was killed, and ended with %#x", status)
		}
	} else {
		if msg := said(out, status, c); msg != "" {
			t.Error(msg)
		}
		r.fine = status == 0
		if !r.fine && c.kill == 0 && spares(r.hit) {
			t.Error("a log or a journal that cannot be written failed it")
		}
	}
	s.after(t, w, c, &r, k.queue)
	return r
}

// play runs the scene's commands under the tracer. It returns the output and the
// wait status of the one that counts.
func (s scene) play(t *testing.T, w *world, k *cutter) (string, unix.WaitStatus) {
	tr, output, err := startTrace(s.command(w), w.dir, s.target, s.act != nil, k.decide)
	if err != nil {
		forbidden(t, err)
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(hangs, func() {
		t.Error("the command hangs")
		tr.kill()
	})
	<-tr.exited
	watchdog.Stop()
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(output); err != nil {
		t.Error(err)
	}
	out, status := strings.TrimSpace(string(text)), tr.status
	if s.act != nil {
		if status != 0 {
			t.Fatalf("before the act: %#x: %s", status, out)
		}
		tr.arm()
		cmd := s.act(w)
		out, err = w.output(cmd)
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		status = unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))
	}
	if s.act != nil || s.follow {
		select {
		case <-tr.gone:
		case <-time.After(lingers):
		}
	}
	tr.disarm()
	if k.c.kills() && s.target.depth > 0 && k.run.hit != "" {
		// Its descriptors answer until it is dead.
		select {
		case <-tr.gone:
		case <-time.After(deadline):
			t.Error("a killed process does not die")
		}
		e, ok := launch.Current(w.service("t"), w.generations("t"))
		k.run.lives = ok && e.Alive
	}
	if err := tr.end(); err != nil {
		t.Fatal(err)
	}
	return out, status
}

// twice is how many calls of one name about one file are made to fail: a path is
// verified again and again.
const twice = 2

// lingers is how long a daemon is followed that outlives what ends it.
const lingers = 200 * time.Millisecond

// spares reports whether a call is one whose failure fails nobody.
func spares(hit string) bool {
	return strings.HasSuffix(hit, ".journal)") || strings.HasSuffix(hit, ".log)") && !strings.HasPrefix(hit, "fstat(")
}

// said reports what is wrong with the end of a command: it succeeds, or says with a
// typed error what failed. One cut is no reason to wait until the deadline.
func said(out string, status unix.WaitStatus, c cut) string {
	switch {
	case status == 0:
		return ""
	case strings.HasPrefix(out, "fail typed") && !strings.Contains(out, "deadline=true"):
		return ""
	case strings.HasPrefix(out, "fastbind: ") && (status.ExitStatus() == 3 || status.ExitStatus() == 4 || status.ExitStatus() == 5):
		return "" // not running, failed, refused: see fastbind help exit-status
	case strings.HasPrefix(out, "fastbind: ") && status.ExitStatus() == 7 && c.errno == unix.ENOENT:
		return "" // it was told that there is no such service
	}
	return fmt.Sprintf("it ended with %#x and said %q", status, out)
}

// after checks the world after a cut.
func (s scene) after(t *testing.T, w *world, c cut, r *run, queue *queued) {
	if s.next != nil {
		s.next(w)
	} else {
		w.dial()
	}
	w.eventually("the launch lock is free", func() bool {
		held, err := lock.Held(w.service("t"))
		return !held && err == nil
	})
	w.oneOwner("t", s.keepless || strings.HasPrefix(r.hit, "linkat"))
	if queue != nil {
		kept := s.keeps || queue.generation == w.currentName("t")
		if c.kills() && s.target.depth > 0 {
			kept = kept && r.lives
		}
		r.queued, r.served = true, <-queue.answered
		if !r.served && kept {
			t.Error("who was queued was not served")
		}
	}
	w.noStrays()
	w.stoppable("t")
	for _, name := range w.litter("t") {
		t.Errorf("left behind: %s", name)
	}
}

// A queued connection was made at the moment of the cut, and has asked something.
type queued struct {
	generation string    // that current named
	answered   chan bool // whether it was, when its end has come
}

func (w *world) currentName(name string) string {
	s, _ := os.Readlink(filepath.Join(w.service(name), "current"))
	return s
}

// queue connects, if anybody listens.
func (w *world) queue(name string) *queued {
	conn, err := net.Dial("unix", filepath.Join(w.service(name), "sock"))
	if err != nil {
		return nil
	}
	q := &queued{w.currentName(name), make(chan bool, 1)}
	go func() {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(deadline))
		_, _ = io.WriteString(conn, "7\n")
		n, err := conn.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Error("who was queued hears nothing, not even the end")
		}
		q.answered <- n == 1
	}()
	return q
}

// noStrays waits until the owner is the only process of this world.
func (w *world) noStrays() {
	w.t.Helper()
	w.eventually("no process is left but the daemon's", func() bool {
		owner := -1
		if alive := w.living("t"); len(alive) == 1 {
			owner = alive[0].Record.PID
		}
		all := w.processes()
		return len(all) == 1 && all[0] == owner
	})
}

// stoppable reports an owner whose record is not enough to end it.
func (w *world) stoppable(name string) {
	w.t.Helper()
	for _, e := range w.living(name) {
		h, err := e.Open()
		if err != nil {
			w.t.Errorf("generation %d cannot be ended: %v", e.Record.Generation, err)
			continue
		}
		_ = h.Close()
	}
}

// processes are the living ones whose environment names this world.
func (w *world) processes() []int {
	names, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	var pids []int
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", n.Name(), "environ"))
		if err == nil && bytes.Contains(env, []byte(w.dir+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// litter are the files of a service and its state that nobody will use or remove.
func (w *world) litter(name string) (left []string) {
	owner := w.currentName(name)
	list := func(dir string) []os.DirEntry {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			w.t.Error(err)
		}
		return entries
	}
	for _, e := range list(w.service(name)) {
		switch {
		case e.Name() == "sock", e.Name() == "keep", e.Name() == "current":
		case e.IsDir():
			// The dead are kept for a while, for what they have to say.
			dir := filepath.Join(w.service(name), e.Name())
			if _, err := os.Stat(filepath.Join(dir, "record")); err != nil {
				left = append(left, dir+" (no record)")
			}
			for _, f := range list(dir) {
				if !slices.Contains([]string{"record", "life", "ctl"}, f.Name()) {
					left = append(left, filepath.Join(dir, f.Name()))
				}
			}
		default:
			left = append(left, filepath.Join(w.service(name), e.Name()))
		}
	}
	if owner == "" {
		left = append(left, "no current")
	}
	for _, e := range list(filepath.Join(w.root, ".state", "default")) {
		if !slices.Contains([]string{name + ".log", name + ".journal", name + ".record"}, e.Name()) {
			left = append(left, filepath.Join(w.root, ".state", "default", e.Name()))
		}
	}
	for _, e := range list(w.root) {
		if !slices.Contains([]string{"default", ".state", ".placed", ".alias"}, e.Name()) {
			left = append(left, filepath.Join(w.root, e.Name()))
		}
	}
	return left
}
