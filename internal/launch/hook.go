package launch

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Hook is what a standing broker has to do with the launches of a service beyond
// the protocol. Nil functions do nothing.
type Hook struct {
	// Prepare is called when the directory of a generation is made and it is about to
	// be forked, under the launch lock. It does not wait for anybody. An error fails
	// the launch. It is not called for a daemon that binds its endpoint itself.
	Prepare func(Preparing) (*Aid, error)

	// Ahead has a process that was made ahead become the foreign daemon that is launched
	// in Mode Activates. Not ok is that there is none: the shell does it. It is called
	// under the launch lock, for daemons whose aid has no step between fork and exec, and
	// blocks for some milliseconds, 5 s at most.
	Ahead func(Become) (Became, bool)

	// Noted is called when this process has written an event to the service's
	// journal, by any goroutine. It does not wait for anybody.
	Noted func(time.Time, journal.Event)
}

// A Become is what a process is told that is to become a foreign daemon. It does what the
// trampoline does: it writes its pid and start time into the record before exec, or
// ends, and has the soft limits, umask and signals of one.
type Become struct {
	Path, Dir string
	Argv, Env []string      // Env without the variables that name the process's own pid
	Files     []int         // its descriptors, from 0 on; they stay the caller's
	Record    string        // path of the generation's
	Lines     []record.Line // that it adds there
}

// A Became is the process that a Become was given to.
type Became struct {
	PID, Pidfd int           // the handle is the receiver's
	At         time.Duration // boot-time clock when it was told
}

// Preparing is the generation that is about to be forked.
type Preparing struct {
	Number uint64
	Dir    string // its directory, whose name is the generation's
	Addr   string // the same, by a path that is short enough for a socket address
}

// An Aid is what a hook adds to one launch. Nil functions and zero values add nothing.
// Of Ended and Undo one is called, once.
type Aid struct {
	Env   []string      // of the daemon, beside its contract
	Lines []record.Line // of its record

	// Script is a step between fork and exec, in the words of a POSIX shell. Wrap puts
	// the same before another command, whose path is absolute.
	Script string
	Wrap   func(path string, argv []string) (string, []string)

	Stdin  *os.File        // of the step, which gives the daemon another
	Cgroup func() (fd int) // that the process is born in, -1: in ours

	// Admit is called when the process exists, is on record, and the launch lock is
	// released. The lines are for its record. It blocks no longer than ctx lives.
	Admit func(ctx context.Context, pid int) []record.Line

	// Ended is called when the process has ended, before that goes on record.
	Ended func(pid int, exit proc.Exit) Ending

	// Undo is called if there was no process, or it was killed with its launch.
	Undo func()
}

// An Ending is what is known of a process's end beside its exit.
type Ending struct {
	Lives  bool   // the generation does: another process is its main one by now
	Cause  string // "" if nothing is known
	Memory bool   // it was killed for want of memory
}

// plain reports whether nothing is done between fork and exec.
func (a *Aid) plain() bool {
	return a == nil || a.Script == "" && a.Wrap == nil && a.Stdin == nil && a.Cgroup == nil
}

func (a *Aid) undo() {
	if a != nil && a.Undo != nil {
		a.Undo()
	}
}

func (a *Aid) ended(pid int, exit proc.Exit) Ending {
	if a == nil || a.Ended == nil {
		return Ending{}
	}
	return a.Ended(pid, exit)
}

// AppendRecord adds lines to the record of a generation that lives, and to the copy
// that there may be of it.
func (b *Broker) AppendRecord(place runtimedir.Place, e Entry, lines ...record.Line) error {
	err := record.Append(filepath.Join(e.Dir, record.FileName), lines...)
	for _, state := range b.Env.StateDirs(place.Root, b.Def.Instance) {
		path := copyPath(state, b.DirName())
		if r, rerr := record.Read(path); rerr == nil && r.Directory == e.Name {
			_ = record.Append(path, lines...)
		}
	}
	return err
}

// RecordEnd writes how the process of a generation ended that is no child of ours,
// as far as nobody has said so. Without a known exit or a cause it writes nothing:
// the next launcher settles that.
func (b *Broker) RecordEnd(place runtimedir.Place, e Entry, pid int, exit proc.Exit, why Ending) {
	if exit.Known || why.Cause != "" {
		b.recordEnd(place, filepath.Join(e.Dir, record.FileName), pid, exit, "", nil, why)
	}
}

// recordEnd writes how a process ended. stage and cause are what its launcher knows,
// "" and nil if nothing.
func (b *Broker) recordEnd(place runtimedir.Place, path string, pid int, exit proc.Exit, stage string, cause error, why Ending) {
	r, err := record.Read(path)
	if err != nil || r.Phase == record.Gone {
		return
	}
	// However a foreign daemon ends that was asked to, it is what was asked for. So it is
	// of a backend that had no time to know what the signal asks for.
	clean := exit.Known && exit.Code == 0 && exit.Signal == 0
	asked := r.Stopped && exit.Known && exit.Signal == syscall.SIGTERM
	if asked || r.Definition.Foreign && !r.Backend && (clean || r.Stopped) {
		_ = record.Append(path, record.PhaseLines(record.Gone, proc.BootTime())...)
		return
	}
	if stage == "" {
		stage = stageOf(r)
	}
	if cause == nil {
		cause = errors.New(cmp.Or(why.Cause, exitCause(stage, exit)))
	}
	f := newFailure(stage, cause, proc.BootTime(), time.Now())
	f.Kind = ""
	if why.Memory {
		f.Kind = KindMemory
	}
	setExit(&f, exit)
	_ = record.Append(path, record.FailureLines(f)...)
	if r.Failure != nil {
		f.Stage, f.Cause = r.Failure.Stage, r.Failure.Cause
	}
	b.Note(place.Root, failedEvent(r.Generation, pid, f))
}

// exitCause is the first line about a process that said nothing itself.
func exitCause(stage string, exit proc.Exit) string {
	if stage == StageAdopt {
		return "the process ended before it adopted its listener"
	}
	if exit.Known && exit.Signal == 0 && (exit.Code == 126 || exit.Code == 127) {
		return "the program could not be executed, or says so by its exit status"
	}
	return "the process ended"
}

func failedEvent(generation uint64, pid int, f record.Failure) journal.Event {
	e := journal.Event{Kind: "failed", Generation: generation, PID: pid, Reason: f.Cause,
		Fields: []journal.Field{{Key: "stage", Value: f.Stage}}}
	if f.Status >= 0 {
		e.Fields = append(e.Fields, journal.Field{Key: "status", Value: strconv.Itoa(f.Status), Number: true})
	}
	if f.Signal != "" {
		e.Fields = append(e.Fields, journal.Field{Key: "signal", Value: f.Signal})
	}
	if f.Errno != 0 {
		e.Fields = append(e.Fields, journal.Field{Key: "errno", Value: strconv.Itoa(int(f.Errno)), Number: true})
	}
	return e
}
