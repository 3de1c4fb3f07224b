package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// endedReplaced is why a generation ends whose successor has taken over.
const endedReplaced = "replaced"

// A giver is the old generation's side of a handover. There is one successor at
// a time; its control connection is its life. As long as it has not taken over
// the daemon serves as ever, and does not shut the listener down, which is the
// successor's too.
//
// A takeover has two phases. At the successor's order the daemon pauses: it
// accepts no more, and says so. When the successor's connection ends, current
// tells how it ended: it names the successor, and the daemon drains; or it does
// not, because the successor died over it, and the daemon accepts again.
//
// Safe for concurrent use.
type giver struct {
	need  *need
	owner func() bool // current names this generation
	dir   string      // the generation's directory

	taken chan struct{} // closed when a successor has taken over

	mu      sync.Mutex // guards the fields below
	tenure  generation.Tenure
	holder  string        // the directory of the broker that holds, "" if not known
	ln      *listener     // nil until bound
	stop    func()        // ends a load whose result nobody needs any more
	gone    chan struct{} // of the present successor: closed when it is gone; nil without one
	release func()        // ends its hold on the need
}

func newGiver(n *need, owner func() bool) *giver {
	return &giver{need: n, owner: owner, taken: make(chan struct{})}
}

func (g *giver) bound(ln *listener, stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ln, g.stop = ln, stop
	g.tenure.Bound = true
	g.awaitHoldLocked()
}

func (g *giver) serves() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tenure.Loaded = true
}

func (g *giver) isTaken() bool {
	select {
	case <-g.taken:
		return true
	default:
		return false
	}
}

// begin takes a successor.
func (g *giver) begin() (*control.Succession, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, err := g.tenure.Begin()
	if err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	g.tenure, g.gone = t, gone
	g.release = g.need.succession() // it does not end by itself meanwhile
	return &control.Succession{Listener: g.ln.ul, TakeOver: func() (string, error) { return g.takeOver(gone) }, End: func() { g.end(gone) }}, nil
}

func (g *giver) takeOver(successor chan struct{}) (holder string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone != successor {
		return "", nil
	}
	t, pause := g.tenure.Order()
	if pause {
		g.ln.pause()
		// Or who has come waits until we know how it ends.
		if err := endpoint.Yield(g.ln.ul); err != nil {
			// Who comes still comes here, so that nobody is to accept beside us. The
			// order is none: the successor gives up, and its end ends nothing.
			g.ln.resume()
			return "", err
		}
	}
	if g.tenure = t; t.Hold == generation.NotHeld {
		return "", nil
	}
	return g.holder, nil
}

func (g *giver) end(successor chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone != successor {
		return
	}
	t, parting := g.tenure.Lose(g.owner())
	g.tenure = t
	switch parting {
	case generation.PartNothing:
		return
	case generation.PartHandOn:
		close(g.taken)
		if !endpoint.QueueMoves {
			return // who has queued here is served here, once it has loaded
		}
		g.ln.handOn()
		if !g.tenure.Loaded {
			g.stop()
		}
		// Our copy of the listener would keep a queue alive that nobody accepts
		// from, should the successor die later.
		_ = g.ln.Close()
		return
	case generation.PartResume:
		// It listened again, perhaps, and would be the process that the kernel
		// shows to clients.
		_ = endpoint.Relisten(g.ln.ul)
		g.ln.resume()
	case generation.PartAlone:
	}
	g.gone = nil
	close(successor)
	g.release()
}

// hold gives the listener to a standing broker as well.
func (g *giver) hold(holder string) (*control.Succession, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, err := g.tenure.TakeHold()
	if err != nil {
		return nil, err
	}
	g.tenure, g.holder = t, holder
	g.heldLocked()
	return &control.Succession{Listener: g.ln.ul, Lost: g.alone, End: func() { g.loseHold(generation.Held) }}, nil
}

func (g *giver) loseHold(was generation.Hold) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tenure = g.tenure.LoseHold(was)
	if was == generation.Promised && g.tenure.Hold == generation.NotHeld {
		g.stopAwaitingLocked()
	}
}

// promised says that a standing broker has the listener too: it has launched the
// daemon, or holds what that has taken over. It comes for its hold within holdWithin,
// or never.
func (g *giver) promised(holder string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tenure.Hold != generation.NotHeld {
		return
	}
	g.tenure.Hold, g.holder = generation.Promised, holder
	g.awaitHoldLocked()
	time.AfterFunc(holdWithin, func() { g.loseHold(generation.Promised) })
}

// holdWithin bounds the wait for a broker. It watches the control endpoint, which
// says when the daemon is bound.
const holdWithin = 10 * time.Second

// successorWithin bounds the wait, in a stop, for a successor that is being
// stopped as well.
const successorWithin = 2 * time.Second

// ends says why the daemon is to end, and reports whether it is; then no successor
// is taken any more. tell is called if it is, before anybody is refused for it: who
// asks in vain finds on record why. A broker that is dead by then holds nothing,
// whether or not we have seen the end of its connection: the queue is ours to serve.
func (g *giver) ends(why generation.Reason, tell func()) (ends bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tenure.Hold != generation.NotHeld && g.holder != "" && !launch.HolderLives(g.holder) {
		g.tenure = g.tenure.LoseHold(g.tenure.Hold)
	}
	if g.tenure, ends = g.tenure.End(why); ends {
		tell()
	}
	return ends
}

// drain reports whether the listener is a successor's or a broker's: it must not
// be shut down then, and its queue is not ours. A stop ends successors too, so that
// one which has not taken over yet gets a moment to go.
func (g *giver) drain() (handedOn, replaced bool) {
	g.mu.Lock()
	t, how := g.tenure.Drain(false)
	gone := g.gone
	g.tenure = t
	g.mu.Unlock()
	if how == generation.DrainAwait {
		late := time.NewTimer(successorWithin)
		defer late.Stop()
		select {
		case <-g.taken:
		case <-gone:
		case <-late.C:
		}
		g.mu.Lock()
		t, how = g.tenure.Drain(true)
		g.tenure = t
		g.mu.Unlock()
	}
	return how == generation.DrainHandOn, t.Heir != generation.NoHeir
}

// isOwner reports whether current names the generation. Where an outsider has
// deleted that, it is whether no successor says that it has taken over. A fault of
// the file system is no answer: two that both take it for a yes would both accept.
func isOwner(h *handover.Handover) bool {
	for again := readAgain; ; again-- {
		target, err := runtimedir.ReadCurrent(h.Dir)
		if err == nil {
			return target == h.GenDir
		}
		if again == 0 || errors.Is(err, os.ErrNotExist) {
			break
		}
		time.Sleep(readPause)
	}
	entries, err := launch.Generations(h.Dir)
	return err != nil || !slices.ContainsFunc(entries, func(e launch.Entry) bool {
		return e.Record.Succeeds == h.GenDir && e.Record.TookOver
	})
}

// How often a link that cannot be read is read again, and how long after.
const (
	readAgain = 10
	readPause = 10 * time.Millisecond
)

// askWithin bounds the question for the listener: a control endpoint answers
// whatever its daemon does.
const askWithin = 5 * time.Second

// succeedTo gets the listener of the generation that the daemon is to succeed.
func (st *stand) succeedTo(h *handover.Handover) error {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	old, err := record.Read(filepath.Join(h.Dir, h.Succeeds, record.FileName))
	if err != nil {
		return err
	}
	h.Inode = old.Inode
	c, f, err := launch.AskForListener(ctx, st.place(), h.Succeeds)
	if err != nil {
		return errors.New("asking generation " + h.Succeeds + " for its listener: " + err.Error())
	}
	if st.listener, err = successor(f, st.place().Sock()); err != nil {
		_ = c.Close()
		return err
	}
	st.old = c
	return nil
}

func (st *stand) place() runtimedir.Place { return placeOf(st.handover) }

func placeOf(h *handover.Handover) runtimedir.Place {
	return runtimedir.Place{Dir: h.Dir, Addr: h.Addr}
}

// takeOverWithin bounds the wait for the launch lock, which launchers hold for
// milliseconds, and all that is done under it.
const takeOverWithin = 30 * time.Second

// takeOver makes this generation, which has loaded, the one that serves.
func (st *stand) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverWithin)
	defer cancel()
	defer st.old.Close()
	// Listening again makes this process the one that the kernel shows to later
	// clients (SO_PEERCRED in unix(7)).
	holder, err := launch.TakeOver(ctx, st.place(), st.old, st.handover.Succeeds, st.handover.GenDir, st.handover.Inode,
		func() error { return endpoint.Relisten(st.listener) })
	if err != nil {
		return &stageError{launch.StageAdopt, errors.New("taking over: " + err.Error())}
	}
	if holder != "" {
		st.inst.giver.promised(holder)
	}
	// Before the old one sees the end of the connection.
	_ = st.inst.append(record.TookOverLine())
	return nil
}
