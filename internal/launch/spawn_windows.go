package launch

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/detach"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// selfExe: no name of the kernel's leads to the running program here; the command's own
// path is used. A running program's file can be renamed, not replaced.
const selfExe = ""

// spawning is everything that the start of a process needs, made before.
type spawning struct {
	daemon detach.Daemon
	copies []*pipe.Copies // of what the child inherits; no other child of ours is to
	aid    *Aid           // nil without a hook; it has no step between fork and exec here
}

// close closes the copies that were made for the child.
func (sp *spawning) close() {
	if sp == nil {
		return
	}
	for _, c := range sp.copies {
		c.Close()
	}
	sp.copies = nil
}

// errForeignHere: without a descriptor's number that a child can be told, and without an
// exec that becomes the daemon, neither convention nor trampoline exist.
var errForeignHere = errors.New("a daemon that knows nothing of fastbind can inherit no listener on Windows")

// errBatch: the system runs one in cmd.exe. The process that is known, waited for and killed
// would be that one, not the daemon, and it reads arguments by rules of its own.
var errBatch = errors.New("a batch file is run by cmd.exe, which would be taken for the daemon: name the program itself")

// Launchable says what cannot be launched here whatever it is.
func Launchable(def definition.Definition) error {
	switch {
	case def.Foreign:
		return errForeignHere
	case isBatch(def.Command[0]):
		return errBatch
	}
	return nil
}

// isBatch reports whether a command's name is a batch file's. The system does not see dots
// and blanks at a name's end.
func isBatch(name string) bool {
	ext := filepath.Ext(strings.TrimRight(name, ". "))
	return strings.EqualFold(ext, ".bat") || strings.EqualFold(ext, ".cmd")
}

// prepareSpawn makes the arguments, environment and handles of the child.
func (s *system) prepareSpawn() error {
	g, def := s.gen, s.b.Def
	h := s.handover()
	sp := &spawning{}
	inherit := func(c *pipe.Copies, err error) (handover.Handles, error) {
		if err != nil {
			return "", err
		}
		sp.copies = append(sp.copies, c)
		sp.daemon.Handles = append(sp.daemon.Handles, c.Handles...)
		return handover.HandlesOf(c.Handles), nil
	}
	err := func() (err error) {
		if g.sock != nil {
			if h.Instances, err = inherit(g.sock.Inheritable()); err != nil {
				return err
			}
		}
		if h.ControlInstances, err = inherit(g.control.Inheritable()); err != nil {
			return err
		}
		if _, err = inherit(inheritable(g.life)); err != nil {
			return err
		}
		h.Life = int(sp.copies[len(sp.copies)-1].Handles[0])
		return nil
	}()
	if err != nil {
		sp.close()
		return err
	}
	sp.daemon.Path, sp.daemon.Args, sp.daemon.Dir = s.program, def.Command[1:], def.Dir
	sp.daemon.Env = append(append([]string(nil), g.contract...), handover.Variable+"="+h.Encode())
	sp.daemon.Stdout, sp.daemon.Stderr = g.log, g.log
	g.spawning = sp
	if err := s.prepareAid(nil); err != nil {
		sp.close()
		g.spawning = nil
		return err
	}
	return nil
}

// inheritable returns a copy of a file's handle for a child.
func inheritable(f *os.File) (*pipe.Copies, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	self := windows.CurrentProcess()
	var dup windows.Handle
	if cerr := rc.Control(func(h uintptr) {
		err = windows.DuplicateHandle(self, windows.Handle(h), self, &dup, 0, true, windows.DUPLICATE_SAME_ACCESS)
	}); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("DuplicateHandle", err)
	}
	return &pipe.Copies{Handles: []syscall.Handle{syscall.Handle(dup)}}, nil
}

// spawn starts the process.
func (s *system) spawn() Outcome {
	g := s.gen
	if g.spawning == nil {
		if err := s.prepareSpawn(); err != nil {
			return s.fault(StageSpawn, err)
		}
	}
	defer g.spawning.close()
	h, job, err := detach.Start(g.spawning.daemon)
	if err != nil {
		return s.fault(StageSpawn, &os.PathError{Op: "exec", Path: s.program, Err: err})
	}
	g.child = &child{pid: h.PID(), handle: h, record: filepath.Join(g.dir, record.FileName), aid: g.spawning.aid}
	// The daemon writes the same some milliseconds later, in case that we die here.
	if id, err := proc.Of(h.PID()); err == nil {
		g.append(record.Int("pid", id.PID), record.Int("start", id.Start))
	}
	s.outcome = s.launched(h.PID())
	switch job {
	case detach.None:
	case detach.Perhaps:
		// Every daemon that launches another is in a job, and cannot know.
		s.b.Note(s.place.Root, journal.Event{Kind: "fallback", Generation: g.number, PID: h.PID(),
			Reason: "the daemon is " + job.String() + ", and can then be ended with it"})
	default:
		// R20: whoever asks why the daemon has gone finds it, and who launches is told.
		s.outcome.Tied = job.String()
		s.b.Note(s.place.Root, journal.Event{Kind: "fallback", Generation: g.number, PID: h.PID(),
			Reason: "the daemon is " + job.String() + ": it cannot be let out, and can be ended with it"})
	}
	return OK
}

// killChild: a child always has a handle.
func killChild(int) {}
