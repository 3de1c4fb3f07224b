package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Stopped generation.
type Stopped struct {
	Generation uint64
	PID        int
	Killed     bool // it did not end in time, or was not asked
}

// Stop ends every living generation of the service: a request to drain, and
// after the definition's StopWithin a kill, both through the process handle. It
// decides under the launch lock and waits without it, for the processes
// themselves. A service without a living generation is a *Fault of class
// NotRunning.
func (b *Broker) Stop(ctx context.Context) ([]Stopped, error) { return b.end(ctx, syscall.SIGTERM) }

// Kill is Stop without the request to drain: every living generation is killed
// at once, and who was connected is cut off.
func (b *Broker) Kill(ctx context.Context) ([]Stopped, error) { return b.end(ctx, syscall.SIGKILL) }

func (b *Broker) end(ctx context.Context, sig syscall.Signal) ([]Stopped, error) {
	place, err := b.find()
	if err != nil {
		return nil, err
	}
	targets, failed := b.signalAll(ctx, place, sig)
	defer func() {
		for _, t := range targets {
			_ = t.handle.Close()
		}
	}()
	if len(targets) == 0 && failed != nil {
		return nil, failed
	}
	if len(targets) == 0 {
		return nil, b.fault(NotRunning, StageStop, errNotRunning)
	}
	var stopped []Stopped
	for _, t := range targets {
		killed, err := t.await(ctx)
		if err != nil && ctx.Err() == nil {
			return stopped, b.unstoppable(t.entry, err)
		}
		if err != nil {
			return stopped, b.DeadlineFault(ctx)
		}
		reason := "asked to"
		switch {
		case sig == syscall.SIGKILL:
			killed, reason = true, "killed, as asked to"
		case killed:
			reason = "killed: it did not end in time"
		}
		path := filepath.Join(t.entry.Dir, record.FileName)
		if r, err := record.Read(path); err == nil && !r.Phase.Final() {
			_ = record.Append(path, record.PhaseLines(record.Gone, proc.BootTime())...)
		}
		b.Note(place.Root, journal.Event{Kind: "stopped", Generation: t.entry.Number, PID: t.handle.PID(),
			Reason: reason})
		stopped = append(stopped, Stopped{t.entry.Number, t.handle.PID(), killed})
	}
	return stopped, failed
}

// A target is a generation that was asked to end.
type target struct {
	entry  Entry
	handle *proc.Handle
	within time.Duration
}

// await waits for the process's end, killing it when its time is over.
func (t target) await(ctx context.Context) (killed bool, err error) {
	tctx, cancel := context.WithTimeout(ctx, t.within)
	defer cancel()
	if t.handle.Wait(tctx) == nil {
		return false, nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	_ = record.Append(filepath.Join(t.entry.Dir, record.FileName), record.KilledLine())
	if err := t.handle.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
		return true, err
	}
	return true, t.handle.Wait(ctx)
}

// signalAll signals every living generation, under the launch lock.
func (b *Broker) signalAll(ctx context.Context, place runtimedir.Place, sig syscall.Signal) ([]target, error) {
	healed := time.Now().Add(healWithin)
	for end := time.Now().Add(definition.DefaultAdoptWithin); ; {
		unlock, err := b.lockAll(ctx, place, sig)
		if err != nil || unlock == nil {
			return nil, err
		}
		targets, again, err := b.signalLocked(ctx, place, sig, time.Now().Before(end), healed)
		unlock()
		if !again {
			return targets, err
		}
		if sleep(ctx, 5*time.Millisecond) != nil {
			return nil, b.DeadlineFault(ctx)
		}
	}
}

// healWithin is how long a stop waits for a backend to write its record again.
const healWithin = 2 * time.Second

func (b *Broker) signalLocked(ctx context.Context, place runtimedir.Place, sig syscall.Signal, patient bool, healed time.Time) (targets []target, again bool, err error) {
	entries, err := b.generations(place)
	if err != nil {
		return nil, false, b.fault(LaunchFailed, StageStop, err)
	}
	for i, e := range entries {
		if !e.Locked || e.Record.Backend || e.Record.Definition.Foreign || sig == syscall.SIGKILL && e.Record.PID != 0 {
			continue
		}
		// It has not announced itself: a signal would end it before it can drain
		// what is queued already. Or its record is of a release whose format we
		// do not read. Its answer says that it has begun, and who it is.
		id, err := Identify(ctx, place, e)
		if err != nil && patient {
			return nil, true, nil
		}
		if err != nil && e.Record.PID == 0 {
			return nil, false, b.fault(LaunchFailed, StageStop, errNameless)
		}
		if err != nil {
			continue // it hangs before its first line
		}
		r := &entries[i].Record
		r.PID, r.Start, r.BootID, r.PIDNamespace = id.PID, id.StartedTicks, id.BootID, id.PIDNamespace
	}
	for _, e := range entries {
		if !e.Alive {
			continue
		}
		h, oerr := e.Open()
		if errors.Is(oerr, proc.ErrGone) {
			continue // it ended meanwhile
		}
		if oerr == nil {
			lines := []record.Line{record.StoppedLine()}
			if sig == syscall.SIGKILL {
				lines = append(lines, record.KilledLine())
			}
			_ = record.Append(filepath.Join(e.Dir, record.FileName), lines...)
			if oerr = askToEnd(ctx, place, e, h, sig); errors.Is(oerr, proc.ErrGone) {
				oerr = nil
			}
		}
		if oerr != nil {
			if h != nil {
				_ = h.Close()
			}
			err = b.unstoppable(e, oerr) // and on with the others
			continue
		}
		// A backend takes its own time to drain, then leaves by itself.
		targets = append(targets, target{e, h, e.Record.Definition.Complete().StopWithin + time.Second})
	}
	if len(targets) == 0 && err == nil && Holder(place.Dir) == "" && accepts(place) {
		// Under the lock nobody is about to launch. A backend whose record an
		// outsider removed is about to write it again.
		f := b.fault(LaunchFailed, StageStop, errUnrecorded)
		f.Cure = "find who listens, and end it: lsof " + place.Sock()
		return nil, time.Now().Before(healed), f
	}
	return targets, false, err
}

// cureProc is the advice where /proc is not that of the own pid namespace.
const cureProc = "mount this pid namespace's own /proc: mount -t proc proc /proc, or unshare --mount-proc"

// unstoppable is the fault of a living generation that no signal can be sent to.
func (b *Broker) unstoppable(e Entry, err error) *Fault {
	f := b.fault(LaunchFailed, StageStop, err)
	f.Generation = e.Number
	switch {
	case errors.Is(err, proc.ErrElsewhere), errors.Is(err, proc.ErrUnproven):
		f.Cure = "end it in the pid namespace (the container) that it was launched in, where its pid is " + strconv.Itoa(e.Record.PID)
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, os.ErrNotExist):
		f.Cure = cureProc
	}
	return f
}

// lockService takes the launch lock of a service that exists, trying until ctx
// ends. unlock is nil if the directory is gone.
func (b *Broker) lockService(ctx context.Context, place runtimedir.Place) (unlock func(), err error) {
	f, err := b.lockDir(ctx, place)
	if f == nil || err != nil {
		return nil, err
	}
	return func() { _ = lock.Release(f) }, nil
}

// lockDir is lockService, and returns the locked directory, nil if it is gone.
func (b *Broker) lockDir(ctx context.Context, place runtimedir.Place) (*os.File, error) {
	for {
		f, err := openLocked(place.Dir)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, b.fault(LaunchFailed, StageLock, err)
		}
		ok, err := lock.Try(f)
		if ok && atPath(f, place.Dir) {
			return f, nil
		}
		if ok {
			_ = lock.Release(f) // of a directory that was replaced meanwhile
			continue
		}
		_ = f.Close()
		if err != nil {
			return nil, b.fault(LaunchFailed, StageLock, err)
		}
		if sleep(ctx, 2*time.Millisecond) != nil {
			return nil, b.DeadlineFault(ctx)
		}
	}
}

// LockHolder returns the pid of the process that has the service's launch lock, 0 if
// nobody has or it is not known.
func (b *Broker) LockHolder() int {
	place, err := b.find()
	if err != nil {
		return 0
	}
	return lock.Holder(lockedPath(place.Dir))
}

// lockAll is lockService for who ends everything. A daemon that hangs while it takes
// over has the lock, and is killed for it if all are to be.
func (b *Broker) lockAll(ctx context.Context, place runtimedir.Place, sig syscall.Signal) (unlock func(), err error) {
	if sig != syscall.SIGKILL {
		return b.lockService(ctx, place)
	}
	for {
		unlock, err := b.lockBeside(ctx, place, true)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if unlock != nil || err != nil {
			return unlock, err
		}
		entries, err := b.generations(place)
		if err != nil {
			return nil, b.fault(LaunchFailed, StageStop, err)
		}
		pid := lock.Holder(lockedPath(place.Dir))
		for _, e := range entries {
			if h, err := e.Open(); err == nil {
				if h.PID() == pid {
					_ = record.Append(filepath.Join(e.Dir, record.FileName), record.StoppedLine(), record.KilledLine())
					endBy(ctx, h, syscall.SIGKILL, hangDeath)
				}
				_ = h.Close()
			}
		}
	}
}

// atPath reports whether what is opened of a directory, for the launch lock, is that of
// the one at the path.
func atPath(f *os.File, dir string) bool {
	have, err := endpoint.InodeOf(f)
	if err != nil {
		return false
	}
	at, err := endpoint.Inode(lockedPath(dir))
	return err == nil && at == have
}

// Reset forgets the failures on record, so that the spent budget is free again.
// It returns how many there were.
func (b *Broker) Reset(ctx context.Context) (int, error) {
	place, err := b.find()
	if err != nil {
		return 0, err
	}
	unlock, err := b.lockService(ctx, place)
	if err != nil || unlock == nil {
		return 0, err
	}
	defer unlock()
	entries, err := Generations(place.Dir)
	if err != nil {
		return 0, b.fault(LaunchFailed, StageDirectory, err)
	}
	n := 0
	for _, e := range entries {
		r := e.Record
		if e.Alive || r.Reset || r.Failure == nil && settleVerdict(r) == nil {
			continue
		}
		if err := record.Append(filepath.Join(e.Dir, record.FileName), record.Line{Key: "reset", Value: "true"}); err != nil {
			return n, b.fault(LaunchFailed, StageDirectory, err)
		}
		n++
	}
	return n, nil
}

// Purge removes the run-time files, logs and journal of a service without a
// living generation and returns their paths; with dry it only returns them.
// NotRunning is not needed: a living service is left alone, with no path.
func (b *Broker) Purge(ctx context.Context, dry bool) ([]string, error) {
	place, err := b.find()
	if err != nil {
		return nil, err
	}
	unlock, err := b.lockService(ctx, place)
	if err != nil || unlock == nil {
		return nil, err
	}
	defer unlock()
	entries, err := b.generations(place)
	if err != nil {
		return nil, b.fault(LaunchFailed, StageDirectory, err)
	}
	paths := []string{place.Dir}
	if place.Addr != place.Dir {
		paths = append(paths, place.Addr)
	}
	for _, e := range entries {
		if e.Alive {
			return nil, nil
		}
	}
	if Holder(place.Dir) != "" {
		return nil, nil
	}
	// A daemon that is no generation of ours may still listen there.
	if conn, reach, _ := endpoint.Connect(ctx, place.Sock()); reach != endpoint.Absent && reach != endpoint.Refused {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, nil
	}
	for _, state := range b.Env.StateDirs(place.Root, b.Def.Instance) {
		if b.Env.VerifyState(place.Root, state) != nil {
			continue // nothing of ours was written there
		}
		for _, p := range []string{logPath(state, b.DirName()), journalPath(state, b.DirName()), copyPath(state, b.DirName())} {
			for _, f := range []string{p, p + ".1"} {
				if _, err := os.Lstat(f); err == nil {
					paths = append(paths, f)
				}
			}
		}
	}
	placements := b.Env.Placements(place, b.Def.Instance, b.DirName())
	if dry {
		return append(paths, placements...), nil
	}
	for _, p := range paths {
		if err := removeAll(p); err != nil {
			return paths, b.fault(LaunchFailed, StageDirectory, err)
		}
	}
	// The last service takes the instance's directory along. One that is being
	// launched there meanwhile makes it again.
	_ = os.Remove(filepath.Dir(place.Dir))
	if err := b.Env.Unplace(ctx, place, b.Def.Instance, b.DirName()); err != nil {
		if ctx.Err() != nil {
			return paths, b.DeadlineFault(ctx)
		}
		return paths, b.fault(LaunchFailed, StageDirectory, err)
	}
	return append(paths, placements...), nil
}

// RemoveNames removes the endpoint's names from a service's directory if they
// are the given inode's, under the launch lock. It is for daemons on systems
// that cannot refuse newcomers and keep the queue; it gives up after a second,
// since the process ends anyway.
func RemoveNames(dir string, own record.Inode) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var b Broker
	unlock, err := b.lockService(ctx, runtimedir.Place{Dir: dir})
	if err != nil || unlock == nil {
		return
	}
	defer unlock()
	removeNamesLocked(dir, own)
}
