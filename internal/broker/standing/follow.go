package standing

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Files are read when they have been quiet for settled, and at most lateBy after the
// first change: editors write in several steps, and a checkout writes many files.
const (
	settled = 100 * time.Millisecond
	lateBy  = time.Second
)

// follow has the files read again when they change or somebody asks, and ends a broker
// on demand that has nothing to hold.
func (p *process) follow(ctx context.Context, w *watcher) {
	defer func() { w.close() }()
	asked, end := p.Reload()
	defer end()
	var changed, latest, empty <-chan time.Time
	for {
		if p.OnDemand && p.empty() != (empty != nil) {
			if empty = nil; p.empty() {
				empty = time.After(emptyFor)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.woken:
			continue
		case e, ok := <-w.events():
			if !ok {
				w.close()
				w = &watcher{}
				continue
			}
			if !w.concerns(e) {
				continue
			}
			changed = time.After(settled)
			if latest == nil {
				latest = time.After(lateBy)
			}
			continue
		case err := <-w.errors():
			// Events were lost, so anything may have changed.
			p.Say("watching " + p.dir + ": " + err.Error())
		case <-changed:
		case <-latest:
		case <-asked:
		case <-empty:
			if p.empty() {
				p.Say("nothing to hold any more")
				p.inst.Drain()
			}
			continue
		}
		changed, latest = nil, nil
		if err := w.look(p.dir); err != nil {
			p.notFollowed(err)
		}
		_ = p.reload(ctx)
	}
}

// watcher watches the directory of the definitions.
func (p *process) watcher() *watcher {
	fs, err := fsnotify.NewWatcher()
	w := &watcher{fs: fs}
	if err == nil {
		err = w.look(p.dir)
	}
	if err != nil {
		p.notFollowed(err)
		w.close()
		return &watcher{}
	}
	return w
}

func (p *process) notFollowed(err error) {
	p.Say("changes of " + p.dir + " are not followed, fastbind reload has it read: " + err.Error())
}

// A watcher watches a directory, or where it will be made. The zero watcher watches
// nothing.
type watcher struct {
	fs      *fsnotify.Watcher
	dir     string
	missing string // the nearest directory above that is there, while dir is not
}

// look begins to watch dir as it is now: what was watched before may have been moved
// away, and another one be in its place.
func (w *watcher) look(dir string) error {
	if w.fs == nil || dir == "" {
		return nil
	}
	w.dir = dir
	var err error
	for range 8 { // it may be made or removed meanwhile
		places := w.places()
		for _, old := range w.fs.WatchList() {
			if old == dir || !slices.Contains(places, old) {
				_ = w.fs.Remove(old) // it is gone with its directory
			}
		}
		err = nil
		for _, place := range places {
			if e := w.fs.Add(place); err == nil {
				err = e
			}
		}
		if slices.Equal(places, w.places()) {
			break
		}
	}
	return err
}

// places are the directories to watch: that of the definitions, those in which the
// files are that links there lead to, and while it is missing the nearest above it.
// That of a link is watched with what it leads to.
func (w *watcher) places() []string {
	w.missing = ""
	fi, err := os.Stat(w.dir)
	if err != nil || !fi.IsDir() {
		for up := filepath.Dir(w.dir); ; up = filepath.Dir(up) {
			if fi, err := os.Stat(up); err == nil && fi.IsDir() || up == filepath.Dir(up) {
				w.missing = up
				return []string{up}
			}
		}
	}
	places := []string{w.dir}
	if fi, err := os.Lstat(w.dir); err == nil && fi.Mode()&os.ModeSymlink != 0 {
		places = append(places, filepath.Dir(w.dir))
	}
	entries, _ := os.ReadDir(w.dir)
	for _, e := range entries {
		if e.Type()&os.ModeSymlink == 0 {
			continue
		}
		if to, err := filepath.EvalSymlinks(filepath.Join(w.dir, e.Name())); err == nil {
			places = append(places, filepath.Dir(to))
		}
	}
	slices.Sort(places)
	places = slices.Compact(places)
	return places[:min(len(places), maxWatched)]
}

// maxWatched bounds the directories that links lead to.
const maxWatched = 64

// concerns reports whether an event may have changed a definition. Above a directory
// that is missing only what leads there counts.
func (w *watcher) concerns(e fsnotify.Event) bool {
	if w.missing == "" {
		return true
	}
	rel, err := filepath.Rel(e.Name, w.dir)
	return err == nil && (rel == "." || !filepath.IsAbs(rel) && rel[0] != '.')
}

func (w *watcher) events() <-chan fsnotify.Event {
	if w.fs == nil {
		return nil
	}
	return w.fs.Events
}

func (w *watcher) errors() <-chan error {
	if w.fs == nil {
		return nil
	}
	return w.fs.Errors
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
		w.fs = nil
	}
}
