package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// On Windows a standing broker holds copies of the instances of a pipe in which a client
// waits, or may: those that the daemon has not taken. It has them of its own while nobody
// serves, and from who serves it is told of each that joins the queue or leaves it. No name
// of the endpoint can be lost, and there are no further ones.

var stands = standing{bind: (*system).bindHeld, listen: (*system).listenHeld, drop: (*system).dropHeld, own: (*system).own, inherit: (*system).inherit,
	refitted: func(*system, Result) *Holding { return nil }}

// own looks, under the launch lock, whether nobody serves from what is held, or will.
func (s *system) own() Outcome {
	entries, err := s.b.generations(s.place)
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	s.entries = entries
	switch e, ok := Serving(s.place.Dir, entries); {
	case (!ok || leaves(e)) && s.b.held.sock.Hold().Lent():
		return Busy // until it is heard whom it has taken last
	case !ok, leaves(e): // its queue is ours
		return OK
	case e.Record.Stopped:
		return Busy // it is about to drain
	}
	return InUse
}

// inherit has what is held served by the generation.
func (s *system) inherit() Outcome {
	var err error
	if s.gen.sock, err = s.b.held.sock.Copy(); err != nil {
		return s.fault(StagePrepare, err)
	}
	s.gen.boundAt = s.gen.began
	return OK
}

// listenHeld: who claims a name listens.
func (s *system) listenHeld() Outcome { return OK }

// dropHeld undoes a hold that came to nothing.
func (s *system) dropHeld() {
	h := s.held
	s.held = nil
	if h.sock != nil {
		_ = h.sock.Close()
	}
}

// bindHeld says who holds before anybody can connect, and claims the name.
func (s *system) bindHeld() error {
	s.held = &Holding{Place: s.place}
	err := leadHolder(s.dir, s.place.Dir, s.b.holder)
	if err == nil {
		s.held.sock, err = endpoint.BindHeld(s.place.Sock())
	}
	if errors.Is(err, fs.ErrExist) && onlyDrains(s.place.Dir, "") {
		s.held.sock, err = endpoint.BindHeldBeside(s.place.Sock())
	}
	return err
}

// leadHolder says who holds, under the launch lock.
func leadHolder(_ *os.File, dir, holder string) error {
	err := runtimedir.WriteHolder(dir, holder)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	path := filepath.Join(dir, runtimedir.HolderName)
	if fi, serr := os.Lstat(path); serr == nil && fi.IsDir() && os.RemoveAll(path) == nil {
		err = runtimedir.WriteHolder(dir, holder)
	}
	return err
}

func (b *Broker) adopt(ctx context.Context, place runtimedir.Place, e Entry, holder string) (*Holding, *control.Client, error) {
	h := &Holding{Place: place, holder: holder, sock: endpoint.HoldOf(place.Sock())}
	c, told, err := b.TakeHold(ctx, h, e)
	if h.told = told; err == nil {
		err = b.markHeld(ctx, h)
	}
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		_ = h.Close()
		return nil, nil, err
	}
	return h, c, nil
}

// TakeHold tells a generation that serves from what is held that it is, and has what is
// held follow what it tells of its queue, until told is closed. The client is the hold's
// life. What is held is lent, until the generation says that it has left its queue, or the
// caller, who has seen it end, says so (EndHold).
//
// It blocks until the daemon has answered, or until ctx ends.
func (b *Broker) TakeHold(ctx context.Context, h *Holding, e Entry) (c *control.Client, told <-chan struct{}, err error) {
	hold := h.sock.Hold()
	hold.Lend(e.Dir)
	if Alone(e.Dir) { // it takes that back when it has a broker again
		hold.Drop(e.Dir)
	}
	if c, err = DialControl(ctx, h.Place, e.Name); err != nil {
		return nil, nil, err
	}
	answered, ended := make(chan error, 2), make(chan struct{})
	go func() { // ends with the connection
		defer close(ended)
		answered <- follow(c, hold, e.Dir, h.holder, func() { answered <- nil })
		if Alone(e.Dir) {
			hold.Drop(e.Dir)
		}
	}()
	select {
	case err = <-answered:
	case <-ctx.Done():
		defer hold.Drop(e.Dir) // it may have told something that nobody has heard
		err = ctx.Err()
	}
	if err != nil {
		_ = c.Close()
		<-ended
		return nil, nil, err
	}
	return c, ended, nil
}

// follow has the hold follow what the daemon tells until there is no more. begun is called
// when all of its queue is held.
func follow(c *control.Client, hold *pipe.Hold, genDir, holder string, begun func()) error {
	var process windows.Handle
	defer func() {
		if process != 0 {
			_ = windows.CloseHandle(process)
		}
	}()
	anew, left := true, false
	err := c.Hold(context.Background(), holder, func(change control.Change) error {
		if change.Left {
			left = true
			return nil
		}
		if anew {
			// Without it, as of one that is dead by now, there is nothing to be copied.
			process, _ = pipe.OpenSource(change.PID)
		}
		hold.Follow(genDir, process, anew, change.Made, change.Taken)
		if anew {
			begun()
		}
		anew = false
		return nil
	})
	if left {
		hold.Return(genDir)
	}
	return err
}

// Alone reports whether the generation whose directory that is has taken clients untold.
func Alone(genDir string) bool {
	_, err := os.Lstat(filepath.Join(genDir, AloneName))
	return err == nil
}

// EndHold says that a generation which served from what is held has ended, unless it has
// left its queue before: that may be the next one's by now.
func EndHold(h *Holding, e Entry) {
	if Alone(e.Dir) {
		h.sock.Hold().Drop(e.Dir)
	}
	h.sock.Hold().Return(e.Dir)
}

// Lost: a pipe's name cannot be deleted.
func (h *Holding) Lost() bool { return false }

// PutBack is for names that were deleted.
func (b *Broker) PutBack(context.Context, runtimedir.Place, record.Inode) error { return nil }

// CloseStrays: a child has the handles that it is given, and no others.
func CloseStrays() error { return nil }
