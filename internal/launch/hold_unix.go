//go:build unix

package launch

import (
	"context"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// own looks, under the launch lock, whether the held listener is the endpoint's and
// nobody accepts from it. A deleted name is put back from the other one.
func (s *system) own() Outcome {
	entries, err := s.b.generations(s.place)
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	s.entries = entries
	at := s.leads(runtimedir.SockName)
	if !at && !s.leads(runtimedir.KeepName) {
		return Moved
	}
	// One that drains has left its queue to us.
	if e, ok := Current(s.place.Dir, entries); ok && e.Alive && e.Record.Phase != record.Draining {
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

// markHeld says who holds, under the launch lock, and returns the inode of the
// endpoint's name.
func (b *Broker) markHeld(ctx context.Context, place runtimedir.Place, holder string) (record.Inode, error) {
	dir, err := b.lockDir(ctx, place)
	if err != nil {
		return record.Inode{}, err
	}
	if dir == nil {
		return record.Inode{}, b.fault(LaunchFailed, StageDirectory, fs.ErrNotExist)
	}
	defer func() { _ = lock.Release(dir) }()
	inode, err := endpoint.Inode(place.Sock())
	if err != nil {
		return record.Inode{}, err
	}
	return inode, lead(dir, place.Dir, runtimedir.HolderName, holder)
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
