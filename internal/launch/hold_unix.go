//go:build unix

package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

var stands = standing{(*system).listenHeld, (*system).dropHeld, (*system).own, (*system).inherit,
	(*system).becomeAhead, (*system).startAhead, (*system).endRefit}

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

// listenHeld says who holds before anybody can connect.
func (s *system) listenHeld() Outcome {
	if err := lead(s.dir, s.place.Dir, runtimedir.HolderName, s.b.holder); err != nil {
		return s.fault(StagePrepare, err)
	}
	if err := listenAll(s.held.further, s.held.sock); err != nil {
		return s.fault(StageBind, err)
	}
	return OK
}

// markHeld says who holds, under the launch lock, if the endpoint's names lead to the
// listener.
func (b *Broker) markHeld(ctx context.Context, h *Holding) error {
	dir, err := b.lockDir(ctx, h.Place)
	if err != nil {
		return err
	}
	if dir == nil {
		return b.fault(LaunchFailed, StageDirectory, fs.ErrNotExist)
	}
	defer func() { _ = lock.Release(dir) }()
	if !IsNamed(h.Place.Dir, h.Inode) {
		return errElsewhere
	}
	return lead(dir, h.Place.Dir, runtimedir.HolderName, h.holder)
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

// Deny puts on record why nobody will accept who waits in the queue of the held
// listener, as the failure of a generation that came to no process: whoever then loses
// its connection finds that. Where an outsider has deleted the service's directory it
// makes another. It is called before the listener is closed, and blocks for the launch
// lock until ctx ends.
func (b *Broker) Deny(ctx context.Context, h *Holding, why *Fault) error {
	b = b.now()
	dir, err := b.lockDir(ctx, h.Place)
	if dir == nil && err == nil {
		if err = b.Env.MakeService(h.Place); err == nil {
			dir, err = b.lockDir(ctx, h.Place)
		}
	}
	if err != nil {
		return err
	}
	if dir == nil {
		return b.fault(LaunchFailed, StageDirectory, fs.ErrNotExist)
	}
	defer func() { _ = lock.Release(dir) }()
	entries, err := Generations(h.Place.Dir)
	if err != nil {
		return err
	}
	at := proc.BootTime()
	number := admit(entries, current(h.Place.Dir), at, at, false).next
	name := genName(number, environ.Digest(b.Contract()), at, buildDigest(b.build()))
	gen := filepath.Join(h.Place.Dir, name)
	if err := os.Mkdir(gen, 0o700); err != nil {
		return err
	}
	lines := record.LaunchLines(record.Record{Generation: number, Definition: b.Def, Launcher: os.Getpid(),
		Launched: time.Now(), LaunchedBoot: at, BootID: proc.BootID()})
	return record.Create(filepath.Join(gen, record.FileName),
		append(lines, record.FailureLines(newFailure(why.Stage, why.Err, at, time.Now()))...))
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
