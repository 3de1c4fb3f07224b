package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// The spawn budget: this many launches that died before they were ready, within
// this time, and no further launch is tried until the oldest is that long ago.
const (
	budgetFailures = 3
	budgetWindow   = 30 * time.Second
)

// genName is the name of a generation's directory: its number, digests of what a
// dial may have to compare, the environment and the build, so that one readlink
// of current tells it, and the boot-time clock in milliseconds. Numbers begin
// anew in a directory that was deleted, and what lives on of the old one must not
// write into a new record.
func genName(number uint64, identity string, at time.Duration, build string) string {
	return strconv.FormatUint(number, 10) + "." + identity + "." + strconv.FormatInt(at.Milliseconds(), 36) + "." + build
}

// genBuild is the digest of the build in the name of a generation's directory,
// "" if an older release made it.
func genBuild(name string) string {
	parts := strings.Split(name, ".")
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}

// genNumber is the inverse, 0 if name is not of a generation.
func genNumber(name string) uint64 {
	n, rest, ok := strings.Cut(name, ".")
	number, err := strconv.ParseUint(n, 10, 64)
	if err != nil || !ok || rest == "" || strings.HasPrefix(n, "0") {
		return 0
	}
	return number
}

// genIdentity is the digest in the name of a generation's directory.
func genIdentity(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	id, _, _ := strings.Cut(rest, ".")
	return id
}

// An Entry is one generation as found on disk.
type Entry struct {
	Name   string // of its directory
	Dir    string // path of its directory
	Number uint64
	Record record.Record
	Err    error // the record cannot be read
	Alive  bool  // its life lock is held, or its recorded process lives
	Locked bool  // its life lock is held

	// Unproven: nothing shows that it lives, nor that it is dead. Nothing is
	// written about it, and its directory stays.
	Unproven bool
}

// Generations lists the generations in a service's directory, the newest
// first. It takes no lock and changes nothing. A missing directory has none.
func Generations(dir string) ([]Entry, error) {
	names, err := readDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, n := range names {
		number := genNumber(n.Name())
		if number == 0 || !n.IsDir() {
			continue
		}
		e := readEntry(dir, n.Name(), number)
		// Put in its place: they are few, and a sort is 15 kB of code in every
		// client.
		i := 0
		for i < len(entries) && entries[i].Number > number {
			i++
		}
		entries = insertEntry(entries, i, e)
	}
	name := current(dir)
	for i := range entries {
		if !entries[i].Alive {
			entries[i].lookCloser(dir, name)
		}
	}
	return entries, nil
}

// readEntry reads what a generation's own directory says of it.
func readEntry(dir, name string, number uint64) Entry {
	e := Entry{Name: name, Dir: filepath.Join(dir, name), Number: number}
	e.Record, e.Err = record.Read(filepath.Join(e.Dir, record.FileName))
	e.Record.Generation = number
	e.Locked, _ = lock.Held(filepath.Join(e.Dir, runtimedir.LifeName))
	e.Alive = e.Locked
	return e
}

// insertEntry is slices.Insert of one entry, without the 2 kB of code that are for more.
func insertEntry(entries []Entry, i int, e Entry) []Entry {
	entries = append(entries, e)
	copy(entries[i+1:], entries[i:])
	entries[i] = e
	return entries
}

// readDir is os.ReadDir without its order, which is 7 kB of code in every client.
func readDir(dir string) ([]fs.DirEntry, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be an outsider's FIFO
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// ID is the recorded identity of the generation's process.
func (e Entry) ID() proc.ID {
	return proc.ID{PID: e.Record.PID, Start: e.Record.Start, BootID: e.Record.BootID, PIDNS: e.Record.PIDNamespace}
}

// Open opens the generation's process by handle; proc.ErrGone if it is dead or
// the pid is a stranger's, proc.ErrUnproven if it may be one.
func (e Entry) Open() (*proc.Handle, error) {
	if e.Record.PID == 0 || !thisBoot(e.Record) {
		return nil, proc.ErrGone
	}
	if e.Record.Start == 0 {
		return nil, proc.ErrUnproven
	}
	return proc.Open(e.ID())
}

// lookCloser looks for the process of a generation whose life lock nobody holds.
// No pid alone is believed. Only proc.ErrGone and a life lock that is there and
// free prove a death: a process of another pid namespace, or where /proc cannot
// be used, may well live. Of the generation that current names the endpoint tells
// then: a listener that refuses is held by nobody.
func (e *Entry) lookCloser(dir, currentName string) {
	h, err := e.Open()
	switch {
	case err == nil:
		e.Alive = h.Alive()
		_ = h.Close()
		return
	case errors.Is(e.Err, fs.ErrNotExist):
		return // nothing is left that could be kept
	case e.Err == nil && (err == proc.ErrGone || e.Record.Phase.Final()):
		return
	}
	if _, err := os.Lstat(filepath.Join(e.Dir, runtimedir.LifeName)); err == nil {
		return
	}
	if e.Unproven = true; e.Name != currentName || Holder(dir) != "" {
		return
	}
	switch reach := answer(dir); {
	case reach == endpoint.Refused:
		e.Unproven = false
	case reach != endpoint.Absent && e.Err == nil:
		e.Alive, e.Unproven = true, false
	}
}

// answer says what a connect to a service's endpoint finds, by either name.
func answer(dir string) endpoint.Reach {
	best := endpoint.Absent
	for _, name := range endpointNames(dir) {
		conn, reach, _ := endpoint.Connect(context.Background(), name)
		if conn != nil {
			_ = conn.Close()
		}
		switch reach {
		case endpoint.Absent:
		case endpoint.Refused:
			best = reach
		default:
			return reach
		}
	}
	return best
}

// LeasesBefore returns the leases of the generation before the given one, if
// that crashed: who took them does not know, and counts on them still.
func LeasesBefore(dir string, generation uint64) []record.Lease {
	if generation <= 1 {
		return nil // as it is where nothing was before, and a look costs a start some time
	}
	names, err := readDir(dir)
	if err != nil {
		return nil
	}
	var before string
	var number uint64
	for _, n := range names {
		if is := genNumber(n.Name()); number < is && is < generation && n.IsDir() {
			before, number = n.Name(), is
		}
	}
	if number == 0 {
		return nil
	}
	e := readEntry(dir, before, number)
	if !e.Alive {
		e.lookCloser(dir, current(dir))
	}
	if e.Err != nil || e.Alive || !thisBoot(e.Record) || e.Record.Phase == record.Gone {
		return nil
	}
	return e.Record.Leases
}

// current returns the name of the generation that current leads to, "" if none.
func current(dir string) string {
	name, err := runtimedir.ReadCurrent(dir)
	if err != nil || genNumber(name) == 0 {
		return ""
	}
	return name
}

// Current returns the generation that current names among the entries.
func Current(dir string, entries []Entry) (Entry, bool) {
	name := current(dir)
	for _, e := range entries {
		if e.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

// counted reports whether a failure spends the budget: the daemon itself died
// before it was ready, and neither we nor the user ended it. One that we kill
// because it hangs spends nothing, however it ends.
//
// Of an end that nobody saw, because the launcher had left, only what is on
// record can be said. An order to stop is there before the signal. An SDK backend
// that said nothing more was killed by somebody else, or left by os.Exit or a
// crash of its runtime: the kernel tells neither, to whom had no pidfd. It counts,
// because the other mistake has no end: a tool whose daemon exits while it loads
// would launch it with every call. The price is that three kills by hand within
// 30 s, each during the load and without a launcher left, refuse the fourth
// launch for the rest of these 30 s.
func counted(r record.Record, now time.Duration) bool {
	f := r.Failure
	if f == nil || f.Kind == KindHung || !thisBoot(r) || r.Reset || r.Stopped || r.WasReady || now-f.At > budgetWindow || f.At > now {
		return false
	}
	if f.Unknown && r.Definition.Foreign && !r.Backend {
		return false // a foreign daemon may have served well for as long as it lived
	}
	switch f.Stage {
	case StageAdopt, StageBind, StageBound, StageLoad, StageServe:
	default:
		return false // the launcher's own trouble; the next launch may have none
	}
	switch f.Signal {
	case syscall.SIGKILL.String(), syscall.SIGTERM.String(), syscall.SIGINT.String(), syscall.SIGHUP.String():
		return false
	}
	return true
}

// failsDial reports whether the recorded failure is that of a dial that began at
// since: its launch was what the dial waited for. Of one that was launched
// before, a daemon that had served is no failed launch, nor a foreign one, which
// does not say when it serves. One that was launched while the dial waited, and
// has died before the dial could connect, has failed it whatever it had done: a
// dial does not launch again and again what dies at once. One that was killed
// because it hung was to be replaced: that is what the dial is for. What a broker
// tells those whom it leaves in a queue (Deny) is for them alone.
func failsDial(r record.Record, since time.Duration) bool {
	f := r.Failure
	if f == nil || f.Kind == KindHung || f.Unknown || f.Stage == StageConnect || f.At <= since || !thisBoot(r) {
		return false
	}
	return r.LaunchedBoot > since || !r.WasReady && (f.Stage != StageServe || r.Backend)
}

// thisBoot reports whether the record's times are of the clock that runs now: a
// home directory outlives the boot (R9).
func thisBoot(r record.Record) bool {
	boot := proc.BootID()
	return r.BootID == "" || boot == "" || r.BootID == boot
}

// settleVerdict is what is written about a generation that is dead without
// having said why, nil if there is nothing to write. It died at an unknown time
// after its launch, so it is stamped with the only time that is certain, and
// never becomes the failure of a dial that began later.
func settleVerdict(r record.Record) *record.Failure {
	if r.Phase.Final() || r.PID == 0 || r.Stopped {
		return nil
	}
	stage := StageServe
	switch {
	case r.Definition.Foreign && !r.Backend && r.Phase == record.Bound, r.WasReady:
	case r.Phase == record.Loading:
		stage = StageLoad
	case r.Phase == record.Launching, r.Phase == record.Bound:
		stage = StageAdopt
	}
	return &record.Failure{
		Stage: stage, Cause: "the process is gone", Status: -1, Unknown: true,
		At: r.LaunchedBoot, Time: r.Launched,
	}
}

// An admission is what the generations on disk say about a new launch.
type admission struct {
	failure *record.Record // a launch that failed after the dial began
	spent   []record.Record
	retry   time.Duration // boot-time clock
	settle  []Entry       // dead without a verdict
	orphans []Entry       // self-binders that have not bound, and whose launcher is gone
	remove  []Entry       // no longer of interest
	ended   []Entry       // dead, and kept
	next    uint64        // the number of the next generation
}

// admit decides, from what is on disk, whether a dial that began at since may
// launch at now.
//
// A successor that did not come so far as to take over is no launch of the
// service: its failure fails nobody but who launches a successor.
func admit(entries []Entry, currentName string, since, now time.Duration, successor bool) admission {
	a := admission{next: genNumber(currentName) + 1}
	for _, e := range entries {
		a.next = max(a.next, e.Number+1)
		r := e.Record
		// One that has said why it ends spends the budget, though it may not be dead yet.
		if e.Alive && r.Phase != record.Failed {
			// A self-binder binds under its launcher's lock, which we hold now:
			// one that has not bound would bind beside the one we launch.
			if r.Phase == record.Launching && r.Definition.Bind == definition.BindDaemon && !r.ByHand {
				a.orphans = append(a.orphans, e)
			}
			continue
		}
		if e.Unproven {
			continue
		}
		if v := settleVerdict(r); v != nil && e.Err == nil {
			a.settle = append(a.settle, e)
			r.Failure, r.Phase, r.PhaseAt = v, record.Failed, now
		}
		f := r.Failure
		if alike := successor == (r.Succeeds != "" && !r.WasReady); alike {
			if a.failure == nil && !e.Alive && failsDial(r, since) {
				a.failure = &r
			}
			if counted(r, now) {
				a.spent = append(a.spent, r)
			}
		}
		if e.Alive {
			continue
		}
		// Kept from the time it was known, for those whose connections it held.
		recent := f != nil && thisBoot(r) && r.PhaseAt <= now && now-r.PhaseAt < budgetWindow
		if !recent && e.Name != currentName {
			a.remove = append(a.remove, e)
		} else {
			a.ended = append(a.ended, e)
		}
	}
	if len(a.spent) >= budgetFailures {
		// Entries come newest first: the budget frees one launch when the last
		// of the newest three has left the window.
		a.retry = a.spent[budgetFailures-1].Failure.At + budgetWindow
	}
	return a
}

// Admits is StepAdmit's decision for who runs the protocol on another system than
// the real one: what comes of the step, and the generations on disk after it.
func Admits(entries []Entry, currentName string, since, now time.Duration, successor bool) (Outcome, []Entry) {
	a := admit(entries, currentName, since, now, successor)
	var kept []Entry
	for _, e := range entries {
		if slices.ContainsFunc(a.remove, func(r Entry) bool { return r.Name == e.Name }) {
			continue
		}
		if slices.ContainsFunc(a.settle, func(r Entry) bool { return r.Name == e.Name }) {
			e.Record.Failure, e.Record.Phase, e.Record.PhaseAt = settleVerdict(e.Record), record.Failed, now
		}
		kept = append(kept, e)
	}
	if a.failure != nil || a.retry > now {
		return Forbidden, kept
	}
	return OK, kept
}
