package launch

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Found service has a directory below a root.
type Found struct {
	Instance string
	Service  string
	DirName  string // Service, or Service and what tells the variant apart
}

// Services lists the services that were launched in the user's roots, sorted.
// It changes nothing and follows no link.
func Services(env runtimedir.Env) []Found {
	var found []Found
	for _, root := range env.Roots() {
		instances, _ := os.ReadDir(root)
		for _, i := range instances {
			if !i.IsDir() || definition.CheckName("instance", i.Name()) != nil {
				continue
			}
			services, _ := os.ReadDir(filepath.Join(root, i.Name()))
			for _, s := range services {
				f := Found{i.Name(), ServiceOf(s.Name()), s.Name()}
				if s.IsDir() && definition.CheckName("service", f.Service) == nil && !slices.Contains(found, f) {
					found = append(found, f)
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b Found) int {
		return strings.Compare(a.Instance+"\x00"+a.DirName, b.Instance+"\x00"+b.DirName)
	})
	return found
}

// Of returns the broker of a found service, with the definition that its newest
// record stores; a service whose records cannot be read has only its names.
func Of(env runtimedir.Env, f Found, client func() []string) *Broker {
	b := NewBroker(env, definition.Definition{Service: f.Service, Instance: f.Instance}.Complete(), client)
	b.Dir = f.DirName
	if d, err := b.Stored(); err == nil {
		b.Def = d
	}
	return b
}

var errNoRecord = errors.New("no generation has a readable record")

// Stored returns the definition that the service was last launched with. Self
// is cleared: the program is named by its path, since another process asks.
func (b *Broker) Stored() (definition.Definition, error) {
	place, err := b.find()
	if err != nil {
		return definition.Definition{}, err
	}
	entries, err := b.generations(place)
	if err != nil {
		return definition.Definition{}, b.listFault(place, err)
	}
	if e := shown(place.Dir, entries); e != nil {
		// Of one that somebody is about to launch the record may not be written yet.
		entries = append([]Entry{*e}, entries...)
	}
	for _, e := range entries {
		if e.Err == nil && len(e.Record.Definition.Command) > 0 {
			d := e.Record.Definition.Complete()
			d.Self = false
			return d, nil
		}
	}
	return definition.Definition{}, b.fault(NoService, StageDirectory, errNoRecord)
}

// Files returns where the service's log and journal are, without making
// anything; both are "" if there is neither. place is where the service lives.
func (b *Broker) Files(place runtimedir.Place) (log, journal string) {
	for _, dir := range b.Env.StateDirs(place.Root, b.Def.Instance) {
		if b.Env.VerifyState(place.Root, dir) != nil {
			continue
		}
		log, journal = logPath(dir, b.DirName()), journalPath(dir, b.DirName())
		for _, path := range []string{log, journal} {
			if _, err := os.Lstat(path); err == nil {
				return log, journal
			}
		}
	}
	return "", ""
}
