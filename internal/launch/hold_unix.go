//go:build unix

package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

var stands = standing{bind: (*system).bindHeld, listen: (*system).listenHeld, drop: (*system).dropHeld, own: (*system).own, inherit: (*system).inherit,
	become: (*system).becomeAhead, start: (*system).startAhead, refitted: (*system).endRefit}

// ahead is what a process is told, and who tells it.
type ahead struct {
	Become
	tell func(Become) (Became, bool)
}

// becomeAhead notes what a process that was made ahead is told instead of the shell, if
// the broker has any.
func (s *system) becomeAhead(env []string, files []uintptr) {
	sp, hook := s.gen.spawning, s.b.Hook
	if hook == nil || hook.Ahead == nil || !sp.aid.plain() {
		return
	}
	sp.ahead = &ahead{tell: hook.Ahead, Become: Become{Path: sp.path, Argv: sp.argv, Env: env, Dir: s.b.Def.Dir,
		Record: filepath.Join(s.gen.dir, record.FileName), Lines: sp.phase}}
	for _, fd := range files {
		sp.ahead.Files = append(sp.ahead.Files, int(fd))
	}
}

// startAhead has a process that was made ahead become the daemon, or forks if there is
// none.
func (s *system) startAhead() (int, error) {
	sp := s.gen.spawning
	if d, ok := sp.ahead.tell(sp.ahead.Become); ok {
		sp.pidfd, s.gen.there = d.Pidfd, d.At
		return d.PID, nil
	}
	return sp.fork()
}

// inherit makes copies of what is held.
func (s *system) inherit() Outcome {
	g, held := s.gen, s.b.held
	if s.refitted != nil {
		held = s.refitted
	}
	var err error
	if g.sock, err = s.b.held.sock.Copy(); err != nil {
		return s.fault(StagePrepare, err)
	}
	g.inode, g.boundAt = held.Inode, g.began
	for _, f := range held.further {
		sock, err := f.sock.Copy()
		if err != nil {
			return s.fault(StagePrepare, err)
		}
		g.further = append(g.further, &further{f.name, sock, f.inode})
	}
	return OK
}

// endRefit returns what the launch has made to be held, if that has come to something.
func (s *system) endRefit(r Result) *Holding {
	if s.refitted != nil && r != Launched {
		_ = s.refitted.Close()
		return nil
	}
	return s.refitted
}

// own looks, under the launch lock, whether the held listener is the endpoint's and
// nobody accepts from it, or will. A deleted name is put back from the other one.
func (s *system) own() Outcome {
	entries, err := s.b.generations(s.place)
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	s.entries = entries
	at := s.leads(runtimedir.SockName, s.b.held.Inode)
	if !at && !s.leads(runtimedir.KeepName, s.b.held.Inode) || s.b.held.sock.IsShut() {
		return Moved
	}
	switch e, ok := Serving(s.place.Dir, entries); {
	case !ok, leaves(e): // its queue is ours
	case !s.accepts(e):
		// It serves, or waits to take over, who was there when the names were deleted.
	case e.Record.Stopped:
		return Busy // it is about to drain
	default:
		return InUse
	}
	if !at {
		if o := s.restore(); o == Absent {
			return Moved
		} else if o != OK {
			return o
		}
	}
	return s.refit()
}

// accepts reports whether a generation accepts from the held listener, or will, as far as
// is known. A successor has its listener from the one before.
func (s *system) accepts(e Entry) bool {
	r := e.Record
	if r.Succeeds != "" && !r.TookOver {
		i := slices.IndexFunc(s.entries, func(old Entry) bool { return old.Name == r.Succeeds })
		if i < 0 {
			return true
		}
		r = s.entries[i].Record
	}
	return r.Inode.IsZero() || r.Inode == s.b.held.Inode
}

// leads reports whether a name in the locked directory leads to the inode.
func (s *system) leads(name string, to record.Inode) bool {
	var st unix.Stat_t
	err := unix.Fstatat(s.dirfd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && (record.Inode{Dev: uint64(st.Dev), Ino: st.Ino}) == to //nolint:unconvert // the widths differ between systems
}

// refit makes the further endpoints of a held service those that its definition has by
// now, while nobody accepts from it. One that is held stays, with whoever waits in its
// queue; one that has lost both names is bound anew, unless somebody waits there still:
// the daemon that is launched now serves them, and the next launch sees to the name.
func (s *system) refit() Outcome {
	s.restoreFurther()
	kept, names := map[string]*further{}, map[string]bool{}
	for _, f := range s.b.held.further {
		sock := runtimedir.FurtherSock(f.name)
		if slices.Contains(s.b.Def.Endpoints, f.name) && (s.leads(sock, f.inode) || f.sock.Waits()) {
			kept[f.name], names[sock], names[runtimedir.FurtherKeep(f.name)] = f, true, true
		}
	}
	if slices.EqualFunc(s.b.held.further, s.b.Def.Endpoints, func(f *further, name string) bool { return kept[name] == f }) {
		return OK
	}
	if s.refitted != nil {
		_ = s.refitted.Close() // of a launch that has started over
	}
	s.refitted = &Holding{Place: s.place, Inode: s.b.held.Inode, holder: s.b.held.holder}
	var err error
	if s.refitted.sock, err = s.b.held.sock.Copy(); err != nil {
		return s.fault(StageBind, err)
	}
	others, err := s.furtherNames()
	if err != nil {
		return s.fault(StageBind, err)
	}
	if o := s.unlinkNames(slices.DeleteFunc(others, func(n string) bool { return names[n] })...); o != OK {
		return o
	}
	for _, name := range s.b.Def.Endpoints {
		f, o := s.refitOne(kept[name], name)
		if f != nil {
			s.refitted.further = append(s.refitted.further, f)
		}
		switch o {
		case OK:
		case Failed:
			return o
		default:
			return s.fault(StageBind, errors.New("somebody else makes and removes the names of endpoint "+name))
		}
	}
	return OK
}

// refitOne returns a copy of a further listener that is held, or one that is bound now.
func (s *system) refitOne(held *further, name string) (*further, Outcome) {
	if held != nil {
		sock, err := held.sock.Copy()
		if err != nil {
			return nil, s.fault(StageBind, err)
		}
		return &further{name, sock, held.inode}, OK
	}
	f, o := s.bindOne(name)
	if o == OK {
		o = s.keepFurther([]*further{f})
	}
	if o == OK {
		if err := f.sock.Listen(); err != nil {
			o = s.fault(StageBind, err)
		}
	}
	return f, o
}

// bindHeld binds what is to be held.
func (s *system) bindHeld() (err error) {
	s.held = &Holding{Place: s.place}
	s.held.sock, err = endpoint.Bind(s.place.Sock())
	return err
}

// listenHeld says who holds before anybody can connect.
func (s *system) listenHeld() Outcome {
	if err := leadHolder(s.dir, s.place.Dir, s.b.holder); err != nil {
		return s.fault(StagePrepare, err)
	}
	if err := listenAll(s.held.further, s.held.sock); err != nil {
		return s.fault(StageBind, err)
	}
	return OK
}

// PutBack gives the endpoints of a service that is held their deleted names back, each
// from the other one: of a further endpoint the one that clients dial, of the service's
// own both. What has lost both, or has another listener's name, stays as it is.
//
// It blocks until it has had the launch lock, or until ctx ends.
func (b *Broker) PutBack(ctx context.Context, place runtimedir.Place, inode record.Inode) error {
	b = b.now()
	dir, err := b.lockDir(ctx, place)
	if dir == nil || err != nil {
		return err
	}
	defer func() { _ = lock.Release(dir) }()
	s := &system{b: b, place: place, dir: dir}
	gone := func(name string) bool {
		_, err := os.Lstat(filepath.Join(place.Dir, name))
		return errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case s.leads(runtimedir.SockName, inode):
		if gone(runtimedir.KeepName) {
			err = s.putBack(runtimedir.SockName, runtimedir.KeepName)
		}
		s.restoreFurther()
	case s.leads(runtimedir.KeepName, inode) && gone(runtimedir.SockName):
		if s.restore() == Failed {
			err = s.err
		}
	}
	return err
}

// dropHeld undoes a hold that came to nothing.
func (s *system) dropHeld() {
	h := s.held
	s.held = nil
	if s.dir != nil && !h.Inode.IsZero() {
		s.unlinkMade(h.Inode, h.further)
	}
	closeFurther(h.further)
	if h.sock != nil {
		_ = h.sock.Close()
	}
}

// Lost reports whether a name of an endpoint is gone.
func (h *Holding) Lost() bool {
	lost := func(name string) bool {
		_, err := os.Lstat(filepath.Join(h.Place.Dir, name))
		return errors.Is(err, os.ErrNotExist)
	}
	return lost(runtimedir.SockName) || lost(runtimedir.KeepName) ||
		slices.ContainsFunc(h.further, func(f *further) bool { return lost(runtimedir.FurtherSock(f.name)) })
}

func (b *Broker) adopt(ctx context.Context, place runtimedir.Place, e Entry, holder string) (*Holding, *control.Client, error) {
	c, f, err := b.askForHold(ctx, place, e, holder)
	if err != nil {
		return nil, nil, err
	}
	h := &Holding{Place: place, holder: holder}
	if h.sock, err = endpoint.TakeFile(f); err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	// Which inode the listener has, its generation has written: a name may lead to
	// another one by now.
	r, err := record.Read(filepath.Join(e.Dir, record.FileName))
	if err == nil {
		h.Inode = r.Inode
		err = b.markHeld(ctx, h)
	}
	if err != nil {
		_ = h.Close()
		_ = c.Close()
		return nil, nil, err
	}
	return h, c, nil
}

func (b *Broker) askForHold(ctx context.Context, place runtimedir.Place, e Entry, holder string) (*control.Client, *os.File, error) {
	c, err := DialControl(ctx, place, e.Name)
	if err != nil {
		return nil, nil, err
	}
	f, err := c.Hold(ctx, holder)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return c, f, nil
}

// TakeHold tells a generation that serves from what is held that it is. The client is the
// hold's life. There is nothing to be told of a queue that is in the kernel.
//
// It blocks until the daemon has answered, or until ctx ends.
func (b *Broker) TakeHold(ctx context.Context, h *Holding, e Entry) (c *control.Client, told <-chan struct{}, err error) {
	c, f, err := b.askForHold(ctx, h.Place, e, h.holder)
	if err != nil {
		return nil, nil, err
	}
	_ = f.Close() // we have it
	return c, nil, nil
}

// leadHolder says who holds, under the launch lock.
func leadHolder(locked *os.File, dir, holder string) error {
	return lead(locked, dir, runtimedir.HolderName, holder)
}
