package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [-f] [-n N] [NAME…]",
		Short: "Print what happened to services",
		Long: `Print the last N events of the named services, or of all of the instance, the
oldest first: launches, failures, refusals, hangs, stops, and what a broker did
and why. With -f go on with what happens later, until interrupted.

They come from the services' journals, where everybody writes who decides
something: tools, this command, and the broker if one lives. So it makes no
difference whether one does.

Without a terminal each event is one line of tab-separated fields: time, service,
event, generation, pid, text; "-" is none. --json prints one object for each.`,
		Example: `  fastbind events -f web
  fastbind events --json | jq 'select(.event == "failed")'`,
		ValidArgsFunction: a.completeNames(0),
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with what happens later")
	count := cmd.Flags().IntP("events", "n", 20, "only the last `N` events")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := checkNames(names); err != nil {
			return err
		}
		if *count < 0 {
			return &usageError{"-n must not be negative", ""}
		}
		if err := a.usable(); err != nil {
			return err
		}
		for _, n := range names {
			if *follow {
				break // it may come
			}
			if _, err := a.views(cmd.Context(), n); err != nil {
				return err
			}
		}
		a.streamed.Store(true)
		r := &eventReader{a: a, names: names, journals: map[string]*journalReader{}}
		defer r.close()
		if *follow {
			return r.follow(cmd.Context(), *count)
		}
		a.printEvents(r.last(*count))
		return a.out.failed()
	}
	return cmd
}

func (a *app) printEvents(events []event) {
	for _, e := range events {
		switch {
		case a.json:
			a.print(e.raw)
		case a.out.terminal:
			line(a.out.w, a.out.paint(quietly, e.when.Local().Format(time.DateTime))+"  "+a.out.paint(bold, harmless(e.Service))+"  "+
				a.out.paint(eventColour(e.Kind), harmless(e.sentence())))
		default:
			table{rows: [][]string{{e.when.UTC().Format(time.RFC3339Nano), e.Service, e.Kind, number(e.Generation), number(e.PID), e.sentence()}}}.print(a.out)
		}
	}
}

func eventColour(kind string) string {
	switch kind {
	case "failed", "hung", "refused", "stuck":
		return bad
	case "fallback", "backoff", "stranded":
		return busy
	}
	return ""
}

// An eventReader reads the journals of services. It is not safe for concurrent use.
type eventReader struct {
	a        *app
	names    []string // nil: all
	journals map[string]*journalReader
}

// A journalReader reads a journal from where it has read to, over rotations.
type journalReader struct {
	path string
	f    *os.File // nil while there is none
	rest []byte   // the beginning of a line whose end is not written yet
	seen bool     // in the last look at the directories
}

// lookAgain is the time between two attempts at directories that come and go.
const lookAgain = 100 * time.Millisecond

// journalSuffix is what a journal's name has behind that of the service's directory.
const journalSuffix = ".journal"

// look finds the journals that there are now, and returns the directories in which
// others can appear, or what is above those that do not exist.
func (r *eventReader) look() (dirs []string) {
	for _, j := range r.journals {
		j.seen = false
	}
	env := r.a.dirs
	roots := env.Roots()
	if len(roots) == 0 {
		roots = []string{env.RuntimeDir} // nobody has launched anything yet
	}
	for _, root := range roots {
		for _, dir := range env.StateDirs(root, r.a.instance) {
			if !filepath.IsAbs(dir) {
				continue
			}
			if there := existing(dir); !slices.Contains(dirs, there) {
				dirs = append(dirs, there)
			}
			if env.VerifyState(root, dir) != nil {
				continue
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				name, ok := strings.CutSuffix(e.Name(), journalSuffix)
				if ok && (len(r.names) == 0 || slices.Contains(r.names, launch.ServiceOf(name))) {
					r.found(filepath.Join(dir, e.Name()))
				}
			}
		}
	}
	for path, j := range r.journals {
		if !j.seen {
			j.close() // the service was purged
			delete(r.journals, path)
		}
	}
	return dirs
}

func (r *eventReader) found(path string) {
	if r.journals[path] == nil {
		r.journals[path] = &journalReader{path: path}
	}
	r.journals[path].seen = true
}

// last returns the last n events of all journals together.
func (r *eventReader) last(n int) []event {
	r.look()
	var all []event
	for _, j := range r.journals {
		all = append(all, j.last(n)...)
	}
	inOrder(all)
	return all[max(0, len(all)-n):]
}

// next returns what was written since, the oldest first.
func (r *eventReader) next() []event {
	var all []event
	for _, j := range r.journals {
		j.read(func(e event) { all = append(all, e) })
	}
	inOrder(all)
	return all
}

func inOrder(events []event) {
	slices.SortStableFunc(events, func(x, y event) int { return x.when.Compare(y.when) })
}

func (r *eventReader) close() {
	for _, j := range r.journals {
		j.close()
	}
}

// follow prints what is written until ctx ends. A journal that appears is printed from
// its beginning: its service is new.
func (r *eventReader) follow(ctx context.Context, n int) error {
	var w *dirwatch.Watcher
	var watched []string
	defer func() {
		if w != nil {
			w.Close()
		}
	}()
	first := true
	for {
		// Watched before it is read: what comes in between wakes.
		if dirs := r.look(); w == nil || !slices.Equal(dirs, watched) {
			next, err := dirwatch.OpenFiles(dirs...)
			if err != nil { // one of them has gone meanwhile
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(lookAgain):
				}
				continue
			}
			if w != nil {
				w.Close()
			}
			w, watched = next, dirs
		}
		events := r.next
		if first {
			events = func() []event { return r.last(n) }
			first = false
		}
		r.a.printEvents(events())
		if err := r.a.out.failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.C():
		}
	}
}

// last returns the last n events, of the file before the last rotation too, and leaves
// the reader behind them. It is called first.
func (j *journalReader) last(n int) (list []event) {
	keep := func(e event) {
		if list = append(list, e); len(list) > 2*n+64 {
			list = append(list[:0], list[len(list)-n:]...)
		}
	}
	old := &journalReader{path: j.path + ".1"}
	old.read(keep)
	old.close()
	j.read(keep)
	return list[max(0, len(list)-n):]
}

// read passes on what was written since it was called last. A file that was moved aside
// is read to its end first.
func (j *journalReader) read(each func(event)) {
	for {
		if j.f != nil {
			j.copy(each)
		}
		next, replaced := reopened(j.path, j.f)
		if !replaced {
			return
		}
		if j.f != nil {
			j.copy(each) // what came before it was moved
			_ = j.f.Close()
		}
		j.f, j.rest = next, nil
	}
}

func (j *journalReader) copy(each func(event)) {
	text, err := io.ReadAll(io.LimitReader(j.f, 2*journal.MaxSize))
	if err != nil {
		return
	}
	j.rest = append(j.rest, text...)
	for {
		l, rest, ok := bytes.Cut(j.rest, []byte("\n"))
		if !ok {
			break
		}
		if e, ok := parseEvent(l); ok {
			each(e)
		}
		j.rest = rest
	}
	if j.rest = bytes.Clone(j.rest); len(j.rest) > maxEventLine {
		j.rest = nil // no event, and not kept for ever
	}
}

// maxEventLine bounds what is kept of a line without end.
const maxEventLine = 1 << 20

func (j *journalReader) close() {
	if j.f != nil {
		_ = j.f.Close()
		j.f = nil
	}
}
