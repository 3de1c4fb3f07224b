package broker

import (
	"context"
	"path/filepath"

	"github.com/fsnotify/fsnotify"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// Names of an endpoint can be deleted: by a cleaner, by hand, or by a foreign daemon that
// takes a socket that it inherited for its own (PHP-FPM, when it ends). The broker puts a
// deleted one back from the second one, since clients that know nothing of fastbind cannot.
// Where both are gone nobody can reach a listener any more, and a broker that did not notice
// would hold it for ever. A backend sees that itself, a listener that nobody serves only the
// broker. One watcher is for all services: nothing happens while no name changes. Where the
// system has none, the name is put back by whoever launches next, and the broker notices the
// loss of both when the generation that serves ends.

// watchNames has lookAtNames called when names in the held endpoint's directory go. It is
// called for each listener that is held: the directory may be another one by then.
func (b *Broker) watchNames(s *service) {
	if b.files == nil || s.held == nil {
		return
	}
	if s.dir != s.held.Place.Dir {
		b.unwatchNames(s)
	}
	s.dir = s.held.Place.Dir
	b.dirs.Store(s.dir, s.key)
	_ = b.files.Add(s.dir)
	if !s.held.Leads() || s.held.Lost() { // they went before that
		b.under.Go(func() { b.post(s.ctx, s.key, b.lookAtNames) })
	}
}

func (b *Broker) unwatchNames(s *service) {
	if s.dir == "" {
		return
	}
	b.dirs.Delete(s.dir)
	_ = b.files.Remove(s.dir)
	s.dir = ""
}

// readNames tells services of names that are gone, until the watcher is closed.
func (b *Broker) readNames() {
	if b.files == nil {
		return
	}
	for {
		select {
		case e, ok := <-b.files.Events:
			if !ok {
				return
			}
			dir := e.Name
			if n := filepath.Base(dir); n == runtimedir.SockName || n == runtimedir.KeepName || runtimedir.IsFurther(n) {
				dir = filepath.Dir(dir)
			}
			if key, known := b.dirs.Load(dir); known && e.Has(fsnotify.Remove|fsnotify.Rename) {
				b.post(b.ctx, key.(uint64), b.lookAtNames)
			}
		case _, ok := <-b.files.Errors:
			if !ok {
				return
			}
			// Events were lost, so any name may be gone.
			b.dirs.Range(func(_, key any) bool {
				b.post(b.ctx, key.(uint64), b.lookAtNames)
				return true
			})
		}
	}
}

// lookAgain has names looked at that went while the service was bound or launched, when
// that is over.
func (b *Broker) lookAgain(s *service) {
	if !s.overlooked || s.machine.State == supervise.Binding || s.machine.State == supervise.Launching {
		return
	}
	s.overlooked = false
	b.under.Go(func() { b.post(s.ctx, s.key, b.lookAtNames) })
}

// lookAtNames is run by the loop.
func (b *Broker) lookAtNames(s *service) supervise.Event {
	switch s.machine.State {
	case supervise.Binding, supervise.Launching:
		// Who binds or launches looks, under the lock, but perhaps before they went.
		s.overlooked = true
		return nil
	}
	switch {
	case s.held == nil:
		return nil
	case !s.held.Leads():
		return supervise.Stranded{}
	case s.held.Lost():
		l, place, inode := s.launch, s.held.Place, s.held.Inode
		b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
			_ = l.PutBack(ctx, place, inode) // the next launch tries again, and says why it cannot
			return failedTo(nil)
		})
	}
	return nil
}
