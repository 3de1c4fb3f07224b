package launch

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A foreign daemon cannot write its record again after a cleaner of temporary
// directories took it, as SDK backends do, and without it nobody could find the
// daemon that goes on serving. So a copy lies in the state directory, beside the
// log, where no cleaner looks. It is read where the record is missing, and never
// written back: whoever looks finds it again.

// copyPath is where the copy of the newest foreign generation's record is. That
// of one before, if it lived then, has the suffix of old logs.
func copyPath(state, dirName string) string { return filepath.Join(state, dirName+".record") }

// createCopy makes the copy of a new record and returns its path, "" without one.
func createCopy(state, dirName, genName string, lines []record.Line) string {
	path := copyPath(state, dirName)
	if r, err := record.Read(path); err == nil {
		if h, err := (Entry{Record: r}).Open(); err == nil {
			if h.Alive() {
				_ = os.Rename(path, path+".1")
			}
			_ = h.Close()
		}
	}
	_ = os.Remove(path)
	if record.Create(path, append(slices.Clone(lines), record.DirectoryLine(genName))) != nil {
		return ""
	}
	return path
}

// generations lists the generations as Generations does, those included that
// live and of whose records only the copy is left.
func (b *Broker) generations(place runtimedir.Place) ([]Entry, error) {
	entries, err := Generations(place.Dir)
	if err != nil {
		return nil, err
	}
	for _, state := range b.Env.StateDirs(place.Root, b.Def.Instance) {
		path := copyPath(state, b.DirName())
		for _, p := range []string{path, path + ".1"} {
			if e, ok := fromCopy(p, place.Dir, entries); ok {
				entries = insertCopy(entries, e)
			}
		}
	}
	return entries, nil
}

// fromCopy returns the living generation that a copy is of, unless an entry says more.
func fromCopy(path, dir string, entries []Entry) (Entry, bool) {
	r, err := record.Read(path)
	number := genNumber(r.Directory)
	if err != nil || number == 0 {
		return Entry{}, false
	}
	e := Entry{Name: r.Directory, Dir: filepath.Join(dir, r.Directory), Number: number, Record: r}
	for _, own := range entries {
		if own.Name == e.Name && !own.lost() {
			return e, false
		}
	}
	e.Record.Generation = number
	h, err := e.Open()
	if err != nil {
		return e, false
	}
	e.Alive = h.Alive()
	_ = h.Close()
	return e, e.Alive
}

// lost: its own record does not tell whether it lives.
func (e Entry) lost() bool { return e.Err != nil && !e.Alive }

// insertCopy puts a generation in its place unless its own record is there.
func insertCopy(entries []Entry, e Entry) []Entry {
	i := 0
	for i < len(entries) && entries[i].Number > e.Number {
		i++
	}
	for j := i; j < len(entries) && entries[j].Number == e.Number; j++ {
		if entries[j].Name == e.Name {
			if entries[j].lost() {
				entries[j] = e
			}
			return entries
		}
	}
	return insertEntry(entries, i, e)
}
