package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A TakeStep is something a successor does to become the owner. What is safe
// about a takeover is in the order of these steps.
type TakeStep uint8

// The steps, in the order of a takeover.
const (
	TakeLock    TakeStep = iota // get the launch lock of the directory that is at its path
	TakeNamed                   // a name of the endpoint leads to the listener
	TakeOrder                   // the old generation accepts no more and says so, or is dead
	TakeAccept                  // listen again, as the process that the kernel shows
	TakeCurrent                 // current names the successor
	TakeUnlock                  // release the launch lock
	TakeDone                    // the takeover has ended; Taken says how
	numTakeSteps
)

var takeStepNames = [numTakeSteps]string{"lock", "look for a name", "order", "accept", "move current", "unlock", "done"}

func (s TakeStep) String() string {
	if s < numTakeSteps {
		return takeStepNames[s]
	}
	return "step " + strconv.Itoa(int(s))
}

// A Taking decides a takeover, as a Machine decides a launch: Step says what to
// do, Next takes what came of it. The zero Taking begins. When it has ended the
// successor closes its connection to the old generation, which then looks at
// current to know how.
//
// A listener that no name leads to any more, because an outsider has deleted them,
// is taken over all the same, but not current: who has queued on it is served by
// the successor if the old generation is dead.
type Taking struct {
	Step     TakeStep
	Taken    bool // the successor serves; else the driver has the error
	Stranded bool // no name leads to the listener
	locked   bool
}

// Next returns the taking after the outcome of its current step.
func (t Taking) Next(o Outcome) Taking {
	switch {
	case t.Step == TakeDone:
	case t.Step == TakeUnlock:
		t.Step, t.locked = TakeDone, false
	case t.Step == TakeLock && o == Held:
	case o == Absent && (t.Step == TakeLock || t.Step == TakeNamed):
		t.locked = t.Step == TakeNamed
		t.Step, t.Stranded = TakeOrder, true
	case o == Absent && t.Step == TakeCurrent:
		t.Stranded = true
		return t.end(true)
	case o != OK:
		return t.end(false)
	case t.Step == TakeAccept && t.Stranded, t.Step == TakeCurrent:
		return t.end(true)
	default:
		t.locked = t.locked || t.Step == TakeLock
		t.Step++
	}
	return t
}

// end gives the lock back, if it is held, and ends.
func (t Taking) end(taken bool) Taking {
	t.Taken = taken
	if t.Step = TakeDone; t.locked {
		t.Step = TakeUnlock
	}
	return t
}

// A takeover is the effects of a Taking.
type takeover struct {
	place        runtimedir.Place
	old          *control.Client
	oldName, own string
	inode        record.Inode
	accept       func() error

	dir    *os.File // the locked directory
	holder string
	err    error
}

// TakeOver makes own the generation that serves: under the launch lock the old
// one stops accepting, and current moves. accept is called in between, when
// nobody else accepts any more. The caller then closes the connection to the old
// one, which looks at current to know whether it was replaced. holder is the
// directory of the broker that holds the listener as well, as far as the old one could
// tell. The error says why the successor must not serve; an old one that has died is no
// error.
func TakeOver(ctx context.Context, place runtimedir.Place, old *control.Client, oldName, own string, inode record.Inode, accept func() error) (holder string, err error) {
	s := takeover{place: place, old: old, oldName: oldName, own: own, inode: inode, accept: accept}
	var t Taking
	for t.Step != TakeDone {
		t = t.Next(s.do(ctx, t.Step))
	}
	if t.Taken {
		return s.holder, nil
	}
	return "", s.err
}

func (s *takeover) do(ctx context.Context, step TakeStep) Outcome {
	switch step {
	case TakeLock:
		s.dir, s.err = new(Broker).lockDir(ctx, s.place) // waits while it is held
		if s.err == nil && s.dir == nil {
			if _, err := os.Lstat(s.place.Dir); err == nil {
				return Held // one is there again, or a fault of the file system is over
			}
			return Absent
		}
	case TakeNamed:
		if !IsNamed(s.place.Dir, s.inode) {
			return Absent
		}
	case TakeOrder:
		s.holder, s.err = orderTakeOver(ctx, s.place, s.old, s.oldName)
	case TakeAccept:
		s.err = s.accept()
	case TakeCurrent:
		// In the directory that is locked: another may be at the path by now.
		s.err = leadCurrent(s.dir, s.place.Dir, s.own)
		if errors.Is(s.err, fs.ErrNotExist) && !atPath(s.dir, s.place.Dir) {
			return Absent
		}
	case TakeUnlock:
		_ = lock.Release(s.dir)
		return OK
	}
	if s.err != nil {
		return Failed
	}
	return OK
}

// orderWithin bounds the wait for the old generation, under the launch lock: its
// control endpoint answers whatever it does. One that hangs goes on being the
// owner, and is left to who finds it hung.
const orderWithin = 5 * time.Second

// orderTakeOver returns without an error when the old generation does not accept any more, or
// is dead. That its connection has ended does not prove that: two that accept
// would be worse than a successor that gives up.
func orderTakeOver(ctx context.Context, place runtimedir.Place, old *control.Client, oldName string) (holder string, err error) {
	ctx, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	holder, err = old.TakeOver(ctx)
	if err == nil {
		return holder, nil
	}
	if _, refused := errors.AsType[*control.RemoteError](err); refused || ctx.Err() != nil {
		return "", err
	}
	r, readErr := record.Read(filepath.Join(place.Dir, oldName, record.FileName))
	if readErr != nil {
		return "", nil // its directory goes after its death only
	}
	h, openErr := Entry{Record: r}.Open()
	if openErr != nil {
		return "", nil
	}
	defer h.Close()
	if h.Wait(ctx) != nil {
		return "", errors.New("generation " + oldName + " has closed its control connection, and lives: " + err.Error())
	}
	return "", nil
}
