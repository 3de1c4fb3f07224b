//go:build unix

package launch

import (
	"errors"
	"os"
	"path/filepath"

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

// furtherNames are the names of further endpoints in the service's directory, those of
// earlier definitions included. One that is being deleted has none: that is seen when
// something is to be made in it.
func (s *system) furtherNames() ([]string, error) {
	files, err := readDir(s.place.Dir)
	var names []string
	for _, f := range files {
		if runtimedir.IsFurther(f.Name()) {
			names = append(names, f.Name())
		}
	}
	return names, ignoreMissing(err)
}

// bindFurther binds the further endpoints. A name that exists was made since the
// others were removed, by who has no lock: the launch starts over, as with the first.
func (s *system) bindFurther() Outcome {
	made := s.made()
	for _, name := range s.b.Def.Endpoints {
		f, o := s.bindOne(name)
		if o != OK {
			return o
		}
		*made = append(*made, f)
	}
	return OK
}

func (s *system) bindOne(name string) (*further, Outcome) {
	sock, err := endpoint.Bind(s.place.Further(name))
	if o := s.boundAt(runtimedir.FurtherSock(name), err); o != OK {
		return nil, o
	}
	return &further{name: name, sock: sock}, OK
}

// keepFurther proves of each that its name is in the locked directory, makes it
// private and links the second one.
func (s *system) keepFurther(list []*further) Outcome {
	for _, f := range list {
		var err error
		sock := runtimedir.FurtherSock(f.name)
		if f.inode, err = s.sockInode(sock); err != nil {
			return s.fault(StageBind, err)
		}
		if f.inode.IsZero() {
			return Moved
		}
		if o := s.linkKeep(sock, runtimedir.FurtherKeep(f.name)); o != OK {
			return o
		}
	}
	return OK
}

// unlinkFurther removes the names that this launch made.
func (s *system) unlinkFurther(list []*further) {
	for _, f := range list {
		if !f.inode.IsZero() {
			s.unlinkOwn(f.inode, runtimedir.FurtherSock(f.name), runtimedir.FurtherKeep(f.name))
		}
	}
}

// lostFurther are the further endpoints of the definition that have lost their first
// name in the directory and not the second.
func (b *Broker) lostFurther(dir string) (lost []string) {
	for _, name := range b.Def.Endpoints {
		_, err := os.Lstat(filepath.Join(dir, runtimedir.FurtherSock(name)))
		if _, kept := os.Lstat(filepath.Join(dir, runtimedir.FurtherKeep(name))); errors.Is(err, os.ErrNotExist) && kept == nil {
			lost = append(lost, name)
		}
	}
	return lost
}

// furtherLost reports whether there are any where the last connect was answered.
func (s *system) furtherLost() bool { return s.b.lostFurther(filepath.Dir(s.at)) != nil }

// restoreFurther puts deleted names back, while the first endpoint answers and the
// directory is locked. What cannot be put back fails nobody: the service is there.
func (s *system) restoreFurther() {
	for _, name := range s.b.lostFurther(s.place.Dir) {
		e := journal.Event{Kind: "restored", Reason: "the name of endpoint " + name + " was deleted; its listener lives"}
		if err := s.putBack(runtimedir.FurtherKeep(name), runtimedir.FurtherSock(name)); err != nil {
			e.Kind, e.Reason = "fallback", e.Reason+", and it cannot be put back: "+err.Error()
		}
		s.b.Note(s.place.Root, e)
	}
}
