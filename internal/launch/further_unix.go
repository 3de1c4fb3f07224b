//go:build unix

package launch

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// made is where the further endpoints of this launch are kept.
func (s *system) made() *[]*further {
	if s.mode == Holds {
		return &s.held.further
	}
	return &s.gen.further
}

// furtherNames are the names of further endpoints in the locked directory, those of
// earlier definitions included. One that is being deleted has none: that is seen when
// something is to be made in it.
func (s *system) furtherNames() ([]string, error) {
	if _, err := s.dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	all, err := s.dir.Readdirnames(-1)
	var names []string
	for _, n := range all {
		if runtimedir.IsFurther(n) {
			names = append(names, n)
		}
	}
	return names, ignoreMissing(err)
}

// bindFurther binds the further endpoints. A name that exists was made since the
// others were removed, by who has no lock: the launch starts over, as with the first.
func (s *system) bindFurther() Outcome {
	for _, name := range s.b.Def.Endpoints {
		f, o := s.bindOne(name)
		if o != OK {
			return o
		}
		made := s.made()
		*made = append(*made, f)
	}
	return OK
}

func (s *system) bindOne(name string) (*further, Outcome) {
	sock, err := endpoint.Bind(s.place.Further(name))
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && !atPath(s.dir, s.place.Dir):
		return nil, Moved
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, InUse
	case err != nil && s.vanished(err):
		return nil, Moved
	case err != nil:
		return nil, s.fault(StageBind, err)
	}
	return &further{name: name, sock: sock}, OK
}

func (s *system) verifyFurther(list []*further) Outcome {
	for _, f := range list {
		var err error
		switch f.inode, err = s.sockInode(runtimedir.FurtherSock(f.name)); {
		case err != nil:
			return s.fault(StageBind, err)
		case f.inode.IsZero():
			return Moved
		}
	}
	return OK
}

func (s *system) keepFurther(list []*further) Outcome {
	for _, f := range list {
		if o := s.linkKeep(runtimedir.FurtherSock(f.name), runtimedir.FurtherKeep(f.name)); o != OK {
			return o
		}
	}
	return OK
}

// listenAll listens on the first endpoint last.
func listenAll(list []*further, first *endpoint.Socket) error {
	for _, f := range list {
		if err := f.sock.Listen(); err != nil {
			return err
		}
	}
	return first.Listen()
}

// unlinkFurther removes the names that this launch made.
func (s *system) unlinkFurther(list []*further) {
	for _, f := range list {
		if !f.inode.IsZero() {
			s.unlinkOwn(f.inode, runtimedir.FurtherSock(f.name), runtimedir.FurtherKeep(f.name))
		}
	}
}

// copyFurther returns copies of held listeners, to be handed down.
func copyFurther(held []*further) ([]*further, error) {
	var list []*further
	for _, f := range held {
		sock, err := f.sock.Copy()
		if err != nil {
			closeFurther(list)
			return nil, err
		}
		list = append(list, &further{f.name, sock, f.inode})
	}
	return list, nil
}

// lost reports whether a further endpoint has lost its first name and not the second.
func lost(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, runtimedir.FurtherSock(name)))
	if !errors.Is(err, os.ErrNotExist) {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, runtimedir.FurtherKeep(name)))
	return err == nil
}

// furtherLost reports whether that is so at the endpoint that answered.
func (s *system) furtherLost() bool {
	for _, name := range s.b.Def.Endpoints {
		if lost(filepath.Dir(s.at), name) {
			return true
		}
	}
	return false
}

// restoreFurther puts deleted names back, while the first endpoint answers and the
// directory is locked. What cannot be put back fails nobody: the service is there.
func (s *system) restoreFurther() {
	for _, name := range s.b.Def.Endpoints {
		if !lost(s.place.Dir, name) {
			continue
		}
		reason := "the name of endpoint " + name + " was deleted; its listener lives"
		if err := s.putBack(runtimedir.FurtherKeep(name), runtimedir.FurtherSock(name)); err != nil {
			s.b.Note(s.place.Root, journal.Event{Kind: "fallback", Reason: reason + ", and it cannot be put back: " + err.Error()})
			continue
		}
		s.b.Note(s.place.Root, journal.Event{Kind: "restored", Reason: reason})
	}
}
