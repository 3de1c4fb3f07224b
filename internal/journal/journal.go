// Package journal is the file that says what was decided and why: one JSON
// object a line, for every launch, success, refusal, failure and fallback of a
// service. A warm dial writes nothing.
//
// Lines are appended with one write(2) each by whoever decided, so the journal
// needs no lock. It is capped: when it has grown past MaxSize the next launcher,
// who holds the launch lock, moves it aside as NAME.1.
package journal

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// Major is the version of the format, in each line's "schema".
const Major = 1

// MaxSize is the size, in bytes, from which a journal or a log is moved aside.
const MaxSize = 1 << 20

// maxValue bounds one field.
const maxValue = 4096

// A Field is one more member of an event. Values that are whole numbers are
// written as such with Number.
type Field struct {
	Key, Value string
	Number     bool
}

// An Event is one line.
type Event struct {
	Kind       string // launched, failed, refused, fallback, stopped, restored, hung
	Service    string
	Instance   string
	Generation uint64 // 0: none
	PID        int    // 0: none
	Reason     string
	Fields     []Field
}

// Append writes one event, stamped now. The journal is made if it is missing,
// mode 0600. Writers hold no lock: an event that is written while the journal
// is moved aside stands in the old one. A line that a killed writer left
// unterminated is ended first, so that it spoils no other.
func Append(path string, now time.Time, e Event) error {
	b := []byte(`{`)
	text := func(k, v string) {
		if len(v) > maxValue {
			v = v[:maxValue]
		}
		b = jsonlite.AppendString(jsonlite.AppendName(b, k), v)
	}
	num := func(k string, n uint64) { b = strconv.AppendUint(jsonlite.AppendName(b, k), n, 10) }
	num("schema", Major)
	text("time", now.UTC().Format(time.RFC3339Nano))
	text("event", e.Kind)
	text("service", e.Service)
	text("instance", e.Instance)
	if e.Generation != 0 {
		num("generation", e.Generation)
	}
	if e.PID != 0 {
		num("pid", uint64(e.PID))
	}
	if e.Reason != "" {
		text("reason", e.Reason)
	}
	for _, f := range e.Fields {
		if f.Number {
			b = append(jsonlite.AppendName(b, f.Key), f.Value...)
		} else {
			text(f.Key, f.Value)
		}
	}
	b = append(b, "}\n"...)
	f, err := Open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	if endsTorn(f) {
		b = append([]byte{'\n'}, b...)
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Open opens a journal or a log for appending, made if it is missing, mode 0600
// whatever the umask is. It opens nothing but a regular file: an outsider's FIFO
// is not waited for, a link not followed, a device not touched.
func Open(path string, access int) (*os.File, error) {
	f, err := openAppend(path, access)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNoFile}
	}
	if err == nil && fi.Mode().Perm() != 0o600 {
		err = f.Chmod(0o600)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

var errNoFile = errors.New("it is not a regular file")

func endsTorn(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], fi.Size()-1)
	return err == nil && last[0] != '\n'
}

// Rotate moves the file at path aside if it has grown past MaxSize; one old
// file is kept. The caller holds the launch lock.
func Rotate(path string) error {
	fi, err := os.Stat(path)
	if err != nil || fi.Size() < MaxSize {
		return ignoreMissing(err)
	}
	return rename(path, path+".1")
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Tail returns the last lines of the file at path that begin at or after offset, or
// of all of it if it is shorter, being a new one: at most n lines and limit bytes. Of
// a last line longer than limit it returns the end. A missing file has no lines.
func Tail(path string, offset int64, n, limit int) ([]string, error) {
	return TailTo(path, offset, math.MaxInt64, n, limit)
}

// TailTo is Tail of the file's first end bytes.
func TailTo(path string, offset, end int64, n, limit int) ([]string, error) {
	// Asked before the open, which would wait for the writer of a FIFO.
	fi, err := os.Stat(path)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "tail", Path: path, Err: fs.ErrInvalid}
	}
	f, err := openRead(path)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	defer f.Close()
	if fi, err = f.Stat(); err != nil {
		return nil, err
	}
	end = min(end, fi.Size())
	if offset < 0 || offset > end {
		offset = 0 // the file was moved aside since, and this one is all new
	}
	from := max(end-int64(max(limit, 0)), offset)
	if from >= end {
		return nil, nil
	}
	cut := from > offset
	if cut {
		from-- // this byte tells whether a line begins behind it
	}
	b := make([]byte, end-from)
	read, err := f.ReadAt(b, from)
	b = b[:read]
	if read == 0 && err != nil {
		return nil, err
	}
	if cut {
		cut = b[0] != '\n'
		b = b[1:]
	}
	lines := split(b)
	if cut && len(lines) > 1 {
		lines = lines[1:] // the first is only the end of one
	}
	return lines[max(0, len(lines)-max(n, 0)):], nil
}

func split(b []byte) []string {
	var lines []string
	for len(b) > 0 {
		i := 0
		for i < len(b) && b[i] != '\n' {
			i++
		}
		lines = append(lines, string(b[:i]))
		b = b[min(i+1, len(b)):]
	}
	return lines
}
