package gocache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A spill is where bodies go that the store cannot take: cmd/go must be given a
// path for each put. It is a private directory that lives as long as the client,
// made when it is first needed. Safe for concurrent use.
type spill struct {
	bases []string

	mu   sync.Mutex // guards the fields below
	dirs map[string]*os.File
	n    int
}

const spillPrefix = "gocache-spill-"

func newSpill() *spill {
	// Memory is better than a failed build.
	return &spill{bases: []string{os.TempDir(), "/dev/shm"}, dirs: map[string]*os.File{}}
}

// create makes a file that begins with n bytes of src, on the first base that
// takes it, not trying the first skip ones. It returns how many were tried.
func (s *spill) create(src io.ReaderAt, n int64, skip int) (f *os.File, tried int, err error) {
	err = errors.New("no directory left")
	for i, base := range s.bases {
		if i < skip {
			continue
		}
		if f, err = s.file(base); err != nil {
			continue
		}
		if n > 0 {
			_, err = io.Copy(f, io.NewSectionReader(src, 0, n))
		}
		if err == nil {
			return f, i + 1, nil
		}
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	return nil, len(s.bases), err
}

func (s *spill) file(base string) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := s.dirs[base]
	if dir == nil {
		sweepSpills(base)
		path, err := os.MkdirTemp(base, spillPrefix)
		if err != nil {
			return nil, err
		}
		if dir, err = os.Open(path); err != nil {
			return nil, err
		}
		_, _ = tryLock(dir, true) // tells sweepSpills that we live
		s.dirs[base] = dir
	}
	s.n++
	return os.OpenFile(filepath.Join(dir.Name(), fmt.Sprint(s.n)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// sweepSpills removes directories of clients that were killed: ours, and not
// locked. Its creator locks a directory an instant after making it, so a fresh
// one could be taken for dead while it is empty: those are left alone.
func sweepSpills(base string) {
	if !haveLocks {
		return
	}
	names, _ := readNames(base)
	for _, name := range names {
		if !strings.HasPrefix(name, spillPrefix) {
			continue
		}
		path := filepath.Join(base, name)
		d, err := os.Open(path) // another user's is 0700: not opened
		if err != nil {
			continue
		}
		if files, _ := d.Readdirnames(1); len(files) > 0 {
			if dead, _ := tryLock(d, true); dead {
				_ = os.RemoveAll(path)
			}
		}
		_ = d.Close()
	}
}

func (s *spill) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dirs {
		_ = d.Close() // Windows removes none that is open
		_ = os.RemoveAll(d.Name())
	}
}
