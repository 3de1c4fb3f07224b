//go:build unix || windows

package launch

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// child is a daemon that this process started.
type child struct {
	pid    int
	handle *proc.Handle // nil where the system gave none; then only its pid is known
	record string       // path of its generation's record
	aid    *Aid         // nil without a hook
}

var errNoHandle = errors.New("the system gives no handle on the process")

// append adds to the generation's record and its copy.
func (g *generation) append(lines ...record.Line) {
	_ = record.Append(filepath.Join(g.dir, record.FileName), lines...)
	if g.copy != "" {
		_ = record.Append(g.copy, lines...)
	} else if g.lines != nil {
		g.lines = append(g.lines, lines...)
	}
}

// kill ends a child that must not live on, by handle, reaps it and says how it
// ended.
func (c *child) kill() proc.Exit {
	if c.handle == nil {
		killChild(c.pid)
		return proc.Exit{}
	}
	_ = c.handle.Signal(syscall.SIGKILL)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = c.handle.Wait(ctx)
	exit := c.ended()
	_ = c.handle.Close()
	return exit
}

// ended reaps the dead child and says how it ended.
func (c *child) ended() proc.Exit {
	exit, _, err := c.handle.Reap()
	if err != nil {
		// The host program waits for all children; the kernel may still tell.
		exit, _ = c.handle.Exit()
	}
	return exit
}

// watch follows the child in the background for as long as it and this process
// live: it leaves no zombie, ends a child that does not adopt what it was
// handed, and writes how the child ended into its record. The goroutine waits
// in Go's poller and holds no thread. The channel is closed when all of that is done;
// it is nil without a handle on the child.
func (c *child) watch(b *Broker, place runtimedir.Place) <-chan struct{} {
	if c.handle == nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer c.handle.Close()
		stage, cause := c.awaitAdoption(b.Def)
		if c.handle.Wait(context.Background()) != nil {
			return
		}
		c.verdict(b, place, stage, cause)
	}()
	return ended
}

// awaitAdoption returns once the budget for adopting is over or the child is
// dead. A foreign daemon does not say that it adopted.
func (c *child) awaitAdoption(def definition.Definition) (stage string, cause error) {
	if def.Foreign {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), def.AdoptWithin)
	defer cancel()
	if c.handle.Wait(ctx) == nil {
		return "", nil
	}
	r, err := record.Read(c.record)
	if err != nil || r.Backend {
		return "", nil // it did; or an outsider removed the record
	}
	_ = c.handle.Signal(syscall.SIGKILL)
	return StageAdopt, errors.New("did not adopt its listener within " + def.AdoptWithin.String() +
		"; does main call daemon.Run?")
}

// verdict writes how the dead child ended, as far as it did not say so itself.
func (c *child) verdict(b *Broker, place runtimedir.Place, stage string, cause error) {
	exit, _ := c.handle.Exit()
	if !exit.Known {
		exit = c.ended()
	}
	// Reaped last: if this process executes another program before the end is on
	// record, that one finds it.
	defer c.ended()
	why := c.aid.ended(c.pid, exit)
	if why.Lives {
		return
	}
	b.recordEnd(place, c.record, c.pid, exit, stage, cause, why)
}

// setExit notes how the process ended.
func (f *Fault) setExit(exit proc.Exit) {
	f.Status = -1
	if exit.Known && exit.Signal == 0 {
		f.Status = exit.Code
	}
	if exit.Signal != 0 {
		f.Signal = exit.Signal.String()
	}
}

// awaitBound waits until a daemon that binds itself has done so, is dead or out
// of its budget. The wait is for events: the control endpoint's word, or for a
// foreign daemon a changed directory; the child's death; the budget's end.
func (s *system) awaitBound(ctx context.Context) Outcome {
	g, def := s.gen, s.b.Def
	if g.child.handle == nil {
		return s.fault(StageBound, errNoHandle)
	}
	// Whoever gives up waiting leaves a launch to its budget, not to nobody.
	bctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), def.BoundWithin)
	defer cancel()
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		if g.child.handle.Wait(bctx) == nil {
			cancel()
		}
	}()
	var seen string
	var err error
	if def.Foreign {
		seen, err = s.awaitAccept(bctx)
	} else {
		seen, err = s.awaitIdentity(bctx)
	}
	if err == nil {
		cancel()
		<-dead
		g.boundAt = proc.BootTime()
		s.outcome.BoundAfter = g.boundAt - g.began
		if def.Foreign {
			g.append(record.PhaseLines(record.Bound, g.boundAt)...)
		}
		return OK
	}
	<-dead
	return s.unbound(seen)
}

// unbound makes the failure of a daemon that did not bind, with what was seen.
func (s *system) unbound(seen string) Outcome {
	g, def := s.gen, s.b.Def
	if g.child.handle.Alive() {
		return s.fault(StageBound, errors.New("not listening within "+def.BoundWithin.String()+" of exec; "+seen))
	}
	exit := g.child.ended()
	r, rerr := record.Read(filepath.Join(g.dir, record.FileName))
	if rerr == nil && r.Failure != nil {
		s.err = RecordedFault(r) // it said why itself
	} else {
		s.err = s.b.fault(LaunchFailed, StageBound, errors.New("ended before it listened; "+seen))
	}
	s.err.setExit(exit)
	return Failed
}

// awaitIdentity asks the control endpoint: the daemon itself says that it is
// bound, by echoing what only this launcher knows.
func (s *system) awaitIdentity(ctx context.Context) (seen string, err error) {
	seen = "its control endpoint did not answer"
	conn, _, err := endpoint.Connect(ctx, s.place.Ctl(s.gen.name))
	if err != nil {
		return seen, err
	}
	c := control.NewClient(conn)
	defer c.Close()
	bound := false
	err = c.Watch(ctx, Nonce(), func(id control.Identity) bool {
		seen = "it says it is " + string(id.Phase)
		bound = id.Phase != control.Phase(record.Launching) && id.Phase != control.Phase(record.Failed)
		return bound
	})
	if bound {
		return seen, nil
	}
	if err == nil {
		err = errors.New(seen)
	}
	return seen, err
}

// awaitAccept waits for somebody to accept at the endpoint.
func (s *system) awaitAccept(ctx context.Context) (seen string, err error) {
	w, err := dirwatch.Open(s.place.Dir)
	if err != nil {
		return "", err
	}
	defer w.Close()
	// Between bind and listen a connect is refused, and no event tells of the
	// listen: that short time is looked through again and again.
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		conn, reach, cerr := endpoint.Connect(ctx, s.place.Sock())
		switch reach {
		case endpoint.Reached:
			return "", conn.Close()
		case endpoint.Busy:
			return "", nil
		case endpoint.Absent:
			seen = "no socket at " + s.place.Sock()
		case endpoint.Refused:
			seen = "the socket at " + s.place.Sock() + " refuses connections"
			again.Reset(2 * time.Millisecond)
		default:
			seen = "connecting failed: " + errText(cerr)
		}
		select {
		case <-ctx.Done():
			return seen, ctx.Err()
		case <-w.C():
		case <-again.C:
		}
	}
}
