package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
	"github.com/fastbind/fastbind/internal/sharing"
)

// A launch on Windows has the steps of the others, and less to do in some. The endpoint
// is a pipe, whose name cannot be deleted and cannot be taken by somebody else as long
// as one process holds an instance. So there are no stale names to unlink, there is no
// second one to keep, nothing to restore, and nothing to verify once it is claimed.
//
// To claim a name is to listen on it: current is led to the generation before that, in
// the same step, so that whoever connects finds there whom it is connected to.
//
// The launch lock is on a file in the service's directory, since a directory cannot be
// locked. Others may delete that file, and who has locked it looks whether it is still
// at its path, as everywhere.

// openLocked opens what the launch lock is on.
func openLocked(dir string) (*os.File, error) {
	return sharing.Open(lockedPath(dir), windows.GENERIC_READ, windows.OPEN_ALWAYS, windows.FILE_FLAG_OPEN_REPARSE_POINT)
}

// lockedPath is where that is.
func lockedPath(dir string) string { return filepath.Join(dir, runtimedir.LockName) }

// connect is [endpoint.Connect], but for a name that is busy because the daemons behind it
// let nobody in any more: they refuse.
func (b *Broker) connect(ctx context.Context, path string) (*endpoint.Conn, endpoint.Reach, error) {
	conn, reach, err := endpoint.Connect(ctx, path)
	if reach == endpoint.Busy {
		if place, err := b.find(); err == nil && onlyDrains(place.Dir, "") {
			reach = endpoint.Refused
		}
	}
	return conn, reach, err
}

// onlyDrains reports whether a service's generations, own aside, let nobody in any more
// and keep the pipe's name for the connections they still have: one that lives has noted
// that, and none that lives has not. Which of them current names tells nothing: that may
// be one that has failed beside them.
func onlyDrains(dir, own string) bool {
	entries, err := Generations(dir)
	if err != nil {
		return false
	}
	drains := false
	for _, e := range entries {
		if !e.Alive || e.Name == own {
			continue
		}
		if e.Err != nil || !e.Record.Shut {
			return false
		}
		drains = true
	}
	return drains
}

// dirOf returns the service's directory of an endpoint, "" for a service without one.
func (b *Broker) dirOf(string) string {
	place, err := b.find()
	if err != nil {
		return ""
	}
	return place.Dir
}

// endpointNames are the endpoint's addresses of a service's directory.
func endpointNames(dir string) []string { return []string{runtimedir.Place{Dir: dir}.Sock()} }

// probeKeep: there is no second name.
func (s *system) probeKeep(context.Context) Outcome { return Absent }

func (s *system) restore() Outcome { return Absent }

// makeDir makes a directory, which its parent's access list makes private.
func makeDir(path string) error { return os.Mkdir(path, 0o700) }

func (s *system) unlink() Outcome { return OK }

// bind claims the endpoint's name, and current with it.
func (s *system) bind() Outcome {
	var err error
	if s.mode == Holds {
		err = s.b.standing.bind(s)
	} else {
		if o := s.moveCurrent(); o != OK {
			return o
		}
		c := claim{s.place.Sock(), s.place.Dir, s.gen.name}
		if s.mode == ByHand {
			granted.Store(&c)
			s.gen.ln, err = s.b.Listen(c.name)
			granted.Store(nil)
		} else {
			s.gen.sock, err = c.bind()
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return InUse
	}
	if err != nil {
		return s.fault(StageBind, err)
	}
	return OK
}

func (s *system) verifyBind() Outcome { return OK }

func (s *system) keep() Outcome { return OK }

// furtherLost: only foreign daemons take further endpoints, and none is launched here.
func (s *system) furtherLost() bool { return false }

func (s *system) restoreFurther() {}

// leadCurrent makes current in the directory, which is locked, lead to the generation.
func leadCurrent(_ *os.File, dir, generation string) error {
	if current(dir) == generation {
		return nil
	}
	err := runtimedir.WriteCurrent(dir, generation)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// An outsider's directory, perhaps: nobody is ever told to delete a file.
	path := filepath.Join(dir, runtimedir.CurrentName)
	if fi, serr := os.Lstat(path); serr == nil && fi.IsDir() && os.RemoveAll(path) == nil {
		err = runtimedir.WriteCurrent(dir, generation)
	}
	return err
}

// createCurrent makes current lead to the generation, unless anything is there.
func createCurrent(dir, generation string) error {
	if _, err := os.Lstat(filepath.Join(dir, runtimedir.CurrentName)); err == nil {
		return fs.ErrExist
	}
	return runtimedir.WriteCurrent(dir, generation)
}

// restoreCurrent leads current back to the generation before ours.
func (s *system) restoreCurrent() {
	if s.current == "" {
		_ = os.Remove(filepath.Join(s.place.Dir, runtimedir.CurrentName))
		return
	}
	_ = runtimedir.WriteCurrent(s.place.Dir, s.current)
}

// unlinkMade: a pipe's name goes with its last instance.
func (s *system) unlinkMade(record.Inode, []*further) {}

// CreateLife makes a generation's life lock and holds it.
func CreateLife(genDir string) (*os.File, error) {
	return lock.Create(filepath.Join(genDir, runtimedir.LifeName))
}

// controlQueue is how many clients wait for a daemon that has not come to answer at its
// control endpoint; more try again.
const controlQueue = 8

// BindControl claims a generation's control endpoint.
func BindControl(name string) (*endpoint.Socket, error) { return endpoint.Bind(name, controlQueue) }

// IsNamed: a name leads to the listener as long as that is there.
func IsNamed(string, record.Inode) bool { return true }

// removeNamesLocked: a pipe's name is nobody's to remove.
func removeNamesLocked(string, record.Inode) {}

// askWithin bounds the order to drain, under the launch lock: a control endpoint answers
// whatever its daemon does. One that does not is killed when its time is over.
const askWithin = 2 * time.Second

// askToEnd sends SIGKILL; for SIGTERM, which Windows does not have, the order to drain
// goes to the control endpoint.
func askToEnd(ctx context.Context, place runtimedir.Place, e Entry, h *proc.Handle, sig syscall.Signal) error {
	if sig != syscall.SIGTERM {
		return h.Signal(sig)
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if c, err := DialControl(ctx, place, e.Name); err == nil {
		_ = c.Drain(ctx)
		_ = c.Close()
	}
	return nil
}

// removeAll removes a service's directory under its launch lock. The file that is locked
// keeps a name until it is closed, so that name is none in the directory.
func removeAll(path string) error {
	gone := filepath.Join(filepath.Dir(path), ".lock."+strconv.FormatInt(time.Now().UnixNano(), 36))
	if os.Rename(lockedPath(path), gone) == nil {
		_ = os.Remove(gone)
	}
	return os.RemoveAll(path)
}

// isPath: a name with a separator is no name to be found in PATH.
func isPath(name string) bool { return strings.ContainsAny(name, `/\:`) }

// pathOf is PATH in an environment, whose names have no case.
func pathOf(env []string) (path string) {
	for _, e := range env {
		if name, v, ok := strings.Cut(e, "="); ok && strings.EqualFold(name, "PATH") {
			path = v
		}
	}
	return path
}

// findExecutable returns the path of the file that a command's path names, which may lack
// its extension.
func findExecutable(path string) (string, error) {
	var first error
	for _, p := range []string{path, path + ".exe"} {
		err := executable(p)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// executable reports whether path is a file. Whether it can be executed the system says
// when it is.
func executable(path string) error {
	fi, err := os.Stat(path)
	if err == nil && fi.IsDir() {
		err = &fs.PathError{Op: "exec", Path: path, Err: syscall.EISDIR}
	}
	return err
}
