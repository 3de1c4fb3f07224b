//go:build unix || windows

package launch

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Hand is what a daemon that was started by hand holds after its launch.
type Hand struct {
	Listener net.Listener
	Control  *endpoint.Socket
	Life     *os.File
	Handover handover.Handover
}

// system does the steps of one launch on the real system. It belongs to one
// goroutine.
type system struct {
	b     *Broker
	mode  Mode
	since time.Duration

	place   runtimedir.Place
	placed  bool
	dirName string
	pause   time.Duration
	lost    int // how often names have vanished

	err  *Fault         // of the step that failed
	conn *endpoint.Conn // made by a connect, to be handed out
	at   string         // the path of the last connect that somebody answered

	// Under the launch lock.
	dir       *os.File // the locked directory, on Windows a file in it
	dirInode  record.Inode
	current   string  // generation that current named when we admitted the launch
	entries   []Entry // just looked at
	admission admission
	boundSeen bool // connected again for the sake of a daemon that had bound itself
	program   string
	state     string // the directory of logs, once it is known
	old       *Entry // mode Succeeds: the generation that is to hand over
	wanted    succession

	gen     *generation
	outcome *Generation
	hand    *Hand
	held    *Holding // mode Holds: what is bound

	refitted *Holding // mode Activates: what is held from now on, nil if that has not changed
}

// generation is the one that this launch makes.
type generation struct {
	began    time.Duration
	boundAt  time.Duration
	there    time.Duration // boot-time clock when its process was; 0: it was not
	number   uint64
	name     string
	dir      string
	contract []string
	record   record.Record
	lines    []record.Line // on record, until there is a copy of it
	copy     string        // path of the record's copy, "" without one

	sock    *endpoint.Socket // nil with DaemonBinds and ByHand
	ln      net.Listener     // ByHand
	inode   record.Inode
	further []*further
	control *endpoint.Socket
	life    *os.File
	log     *os.File
	null    *os.File
	child   *child

	spawning *spawning
}

func newSystem(b *Broker, mode Mode, since time.Duration) *system {
	s := &system{b: b, mode: mode, since: since, dirName: b.DirName()}
	if mode == Activates {
		s.place, s.placed = b.held.Place, true // what is there tells whether it still is the place
	}
	return s
}

// do does the machine's step.
func (s *system) do(ctx context.Context, m Machine) Outcome {
	switch m.Step {
	case StepConnect:
		return s.connect(ctx)
	case StepPause:
		return s.wait(ctx)
	case StepLock:
		return s.lock(ctx)
	case StepVerifyDir:
		return s.verifyDir()
	case StepReconnect:
		o := s.connectTo(ctx, s.place.Sock())
		if o == OK {
			s.restoreFurther()
		}
		return o
	case StepProbeKeep:
		return s.probeKeep(ctx)
	case StepRestore:
		return s.restore()
	case StepSucceed:
		return s.succeed()
	case StepOwn:
		return s.b.standing.own(s)
	case StepAdmit:
		return s.admit()
	case StepExecutable:
		return s.executable()
	case StepPrepare:
		return s.prepare()
	case StepUnlink:
		return s.unlink()
	case StepBind:
		return s.bind()
	case StepVerifyBind:
		return s.verifyBind()
	case StepKeep:
		return s.keep()
	case StepCurrent:
		return s.moveCurrent()
	case StepListen:
		return s.listen()
	case StepSpawn:
		return s.spawn()
	case StepAwaitBound:
		return s.awaitBound(ctx)
	case StepCloseCopies:
		s.closeCopies()
		return OK
	case StepAbandon:
		s.abandon(m.Giving())
		return OK
	case StepUnlock:
		return s.unlock()
	}
	return s.fault(StagePrepare, errors.New("no such step: "+m.Step.String()))
}

// fault notes why the launch fails. Inlined, it is 5 kB of code in every client.
//
//go:noinline
func (s *system) fault(stage string, err error) Outcome {
	s.err = s.b.fault(LaunchFailed, stage, err)
	return Failed
}

// refuse notes why nothing is tried.
func (s *system) refuse(f *Fault) Outcome {
	s.err = f
	return Forbidden
}

func (s *system) connect(ctx context.Context) Outcome {
	if s.placed {
		return s.connectTo(ctx, s.place.Sock())
	}
	o := Absent
	for _, path := range s.b.Env.Guess(s.b.Def.Instance, s.dirName) {
		if o = s.connectTo(ctx, path); o == OK || o == Busy {
			return o
		}
	}
	// What a guessed path refuses is no verdict: the place is not agreed yet.
	return Absent
}

func (s *system) connectTo(ctx context.Context, path string) Outcome {
	conn, reach, err := s.b.connect(ctx, path)
	switch reach {
	case endpoint.Reached:
		s.dropConn()
		s.conn, s.at = conn, path
		return OK
	case endpoint.Absent:
		return Absent
	case endpoint.Refused:
		return Refused
	case endpoint.Busy:
		s.at = path
		return Busy
	}
	if ctx.Err() != nil {
		return s.refuse(s.b.DeadlineFault(ctx))
	}
	return s.refuse(s.b.connectFault(reach, err))
}

func (s *system) dropConn() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// Bounds of a pause. Holding the lock takes a launcher some milliseconds, most
// of them in fork, so waiting much longer than that is idle time.
const (
	minPause = 500 * time.Microsecond
	maxPause = 16 * time.Millisecond
)

// wait sleeps for a moment. The jitter keeps a crowd that was released together
// from meeting again; the growth keeps it from starving who holds the lock.
func (s *system) wait(ctx context.Context) Outcome {
	s.pause = min(max(2*s.pause, minPause), maxPause)
	t := time.NewTimer(s.pause/2 + rand.N(s.pause))
	defer t.Stop()
	select {
	case <-ctx.Done():
		s.err = s.b.DeadlineFault(ctx)
		return Expired
	case <-t.C:
		return OK
	}
}

// lock opens the service's directory and tries its lock, without waiting.
func (s *system) lock(ctx context.Context) Outcome {
	dir, err := s.openDir(ctx)
	if err != nil {
		return s.directoryFault(err)
	}
	ok, err := lock.Try(dir)
	if err != nil {
		_ = dir.Close()
		return s.fault(StageLock, err)
	}
	if !ok {
		_ = dir.Close()
		return Held
	}
	s.dir = dir
	return OK
}

// directoryFault tells an unusable directory, which is refused, from a system
// that has no descriptors, memory or space left.
func (s *system) directoryFault(err error) Outcome {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		s.err = s.b.fault(Deadline, StageWait, err)
		return Expired
	}
	if _, ok := errors.AsType[*runtimedir.Refused](err); !ok {
		return s.fault(StageDirectory, err)
	}
	return s.refuse(s.b.DirectoryFault(err))
}

// openDir opens what is locked of the service's directory, finding and making that if
// it is needed. A directory that is not there although it was made a moment ago is
// being deleted by an outsider; that is tried a few times.
func (s *system) openDir(ctx context.Context) (*os.File, error) {
	var last error
	for range 8 {
		if s.placed {
			f, err := openLocked(s.place.Dir)
			if err == nil {
				return f, nil
			}
			if last = err; !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		place, err := s.b.Env.Resolve(ctx, s.b.Def.Instance, s.dirName, s.alive)
		if errors.Is(err, fs.ErrNotExist) {
			last = err // removed between being made and being looked at
			continue
		}
		if err != nil {
			return nil, err
		}
		if !s.placed {
			s.notePassed(place)
		}
		s.place, s.placed = place, true
		if err := s.b.Env.MakeService(place); err != nil {
			if last = err; !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	return nil, last
}

// alive reports whether somebody of our uid accepts at sock.
func (s *system) alive(sock string) bool {
	conn, reach, _ := endpoint.Connect(context.Background(), sock)
	if conn != nil {
		_ = conn.Close()
	}
	return reach == endpoint.Reached || reach == endpoint.Busy
}

// notePassed journals the configured directory that was not used. The others
// are candidates that need not exist.
func (s *system) notePassed(p runtimedir.Place) {
	xdg := s.b.Env.XDGRuntime
	for _, r := range p.Passed {
		if xdg != "" && filepath.Dir(r.Path) == filepath.Clean(xdg) || r.Path == xdg {
			s.b.Note(p.Root, journal.Event{Kind: "fallback", Reason: "XDG_RUNTIME_DIR passed over: " + r.Error()})
		}
	}
}

func (s *system) verifyDir() Outcome {
	have, err := endpoint.InodeOf(s.dir)
	if err != nil {
		return s.fault(StageLock, err)
	}
	at, err := endpoint.Inode(lockedPath(s.place.Dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && at != have {
		return Moved
	}
	if err != nil {
		return s.fault(StageLock, err)
	}
	if err := s.b.Env.Verify(s.place.Dir); errors.Is(err, fs.ErrNotExist) {
		return Moved
	} else if err != nil {
		return s.directoryFault(err)
	}
	s.dirInode = have
	return OK
}

// admit settles what died without a verdict and asks whether a launch may be
// tried.
func (s *system) admit() Outcome {
	entries, err := s.generations()
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	if s.mode == DaemonBinds && !s.boundSeen && slices.ContainsFunc(entries, hasBoundItself) {
		// One whose launcher was killed may have bound since we connected. It is
		// asked once: whoever lives without a name is no reason to wait.
		s.boundSeen = true
		return InUse
	}
	s.current = current(s.place.Dir)
	now := proc.BootTime()
	a := admit(entries, s.current, s.since, now, s.mode == Succeeds)
	s.admission = a
	for _, e := range a.settle {
		v := settleVerdict(e.Record)
		_ = record.Append(filepath.Join(e.Dir, record.FileName),
			append(record.FailureLines(*v), record.PhaseLines(record.Failed, now)...)...)
		s.b.Note(s.place.Root, journal.Event{Kind: "failed", Generation: e.Number, PID: e.Record.PID,
			Reason: v.Cause + ", exit status unknown: launcher left", Fields: []journal.Field{{Key: "stage", Value: v.Stage}}})
	}
	for _, e := range a.orphans {
		s.endOrphan(e)
	}
	if a.failure != nil {
		return s.refuse(RecordedFault(*a.failure))
	}
	if a.retry > now {
		f := RecordedFault(a.spent[0])
		f.Class = Refusal
		f.Err = errors.New("3 launches failed within 30 s; the last in stage " + f.Stage + ": " + f.Err.Error())
		f.Stage = StageBudget
		f.RetryAt = time.Now().Add(a.retry - now)
		f.Cure = "mend the cause, then wait or run: fastbind reset " + s.b.Def.Service
		return s.refuse(f)
	}
	return OK
}

// bindsUnknown reports whether the generation is a self-binder that lives and is
// not known by its pid yet.
func bindsUnknown(e Entry) bool {
	return e.Alive && e.Record.PID == 0 && e.Record.Phase == record.Launching && e.Record.Definition.Bind == definition.BindDaemon
}

// hasBoundItself reports whether the generation lives and has bound its endpoint.
func hasBoundItself(e Entry) bool {
	p := e.Record.Phase
	return e.Alive && e.Record.Definition.Bind == definition.BindDaemon && (p == record.Bound || p == record.Loading || p == record.Ready)
}

// endOrphan kills a self-binder that nobody can be connected to, by handle.
func (s *system) endOrphan(e Entry) {
	h, err := e.Open()
	if err != nil {
		return
	}
	defer h.Close()
	_ = record.Append(filepath.Join(e.Dir, record.FileName), record.StoppedLine())
	_ = h.Signal(syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(context.Background(), orphanWithin)
	defer cancel()
	_ = h.Wait(ctx)
	s.b.Note(s.place.Root, journal.Event{Kind: "stopped", Generation: e.Number, PID: h.PID(),
		Reason: "it had not bound, and its launcher was gone"})
}

// orphanWithin bounds the wait for a killed process, under the launch lock.
const orphanWithin = time.Second

// generations lists what is on disk. A generation that was launched while our
// dial waited, and has died or is dying, gets a moment for its verdict: it is
// ours too, and a dial whose launch failed does not launch again. A self-binder
// whose launcher was killed before it noted the pid gets one to say it itself: it
// is about to bind, and only then can it be ended, or used.
func (s *system) generations() ([]Entry, error) {
	for end := time.Now().Add(verdictWithin); ; time.Sleep(2 * time.Millisecond) {
		entries, err := s.entries, error(nil)
		if s.entries = nil; entries == nil {
			entries, err = s.b.generations(s.place)
		}
		if err != nil || len(entries) == 0 || time.Now().After(end) {
			return entries, err
		}
		if slices.ContainsFunc(entries, bindsUnknown) {
			continue
		}
		e := entries[0]
		if e.Record.LaunchedBoot <= s.since || !e.ending() || !e.Alive && told(e) {
			return entries, nil
		}
	}
}

func (s *system) executable() Outcome {
	if s.mode == ByHand {
		return OK
	}
	if err := Launchable(s.b.Def); err != nil {
		return s.refuse(s.b.fault(Refusal, StagePolicy, err))
	}
	if fi, err := os.Stat(s.b.Def.Dir); err != nil || !fi.IsDir() {
		if err == nil {
			err = &fs.PathError{Op: "chdir", Path: s.b.Def.Dir, Err: syscall.ENOTDIR}
		}
		s.fault(StageExecutable, err)
		s.err.Cure = "check the service's working directory"
		return Failed
	}
	if s.b.Def.Self {
		s.program = selfExe
		if s.program != "" {
			return OK
		}
	}
	p, err := program(s.b.Def, s.b.Contract())
	if err != nil {
		s.fault(StageExecutable, err)
		s.err.Cure = "check the service's command"
		return Failed
	}
	s.program = p
	return OK
}

// prepare makes everything a generation needs but its endpoint.
func (s *system) prepare() Outcome {
	contract := s.b.Contract()
	began := proc.BootTime()
	g := &generation{
		began: began, number: s.admission.next, contract: contract,
		name: genName(s.admission.next, environ.Digest(contract), began, buildDigest(s.b.build())),
	}
	g.dir = filepath.Join(s.place.Dir, g.name)
	s.gen = g
	if s.mode == Activates {
		if o := s.b.standing.inherit(s); o != OK {
			return o
		}
	}
	if err := s.makeGeneration(g); err != nil {
		if s.vanished(err) {
			return Moved
		}
		o := s.fault(StagePrepare, err)
		if errors.Is(err, errNoIdentity) {
			s.err.Cure = cureProc
		}
		return o
	}
	return OK
}

func (s *system) makeGeneration(g *generation) error {
	if s.b.Def.Foreign {
		// Without a life lock nobody could ever tell it from a stranger of the
		// same pid: to stop it, or to say that it lives.
		if _, err := proc.Self(); err != nil {
			return identityError{err}
		}
	}
	if err := makeDir(g.dir); err != nil {
		return err
	}
	if !s.b.Def.Foreign {
		if err := s.makeLifeAndControl(g); err != nil {
			return err
		}
	}
	r := record.Record{
		Generation: g.number, Definition: s.b.Def, Launcher: os.Getpid(),
		Launched: time.Now(), LaunchedBoot: g.began,
		Variables: environ.Variables(g.contract), ByHand: s.mode == ByHand,
		BootID: proc.BootID(), PIDNamespace: proc.PIDNamespace(),
	}
	if s.old != nil {
		r.Succeeds, r.Replacements = s.old.Name, s.wanted.history
	}
	if s.mode != ByHand {
		if err := s.openLog(g, &r); err != nil {
			return err
		}
	}
	g.record = r
	g.lines = record.LaunchLines(r)
	if err := record.Create(filepath.Join(g.dir, record.FileName), g.lines); err != nil {
		return err
	}
	if s.mode != Activates || s.b.Hook == nil || s.b.Hook.Ahead == nil {
		s.copyRecord()
	}
	return nil
}

// copyRecord makes the copy of a foreign daemon's record. The trampoline writes into
// both. A process that was made ahead starts without it: a client waits, who has no use
// for it, and whoever takes a record of this moment away cannot be met but by chance.
func (s *system) copyRecord() {
	g := s.gen
	if g.lines == nil {
		return
	}
	if state, err := s.stateDir(); err == nil && s.b.Def.Foreign {
		g.copy = createCopy(state, s.dirName, g.name, g.lines)
	}
	g.lines = nil
}

// identityError: this process cannot tell who it is, nor who its child will be.
type identityError struct{ err error }

var errNoIdentity = errors.New("no process here can be told from another of the same pid")

func (e identityError) Error() string        { return errNoIdentity.Error() + ": " + e.err.Error() }
func (e identityError) Unwrap() error        { return e.err }
func (e identityError) Is(target error) bool { return target == errNoIdentity }

func (s *system) makeLifeAndControl(g *generation) error {
	var err error
	if g.life, err = CreateLife(g.dir); err != nil {
		return err
	}
	g.control, err = BindControl(s.place.Ctl(g.name))
	return err
}

// stateDir returns the directory of the service's log, verified once in a launch.
func (s *system) stateDir() (string, error) {
	var err error
	if s.state == "" {
		s.state, err = s.b.Env.State(s.place.Root, s.b.Def.Instance)
	}
	return s.state, err
}

// openLog opens the service's log, which takes the daemon's output.
func (s *system) openLog(g *generation, r *record.Record) error {
	state, err := s.stateDir()
	if err != nil {
		return err
	}
	path := logPath(state, s.dirName)
	s.endLogs(path)
	for _, p := range []string{path, journalPath(state, s.dirName)} {
		_ = journal.Rotate(p) // the next launch may be luckier
	}
	if g.null, err = os.Open(os.DevNull); err != nil {
		return err
	}
	if g.log, err = journal.Open(path, os.O_WRONLY); err != nil {
		// An outsider's directory, link or FIFO: nobody is told to delete it.
		if fi, serr := os.Lstat(path); serr == nil && !fi.Mode().IsRegular() && os.Rename(path, path+".1") == nil {
			g.log, err = journal.Open(path, os.O_WRONLY)
		}
	}
	if err != nil {
		// A full disk, perhaps: a daemon without a log is better than none.
		s.b.Note(s.place.Root, journal.Event{Kind: "fallback", Generation: g.number, Reason: "the output goes nowhere: " + err.Error()})
		g.log, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return err
	}
	fi, err := g.log.Stat()
	if err != nil {
		return err
	}
	r.Log, r.LogOffset = path, fi.Size()
	return nil
}

// endLogs notes where the output of dead generations ends, before ours is added
// to the log or the log is moved aside. One that lives goes on writing.
func (s *system) endLogs(path string) {
	fi, err := os.Lstat(path)
	if err != nil {
		return
	}
	inode, err := endpoint.Inode(path)
	if err != nil {
		return
	}
	for _, e := range s.admission.ended {
		if e.Record.Log == path && e.Record.LogInode.IsZero() {
			_ = record.Append(filepath.Join(e.Dir, record.FileName), record.LogEndLines(fi.Size(), inode)...)
		}
	}
}

// vanished reports whether a step failed because an outsider deletes our names
// meanwhile, or what leads to them: the launch starts over, and looks for its
// place anew. One that keeps on deleting gets the error.
func (s *system) vanished(err error) bool {
	if !errors.Is(err, fs.ErrNotExist) || s.lost >= maxLost {
		return false
	}
	s.lost++
	s.placed, s.state = false, ""
	return true
}

// maxLost is how often a launch starts over because names vanish under it.
const maxLost = 16

// moveCurrent names the generation before anybody can reach it: a launcher that
// dies later leaves no living generation unnamed.
func (s *system) moveCurrent() Outcome {
	err := leadCurrent(s.dir, s.place.Dir, s.gen.name)
	switch {
	case err == nil:
		return OK
	case s.vanished(err):
		return Moved
	}
	return s.fault(StagePrepare, err)
}

// handover is what the daemon is told.
func (s *system) handover() handover.Handover {
	g := s.gen
	return handover.Handover{
		Service: s.b.Def.Service, Instance: s.b.Def.Instance, Generation: g.number,
		Dir: s.place.Dir, Addr: s.place.Addr, GenDir: g.name, Inode: g.inode,
		Listen: handover.None, Control: handover.None, Life: handover.None,
		Version: s.b.Def.Version, StopWithin: s.b.Def.StopWithin, IdleExit: s.b.Def.IdleExit,
		Succeeds: s.succeeds(), Holder: s.holder(),
	}
}

// holder is the directory of the broker that has the listener as well, "" if none has.
func (s *system) holder() string {
	if s.mode != Activates {
		return ""
	}
	return s.b.held.holder
}

// succeeds names the generation that is to hand over, "" if there is none.
func (s *system) succeeds() string {
	if s.old == nil {
		return ""
	}
	return s.old.Name
}

func (s *system) listen() Outcome {
	if s.mode == Holds {
		return s.b.standing.listen(s)
	}
	g := s.gen
	if s.mode == ByHand {
		// The backend's own Bind listens already.
		s.hand = &Hand{Listener: g.ln, Control: g.control, Life: g.life, Handover: s.handover()}
		g.ln, g.control, g.life = nil, nil, nil
		g.boundAt = proc.BootTime()
		s.outcome = s.launched(os.Getpid())
		return OK
	}
	// Everything the fork needs is made before: nothing lies between listening
	// and forking but the fork.
	if err := s.prepareSpawn(); err != nil {
		return s.fault(StageSpawn, err)
	}
	if err := listenAll(g.further, g.sock); err != nil {
		return s.fault(StageBind, err)
	}
	g.boundAt = proc.BootTime()
	return OK
}

func (s *system) launched(pid int) *Generation {
	if s.gen.there == 0 {
		s.gen.there = proc.BootTime()
	}
	return &Generation{Number: s.gen.number, Dir: s.gen.dir, PID: pid, There: s.gen.there, BoundAfter: s.gen.boundAt - s.gen.began}
}

// closeCopies gives up what the child holds now: closes, never unlocks.
func (s *system) closeCopies() {
	g := s.gen
	if g == nil {
		return
	}
	if g.sock != nil {
		_ = g.sock.Close()
	}
	closeFurther(g.further)
	if g.control != nil {
		_ = g.control.Close()
	}
	for _, f := range []*os.File{g.life, g.log, g.null} {
		if f != nil {
			_ = f.Close()
		}
	}
	if g.ln != nil {
		_ = g.ln.Close()
	}
	g.spawning.close()
	g.sock, g.further, g.control, g.life, g.log, g.null, g.ln = nil, nil, nil, nil, nil, nil, nil
}

// abandon undoes the generation. If the launch gives up, its verdict is written
// first: whoever queued on its listener sees the end of it only after.
func (s *system) abandon(giving bool) {
	if s.held != nil {
		s.b.standing.drop(s)
		return
	}
	g := s.gen
	s.gen = nil
	if g == nil {
		return
	}
	if g.child != nil {
		exit := g.child.kill()
		g.child.aid.undo()
		if s.err != nil && s.err.Signal == "" && s.err.Status < 0 && exit.Known {
			s.err.setExit(exit)
		}
	} else if g.spawning != nil {
		g.spawning.undo()
	}
	written := false
	if giving && s.err != nil && s.err.Class == LaunchFailed {
		s.err.Generation = g.number
		f := newFailure(s.err.Stage, s.err.Err, proc.BootTime(), time.Now())
		f.Status, f.Signal = s.err.Status, s.err.Signal
		written = record.Append(filepath.Join(g.dir, record.FileName), record.FailureLines(f)...) == nil
		if s.err.Log = g.record.Log; s.err.Log != "" {
			s.err.LogTail, _ = journal.Tail(g.record.Log, g.record.LogOffset, tailLines, tailBytes)
		}
		s.b.Note(s.place.Root, failedEvent(g.number, 0, f))
	}
	if s.dir != nil && !g.inode.IsZero() && s.mode != Activates {
		s.unlinkMade(g.inode, g.further)
	}
	if !written {
		_ = os.RemoveAll(g.dir)
		if g.copy != "" {
			_ = os.Remove(g.copy)
		}
		if s.dir != nil && current(s.place.Dir) == g.name {
			s.restoreCurrent()
		}
	}
	s.gen = g
	s.closeCopies()
	s.gen = nil
}

func (s *system) unlock() Outcome {
	for _, e := range s.admission.remove {
		// Under the launch lock, and its process is dead: nobody else looks at it. It
		// is done last, because nobody waits for it.
		_ = os.RemoveAll(e.Dir)
	}
	s.admission.remove = nil
	dir := s.dir
	s.dir = nil
	if err := lock.Release(dir); err != nil {
		// The descriptor is closed all the same, and the lock with its copies.
		return OK
	}
	return OK
}

// letThrough has the hook admit the process.
func (s *system) letThrough(ctx context.Context) {
	g := s.gen
	if g == nil || g.child == nil || g.child.aid == nil || g.child.aid.Admit == nil {
		return
	}
	if lines := g.child.aid.Admit(ctx, g.child.pid); len(lines) > 0 {
		g.append(lines...)
	}
}

// outlook is the machine's end as the caller sees it.
func (s *system) outlook(ctx context.Context, m Machine) (Outlook, error) {
	o := Outlook{Place: s.place, Result: m.Result, Conn: s.conn, Hand: s.hand, Launched: s.outcome, Held: s.held}
	if s.mode == Activates {
		o.Held = s.b.standing.refitted(s, m.Result)
	}
	if m.Result == Attached {
		if err := s.b.admitted(s.at); err != nil {
			s.dropConn()
			return Outlook{Place: s.place, Result: Gave}, err
		}
	}
	if m.Result != Gave {
		if s.outcome != nil {
			s.b.Note(s.place.Root, launchedEvent(*s.outcome, s.old, s.mode == Activates))
			if s.old == nil && s.mode != Activates {
				_ = record.Append(filepath.Join(s.outcome.Dir, record.FileName), record.Int("bound-after", s.outcome.BoundAfter))
			}
		}
		s.letThrough(ctx)
		if s.gen != nil && s.gen.child != nil {
			s.outcome.Ended = s.gen.child.watch(s.b, s.place)
		}
		return o, nil
	}
	s.dropConn()
	if s.err == nil {
		s.err = s.b.fault(LaunchFailed, StagePrepare, errors.New("unexpected outcome of a launch step"))
	}
	switch {
	case !s.placed:
	case s.err.Class == Refusal:
		s.b.Note(s.place.Root, refusedEvent(s.err))
	case s.err.Class == LaunchFailed && s.err.Generation == 0: // that of a generation is noted where it is abandoned
		s.b.Note(s.place.Root, failedEvent(0, 0, newFailure(s.err.Stage, s.err.Err, proc.BootTime(), time.Now())))
	}
	return Outlook{Place: s.place, Result: Gave}, s.err
}

func launchedEvent(g Generation, old *Entry, held bool) journal.Event {
	e := journal.Event{Kind: "launched", Generation: g.Number, PID: g.PID}
	switch {
	case old != nil:
		e.Reason = "to succeed generation " + strconv.FormatUint(old.Number, 10)
		return e // it is bound already
	case held:
		e.Reason = "for a broker that holds its listener"
		return e
	}
	e.Fields = []journal.Field{{Key: "bound_after_us", Value: strconv.FormatInt(g.BoundAfter.Microseconds(), 10), Number: true}}
	return e
}
