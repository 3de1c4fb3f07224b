package limit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

const (
	// maxPIDs bounds the processes that an error names.
	maxPIDs = 16

	// maxLeftovers bounds what one Sweep removes of a kind.
	maxLeftovers = 1000

	// reasonWithin bounds Reason: a failure is to be told promptly.
	reasonWithin = time.Second
)

// PopulatedError is the answer of Remove for a place that is not empty: the
// daemon is gone, others that it started are not.
type PopulatedError struct {
	Place Place
	PIDs  []int // some of them, at most 16; as this process sees them
}

func (e *PopulatedError) Error() string {
	pids := make([]string, len(e.PIDs))
	for i, pid := range e.PIDs {
		pids[i] = strconv.Itoa(pid)
	}
	return fmt.Sprintf("processes are left in %q: %s", e.Place.Cgroup, cmp.Or(strings.Join(pids, " "), "not seen from here"))
}

// Claim finds out what this process may limit others with, and takes it: it asks
// the managers, in their order, enables the controllers that are needed in a cgroup
// around or of its own, where it may, and leaves its own one for another below if it
// is alone in there and could not do so otherwise. Call it at start and when a
// manager or a place has failed, from one goroutine at a time.
//
// It blocks for at most 5 s for each manager, and no longer than ctx lives. There
// is no error: what is not available says why.
func Claim(ctx context.Context, managers []Manager) Available {
	var a Available
	claimScope(ctx, managers, &a)
	claimCgroup(&a)
	rlimits(&a)
	return a
}

func claimScope(ctx context.Context, managers []Manager, a *Available) {
	whys := make([]string, 0, len(managers))
	for _, m := range managers {
		version, err := ask(ctx, m)
		if err == nil {
			a.Manager, a.Version = m, version
			return
		}
		whys = append(whys, err.Error())
	}
	a.Scope.Why = "no systemd manager answers"
	if len(whys) > 0 {
		a.Scope.Why += " (" + strings.Join(whys, "; ") + ")"
	}
}

func ask(ctx context.Context, m Manager) (version int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	c, err := m.open(ctx)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if version, err = c.version(ctx); err != nil {
		err = fmt.Errorf("%s: %w", m.Address, err)
	}
	return version, err
}

// Enforcement is the limits of one generation, from before its fork until nothing
// is left of it. Its methods are called in the order of the package comment, by
// one goroutine, but Reason and Kill at any time after Admit.
type Enforcement struct {
	name   string
	wanted Wanted
	found  Available
	plan   Plan // the last one
	place  Place

	gate  *os.File // write end, until Admit
	stdin *os.File // read end, until Admit
	into  *os.File // the cgroup's directory, until Admit; nil if there is none

	watch sync.WaitGroup // the goroutine that reads events while the cgroup exists
	stop  chan struct{}  // closed by Remove

	mu   sync.Mutex // guards seen
	seen events
}

// Prepare makes what the fork of a daemon needs, for a place called name (see
// [Name]): the gate, and the place if it is to be a cgroup of our own. The error is
// a *[definition.Invalid], or the system is out of descriptors. The caller calls
// Remove in the end, whatever happened.
func Prepare(name string, w Wanted, found Available) (*Enforcement, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if !validName(name) {
		return nil, &definition.Invalid{Field: "name of a place", Value: name, Reason: "it is no result of Name"}
	}
	e := &Enforcement{name: name, wanted: w, found: found, plan: Decide(w, found), stop: make(chan struct{})}
	if !gated || w == (Wanted{}) {
		return e, nil
	}
	var err error
	if e.stdin, e.gate, err = os.Pipe(); err != nil {
		return nil, err
	}
	if e.plan.Place == Cgroup {
		if err := e.makeCgroup(); err != nil {
			e.fail(Cgroup, err)
			e.plan = Decide(w, e.found)
		}
	}
	return e, nil
}

func (e *Enforcement) makeCgroup() (err error) {
	e.place, e.into, err = makeCgroup(e.found.Dir, e.name, e.wanted, e.found.Cgroup.Lacks)
	return err
}

// fail notes that a place does not work, and gives back what was made of it.
func (e *Enforcement) fail(by Mechanism, err error) {
	e.discard(e.place)
	e.place = Place{}
	e.found = e.found.without(by, fmt.Sprintf("no %s: %v", by, err))
}

// Into is the descriptor of the cgroup that the fork should be born in, for
// CgroupFD of [syscall.SysProcAttr] with UseCgroupFD: it costs nothing, while Admit
// moves a fork in milliseconds. -1 if there is none. The kernel has it since 5.7; a
// fork that fails with it can be tried without. It is closed by Admit or Remove.
func (e *Enforcement) Into() int {
	if e.into == nil {
		return -1
	}
	return int(e.into.Fd())
}

// Gated says whether the fork must run Wrap's command or Script, with Stdin: the
// daemon is executed when Admit has let it through, and not before.
func (e *Enforcement) Gated() bool { return e.gate != nil }

// Stdin is what descriptor 0 of the fork must be; nil: what it would be anyway. It
// stays the Enforcement's and is closed by Admit or Remove. The daemon itself
// gets the null device.
func (e *Enforcement) Stdin() *os.File { return e.stdin }

// gateScript waits for the launcher's word. dash and bash read a byte at a time, so
// nothing is taken that would be the daemon's.
const gateScript = `word=
read -r word || :
[ "$word" = go ] || {
	echo 'fastbind: not executed: its launcher left before the limits were in force' >&2
	exit 126
}
unset word
exec </dev/null
`

// Script is the step between fork and exec as lines for a POSIX shell, "" if there
// is none: for a launcher whose forks go through a shell anyway. They go last, right
// before its exec, so that no soft limit is set after them.
func (e *Enforcement) Script() string {
	if e.Gated() {
		return gateScript + script(e.plan)
	}
	return script(e.plan)
}

// Wrap returns a command that takes the step and then becomes the one given, by
// exec in the same process; the one given itself if there is no step. path is
// absolute, and becomes argv[0], for a shell sets no other. The program's own link of the kernel, /proc/self/exe, would be the shell's, so it is
// named by this process's pid: it must live until the daemon is executed, which
// Admit waits for anyway.
func (e *Enforcement) Wrap(path string, argv []string) (string, []string) {
	s := e.Script()
	if s == "" {
		return path, argv
	}
	if path == "/proc/self/exe" {
		path = "/proc/" + strconv.Itoa(os.Getpid()) + "/exe"
	}
	return "/bin/sh", append([]string{"sh", "-c", s + `exec "$@"`, "sh", path}, argv[1:]...)
}

// Admit puts the fork in its place and under its limits, and lets it through to
// its exec, whatever could not be had: the report says that. It blocks for at most
// 5 s for a manager, and no longer than ctx lives; what ctx cuts short is not in
// force. The error says that the fork has died before; the report is that of what
// was tried.
func (e *Enforcement) Admit(ctx context.Context, pid int) (Report, error) {
	if e.wanted == (Wanted{}) {
		return nil, nil
	}
	if !e.Gated() {
		return e.plan.Report, nil
	}
	defer e.closeGate()
	for done := false; !done; {
		e.plan = Decide(e.wanted, e.found)
		done = e.put(ctx, pid)
	}
	e.setRlimits(pid)
	_, err := e.gate.WriteString("go\n")
	if err != nil {
		return e.plan.Report, fmt.Errorf("the process %d ended before it was let through to its program: %w", pid, err)
	}
	e.follow()
	return e.plan.Report, nil
}

// put tries the place of the plan. If that fails it notes so in what was found and
// says false: decide again.
func (e *Enforcement) put(ctx context.Context, pid int) bool {
	by := e.plan.Place
	if by == None {
		return true
	}
	var err error
	switch {
	case by == Scope && ctx.Err() != nil:
		err = ctx.Err()
	case by == Scope:
		e.place, err = e.found.Manager.startScope(ctx, e.name, e.wanted, e.found.Version, pid)
	default:
		if e.place.By == None {
			err = e.makeCgroup()
		}
		if err == nil {
			err = enter(e.place, pid)
		}
	}
	if err == nil {
		// What counts is where the process is, by the path that is seen from here.
		var in string
		if in, err = where(pid); err == nil && path.Base(in) != e.place.Name {
			err = fmt.Errorf("process %d is in the cgroup %q, not in %q", pid, in, e.place.Name)
		} else if err == nil {
			e.place.Cgroup = in
		}
	}
	if err != nil {
		e.fail(by, err)
		return false
	}
	actual, lacks := e.inForce(pid)
	for k, why := range e.found.place(by).Lacks {
		if lacks[k] != "" {
			lacks[k] = why // it was known before, and why
		}
	}
	e.found = e.found.lacking(by, lacks)
	e.plan = Decide(e.wanted, e.found)
	for i := range e.plan.Report {
		if n, ok := actual[e.plan.Report[i].Kind]; ok {
			e.plan.Report[i].Actual = n // the kernel rounds
		}
	}
	return true
}

// inForce reads what the kernel has in the place of a process, 0 for one that is
// dead: actual is what is in force, and lacks says of everything else why it is not.
func (e *Enforcement) inForce(pid int) (actual map[Kind]int64, lacks map[Kind]string) {
	actual, lacks, err := readBack(e.place, e.wanted)
	if err == nil && pid > 0 {
		var in string
		if in, err = where(pid); err == nil && !below(in, e.place.Cgroup) {
			err = fmt.Errorf("process %d has left %q for %q", pid, e.place.Cgroup, in)
		}
	}
	var mine string
	if err == nil {
		mine, err = where(os.Getpid())
	}
	if err != nil {
		why := err.Error()
		return nil, map[Kind]string{Own: why, Memory: why, Tasks: why, CPUWeight: why}
	}
	if ok, why := Survives(e.place.Cgroup, mine); ok {
		actual[Own] = 1
	} else {
		lacks[Own] = why
	}
	return actual, lacks
}

// discard removes what a failed attempt may have left.
func (e *Enforcement) discard(p Place) {
	switch p.By {
	case Scope:
		// It ends with its only process, or is empty already. Its failure is
		// nobody's news: the report has it.
		ctx, cancel := context.WithTimeout(context.Background(), reasonWithin)
		defer cancel()
		_ = e.found.Manager.resetScope(ctx, p.Name)
	case Cgroup:
		_ = removeDir(p)
	}
}

// setRlimits sets the resource limits of the plan and notes what could not be set.
func (e *Enforcement) setRlimits(pid int) {
	for i := range e.plan.Report {
		r := &e.plan.Report[i]
		if r.By != Rlimit {
			continue
		}
		if err := setRlimit(pid, r.Kind, r.Actual); err != nil {
			r.By, r.Force, r.Actual = None, Not, 0
			r.Reason = strings.TrimPrefix(r.Reason+"; "+err.Error(), "; ")
		}
	}
}

// Place is where the daemon was put, to be kept for Adopt; zero before Admit and
// if there is none.
func (e *Enforcement) Place() Place { return e.place }

// Report is that of Admit or Adopt; before, what is intended.
func (e *Enforcement) Report() Report { return e.plan.Report }

// Adopt takes up the limits of a daemon that lives, or has died, and was launched
// by another broker: place is what that one has kept of it, and pid the daemon, 0
// if it is dead. The report says what the kernel has now. It does not block beyond
// a few reads.
func Adopt(p Place, pid int, w Wanted, found Available) *Enforcement {
	e := &Enforcement{name: p.Name, wanted: w, found: found, place: p, stop: make(chan struct{})}
	if p.By == Scope && found.Scope.Why == "" && found.Manager.System != p.System {
		e.found.Scope.Why = "its scope is another manager's"
	}
	var actual map[Kind]int64
	var lacks map[Kind]string
	if p.By != None {
		actual, lacks = e.inForce(pid)
	}
	for _, k := range []Kind{Own, Memory, Tasks, CPUWeight, OpenFiles} {
		n := w.value(k)
		if n == 0 {
			continue
		}
		r := Entry{Kind: k, Wanted: n, Reason: lacks[k]}
		if have, ok := actual[k]; ok {
			r.By, r.Actual, r.Force = p.By, have, InForce
			if have > n { // the kernel rounds down
				r.Force, r.Reason = Partly, "it was launched with another limit"
			}
		} else if (k == Memory || k == OpenFiles) && pid > 0 {
			r = rlimitEntry(r, pid)
		}
		if r.Force == Not {
			r.Reason = cmp.Or(r.Reason, "it was launched without, or is dead")
		}
		e.plan.Report = append(e.plan.Report, r)
	}
	e.follow()
	return e
}

// rlimitEntry fills r with the hard limit of a living process, if it has one that
// is not above what is wanted.
func rlimitEntry(r Entry, pid int) Entry {
	n, err := rlimitOf(pid, r.Kind)
	switch {
	case err != nil:
		r.Reason = err.Error()
	case n == 0 || n > r.Wanted:
	case r.Kind == Memory:
		r.By, r.Actual, r.Force = Rlimit, n, Partly
		r.Reason = strings.TrimSuffix(whyOnlyData+"; "+r.Reason, "; ")
	default:
		r.By, r.Actual, r.Force = Rlimit, n, InForce
		if n < r.Wanted {
			r.Force, r.Reason = Partly, "its hard limit is lower"
		}
	}
	return r
}

// follow reads the counters of a scope while its cgroup exists: the manager
// removes it as soon as the last process has died, and the reason with it.
func (e *Enforcement) follow() {
	if e.place.By != Scope {
		return
	}
	w, err := watchEvents(e.place)
	if err != nil {
		return // without the memory controller nothing is counted
	}
	e.look()
	e.watch.Go(func() {
		defer w.Close()
		for {
			select {
			case <-e.stop:
				return
			case <-w.C():
				if !e.look() {
					return
				}
			}
		}
	})
}

// look reads the counters, and says whether they are still there.
func (e *Enforcement) look() bool {
	now, err := readEvents(e.place)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = e.seen.max(now)
	return err == nil
}

// Reason says after the daemon's death what its limits have to do with it, for
// the failure's cause; "" if nothing, or nothing that the kernel tells. It blocks
// for at most a second for a manager.
//
// It says what happened in the service's cgroup, not to one process: whether the
// daemon itself was the one that was killed, its signal says (SIGKILL). A memory
// limit that is a resource limit kills nobody: an allocation fails, and what the
// daemon does then is its own.
func (e *Enforcement) Reason(ctx context.Context) string {
	if e.place.By == None {
		return ""
	}
	e.look()
	e.mu.Lock()
	seen := e.seen
	e.mu.Unlock()
	result := ""
	if e.place.By == Scope && seen.killed == 0 && e.found.Scope.Why == "" {
		ctx, cancel := context.WithTimeout(ctx, reasonWithin)
		defer cancel()
		result, _ = e.found.Manager.result(ctx, e.place.Name)
	}
	return explain(e.plan.Report, seen, result)
}

// Kill ends what is left in the place, all at once (SIGKILL). It does not wait for
// the processes: Remove does.
func (e *Enforcement) Kill(ctx context.Context) error {
	switch e.place.By {
	case Cgroup:
		return killAll(e.place)
	case Scope:
		if e.found.Scope.Why != "" {
			return errors.New(e.found.Scope.Why)
		}
		return e.found.Manager.killScope(ctx, e.place.Name, int32(syscall.SIGKILL))
	}
	return nil
}

// Remove gives back everything: the gate, if Admit was never called, and with the
// daemon's death the cgroup or scope. It waits until the place is empty and gone,
// or ctx ends: then the error is a *[PopulatedError] if processes are left in it,
// and it can be called again, after Kill for example.
func (e *Enforcement) Remove(ctx context.Context) error {
	e.closeGate()
	if e.place.By != None {
		if err := empty(ctx, e.place); err != nil {
			return err
		}
		e.look()
	}
	var err error
	switch e.place.By {
	case Cgroup:
		err = removeDir(e.place)
	case Scope:
		if e.found.Scope.Why == "" {
			err = e.found.Manager.scopeGone(ctx, e.place.Name)
		}
	}
	if err != nil {
		return err
	}
	e.Close()
	return nil
}

// Close lets go of the daemon, as a broker does that ends before it: the limits
// and the place stay. The gate, if it was not opened, closes, and the fork ends.
// Closing again, or after Remove, does nothing.
func (e *Enforcement) Close() {
	e.closeGate()
	select {
	case <-e.stop:
	default:
		close(e.stop)
	}
	e.watch.Wait()
}

func (e *Enforcement) closeGate() {
	if e.gate == nil {
		return
	}
	e.gate.Close()
	e.stdin.Close()
	if e.into != nil {
		e.into.Close()
	}
	e.gate, e.stdin, e.into = nil, nil, nil
}

// Sweep removes what brokers of this instance have left that were killed: empty
// cgroups and failed scopes, but not those of generations that keep knows of, by
// their Place's Name. It is for the one broker of an instance, before it launches
// anything. It returns what it removed, at most 1000 of a kind, and the first
// error that it met; it goes on after that.
func Sweep(ctx context.Context, instance string, found Available, keep func(name string) bool) (removed []string, err error) {
	note := func(name string, e error) {
		if e == nil {
			removed = append(removed, name)
		} else if err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
	}
	if found.Cgroup.Why == "" {
		places, e := leftovers(found.Dir, namePrefix(instance))
		err = e
		for _, p := range places {
			if !keep(p.Name) {
				note(p.Name, removeDir(p))
			}
		}
	}
	if found.Scope.Why == "" {
		names, e := found.Manager.failedScopes(ctx, namePrefix(instance))
		err = errors.Join(err, e)
		for _, name := range names {
			if !keep(name) {
				note(name, found.Manager.resetScope(ctx, name))
			}
		}
	}
	return removed, err
}

// Where returns the cgroup of a process, as in /proc/PID/cgroup, for Survives.
func Where(pid int) (string, error) { return where(pid) }
