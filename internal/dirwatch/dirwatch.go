// Package dirwatch wakes a caller when names in directories change.
//
// A [Watcher] says "something changed, look again" and never what: the
// directories themselves are the truth, events can be lost or merged and are
// only a reason to read it. Register, look, then wait, in this order; what
// happens between looking and waiting is then not missed.
//
// Guaranteed on Linux (inotify(7)): a change after [Open] returned makes the
// channel readable, an overflow of the kernel's queue included; while nothing
// changes, nothing runs and no thread is held. On other systems, and when the
// kernel grants no (further) inotify instance or watch, the channel becomes
// readable once a second whether or not anything changed.
//
// Not guaranteed: that a directory's own deletion or replacement is seen
// through a watch on itself. While any process keeps the directory open, as
// the holder of a lock on it does, Linux reports its deletion to the watchers
// of its parent only, and the renaming of a parent to the watchers of that
// parent's parent. Who needs to know passes the parents too.
//
// Usual calls:
//
//	w, err := dirwatch.Open(dir, filepath.Dir(dir))
//	defer w.Close()
//	for !there() { select { case <-w.C(): case <-ctx.Done(): … } }
package dirwatch

import (
	"sync"
	"time"
)

// interval is the time between two looks where the kernel does not tell.
// A second is what a human waiting for a launch notices but forgives, at a
// cost that an idle process can bear.
const interval = time.Second

// Watcher watches a fixed set of directories. Safe for concurrent use; with
// several receivers on C each change wakes only one of them.
type Watcher struct {
	c    chan struct{}
	stop chan struct{}  // closed by Close
	done sync.WaitGroup // the one goroutine
	once sync.Once      // Close

	source source // nil if the watcher looks at intervals
	tick   time.Duration
}

// source is where a watcher's wake-ups come from if it need not poll.
type source interface {
	// run calls changed for every change until the source is closed (nil) or
	// broken.
	run(changed func()) error
	// close makes run return.
	close()
}

// Open watches the directories at paths for names that appear, disappear or
// are renamed, and for the deletion and renaming of the directories
// themselves (but see the package comment). Writing to files does not wake:
// a directory with a log in it stays quiet.
//
// Links are followed; a path is watched as the directory that it is now, not
// as a name. A directory that is deleted is no longer watched, even when
// another takes its name: look again, and open a new Watcher.
//
// Open does not block beyond the look-up of the paths. Errors are
// *[fs.PathError]: [fs.ErrNotExist] for a missing path, ENOTDIR for one that
// is no directory; nothing is left open then. A lack of inotify instances
// (fs.inotify.max_user_instances, 128 per user by default) or watches is no
// error: the watcher polls. The caller closes the Watcher.
func Open(paths ...string) (*Watcher, error) {
	return open(paths, names, interval)
}

// OpenFiles is Open for callers that also follow what is appended to files in
// the directories: every write(2) and truncation of a file that still has its
// name there counts as a change, as far as it was not merged with others.
// Writes through shared memory mappings do not.
func OpenFiles(paths ...string) (*Watcher, error) {
	return open(paths, files, interval)
}

// OpenFile is for callers that follow one file: every write(2) to it, whatever
// its name has become by then, and its renaming or deletion. Errors and the
// lack of a watch are as for Open.
func OpenFile(path string) (*Watcher, error) {
	return open([]string{path}, file, interval)
}

// A subject is what a watcher looks at.
type subject uint8

const (
	names subject = iota // names in directories
	files                // and what is written to the files there
	file                 // one file
)

// C returns the channel that becomes readable after a change. It holds one
// wake-up: whatever changes until that is received is merged with it. It is
// never closed, and silent after Close except for a wake-up already in it.
func (w *Watcher) C() <-chan struct{} { return w.c }

// Close ends the watch, waits for its goroutine, which does not block, and
// returns the descriptor to the system. Closing again does nothing.
func (w *Watcher) Close() {
	w.once.Do(func() {
		close(w.stop)
		if w.source != nil {
			w.source.close()
		}
	})
	w.done.Wait()
}

// start runs a watcher on source, which it takes over, or on a ticker if that
// is nil.
func start(src source, tick time.Duration) *Watcher {
	w := &Watcher{c: make(chan struct{}, 1), stop: make(chan struct{}), source: src, tick: tick}
	w.done.Go(w.run)
	return w
}

func (w *Watcher) run() {
	if w.source != nil {
		err := w.source.run(w.changed)
		if err == nil {
			return
		}
		// Rather late than never: a watch that ends without a word would leave
		// its caller waiting for ever.
		w.changed()
	}
	t := time.NewTicker(w.tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.changed()
		case <-w.stop:
			return
		}
	}
}

func (w *Watcher) changed() {
	select {
	case w.c <- struct{}{}:
	default: // one is waiting already
	}
}
