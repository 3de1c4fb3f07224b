//go:build unix

package launch

import (
	"context"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// own looks, under the launch lock, whether the held listener is the endpoint's and
// nobody accepts from it, or will. A deleted name is put back from the other one.
func (s *system) own() Outcome {
	entries, err := Generations(s.place.Dir)
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	at := s.leads(runtimedir.SockName)
	if !at && !s.leads(runtimedir.KeepName) || s.b.held.sock.IsShut() {
		return Moved
	}
	switch e, ok := Serving(s.place.Dir, entries); {
	case !ok, leaves(e): // its queue is ours
	case e.Record.Stopped:
		return Busy // it is about to drain
	default:
		return InUse
	}
	if at {
		return OK
	}
	o := s.restore()
	if o == Absent {
		return Moved
	}
	return o
}

// leads reports whether a name in the locked directory leads to the held listener.
func (s *system) leads(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(s.dirfd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && (record.Inode{Dev: uint64(st.Dev), Ino: st.Ino}) == s.b.held.Inode //nolint:unconvert // the widths differ between systems
}

// listenHeld says who holds before anybody can connect.
func (s *system) listenHeld() Outcome {
	if err := lead(s.dir, s.place.Dir, runtimedir.HolderName, s.b.holder); err != nil {
		return s.fault(StagePrepare, err)
	}
	if err := s.held.sock.Listen(); err != nil {
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
	if !isNamed(h.Place.Dir, h.Inode) {
		return errElsewhere
	}
	return lead(dir, h.Place.Dir, runtimedir.HolderName, h.holder)
}

// dropHeld undoes a hold that came to nothing.
func (s *system) dropHeld() {
	h := s.held
	s.held = nil
	if s.dir != nil && !h.Inode.IsZero() {
		s.unlinkOwn(h.Inode)
	}
	if h.sock != nil {
		_ = h.sock.Close()
	}
}
