package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/fastbind/fastbind/internal/dirwatch"
)

// An output follows a log from where the daemon's output begins, until a line
// matches. The file is opened once: a daemon goes on writing to the file that its
// launcher has opened for it, under whatever name it is by then, and what is at
// the old name is another generation's. A file that was cut short, as by
// logrotate's copytruncate, is read from its new beginning.
//
// A line counts when its end is there. One of more than 64 KiB is matched in
// pieces of that length.
type output struct {
	target  Target
	pattern *regexp.Regexp

	log     *os.File          // nil until there is one
	watcher *dirwatch.Watcher // of log; nil if there is none
	at      int64             // what was read
	rest    []byte            // the beginning of a line
	last    []byte            // the last whole line
	lines   int
}

const maxLine = 64 << 10

// changed: a log that is not there yet, or that nothing watches, is looked at at
// intervals.
func (o *output) changed() <-chan struct{} {
	if o.watcher == nil {
		return nil
	}
	return o.watcher.C()
}

func (o *output) close() {
	if o.watcher != nil {
		o.watcher.Close()
	}
	if o.log != nil {
		_ = o.log.Close()
	}
}

func (o *output) look(ctx context.Context) (bool, string, error) {
	if o.log == nil {
		if err := o.open(); err != nil {
			return false, "the log: " + err.Error(), nil
		}
	}
	matched, err := o.read(ctx)
	switch {
	case err != nil:
		return false, "the log: " + err.Error(), nil
	case o.lines == 0:
		return matched, "no line of output", nil
	default:
		return matched, fmt.Sprintf("%d lines of output, the last is %s", o.lines, quoted(string(o.last))), nil
	}
}

// open watches before it reads, so that no line falls between.
func (o *output) open() error {
	log, err := os.Open(o.target.Log)
	if err != nil {
		return err
	}
	fi, err := log.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New(o.target.Log + " is no file")
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}
	w, err := dirwatch.OpenFile(o.target.Log)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	// The watch is of whatever was at the path by then.
	if now, err := os.Stat(o.target.Log); err != nil || !os.SameFile(fi, now) {
		w.Close()
		w = nil
	}
	o.log, o.watcher, o.at = log, w, o.target.LogOffset
	return nil
}

// read reads to the end or to the first match.
func (o *output) read(ctx context.Context) (matched bool, err error) {
	if fi, err := o.log.Stat(); err != nil {
		return false, err
	} else if fi.Size() < o.at {
		o.at, o.rest = 0, nil
	}
	buf := make([]byte, 32<<10)
	for ctx.Err() == nil {
		n, err := o.log.ReadAt(buf, o.at)
		o.at += int64(n)
		o.rest = append(o.rest, buf[:n]...)
		if o.match() {
			return true, nil
		}
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		}
	}
	return false, nil
}

// match takes whole lines off the rest.
func (o *output) match() bool {
	for {
		line, rest, whole := bytes.Cut(o.rest, []byte("\n"))
		switch {
		case len(line) > maxLine:
			line, rest = o.rest[:maxLine], o.rest[maxLine:]
		case !whole:
			return false
		}
		o.rest = rest
		line = bytes.TrimSuffix(line, []byte("\r"))
		o.last = append(o.last[:0], line...)
		o.lines++
		if o.pattern.Match(line) {
			return true
		}
	}
}
