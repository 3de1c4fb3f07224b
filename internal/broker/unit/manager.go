package unit

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

// A Manager is the service manager of one user: where its files are, and what it
// is told. Its methods may be called concurrently; of two installations of one
// instance at the same time either may win, for each file.
type Manager struct {
	Dir string // where it reads the user's files

	kind kind
}

// A kind of manager: what is to be done, not the doing.
type kind interface {
	files(Unit) ([]File, error)
	names(instance string) []string // of the files
	links(name string) []string     // that enabling a unit leaves, below Dir
	mark() string                   // begins the first or second line of our files
	directory(Unit) string          // that must exist, "" if the manager makes it

	load(dir, instance string, plan []Change) []step // after an installation
	unload(instance string, files []string) []step   // before those files go
	forget(instance string) []step                   // after that
}

// A step is a command for the manager. One that may fail finds nothing to do then.
type step struct {
	argv    []string
	mayFail bool
}

func (s step) orNot() step {
	s.mayFail = true
	return s
}

// Here returns the manager of this system, for the user with that home and
// effective uid; get reads the environment. Where there is none that is known here
// the error is errors.ErrUnsupported.
func Here(get func(string) string, home string, euid int) (Manager, error) {
	return here(get, home, euid)
}

// An Action is what becomes of a file.
type Action string

// The actions of a plan.
const (
	Write   Action = "write"   // it is not there
	Replace Action = "replace" // it is ours and says something else
	Keep    Action = "keep"    // it is ours and says the same
	Remove  Action = "remove"  // it is ours
)

// A Change of a file. Text is what it will say, "" if it is removed.
type Change struct {
	Action Action
	Path   string
	Text   string
}

// A Refused error names a file that is neither written nor removed, because it is
// not ours.
type Refused struct {
	Path   string
	Reason string
	Cure   string // what to do
}

func (e *Refused) Error() string {
	return "unit file " + strconv.Quote(e.Path) + ": " + e.Reason
}

// A Result says what was done. Next are the commands that were not run: all of
// them if there was nobody to run them, else from the one that failed on.
type Result struct {
	Changes []Change
	Next    [][]string
}

// A Run runs a command and waits for its end; the error says what it printed.
type Run func(ctx context.Context, argv []string) error

// Plan returns what an installation would change, and changes nothing. The error
// is a *definition.Invalid, a *Refused, or the system's.
func (m Manager) Plan(u Unit) ([]Change, error) {
	files, err := m.kind.files(u)
	if err != nil {
		return nil, err
	}
	if fi, err := os.Stat(u.Executable); err != nil {
		return nil, &definition.Invalid{Field: "executable", Value: u.Executable, Reason: cause(err)}
	} else if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o111 == 0 {
		return nil, &definition.Invalid{Field: "executable", Value: u.Executable, Reason: "it is not an executable file"}
	}
	var changes []Change
	for _, f := range files {
		path := filepath.Join(m.Dir, f.Name)
		switch have, err := m.ours(path); {
		case errors.Is(err, fs.ErrNotExist):
			changes = append(changes, Change{Write, path, f.Text})
		case err != nil:
			return nil, err
		case have == f.Text:
			changes = append(changes, Change{Keep, path, f.Text})
		default:
			changes = append(changes, Change{Replace, path, f.Text})
		}
	}
	return changes, nil
}

// Install writes the files and has the manager start the broker, or start it again
// if they have changed. Without run it stops at the files. It blocks as long as
// run does. What it has done when it fails, the result says; it can be repeated.
func (m Manager) Install(ctx context.Context, u Unit, run Run) (Result, error) {
	plan, err := m.Plan(u)
	if err != nil {
		return Result{}, err
	}
	if dir := m.kind.directory(u); dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return Result{}, err
		}
	}
	var r Result
	for _, c := range plan {
		if c.Action != Keep {
			if err := write(c.Path, c.Text); err != nil {
				return r, err
			}
		}
		r.Changes = append(r.Changes, c)
	}
	left, err := runAll(ctx, run, m.kind.load(m.Dir, u.Instance, plan))
	r.Next = commands(left)
	return r, err
}

// PlanRemoval returns what Uninstall would remove, and changes nothing.
func (m Manager) PlanRemoval(instance string) ([]Change, error) {
	if err := definition.CheckName("instance", instance); err != nil {
		return nil, err
	}
	var changes []Change
	for _, name := range m.kind.names(instance) {
		path := filepath.Join(m.Dir, name)
		switch _, err := m.ours(path); {
		case err == nil:
			changes = append(changes, Change{Action: Remove, Path: path})
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		// What a killed installation has left, and links that only the manager
		// removes as long as it can be reached.
		left, _ := fs.Glob(os.DirFS(m.Dir), temporary(name))
		for _, link := range m.kind.links(name) {
			if target, err := os.Readlink(filepath.Join(m.Dir, link)); err == nil && filepath.Base(target) == name {
				left = append(left, link)
			}
		}
		for _, name := range left {
			changes = append(changes, Change{Action: Remove, Path: filepath.Join(m.Dir, name)})
		}
	}
	return changes, nil
}

// Uninstall has the manager stop the broker, then removes its files; the daemons
// stay. It removes them also if the manager cannot be reached, which is the error
// then. Where nothing is installed it does nothing.
func (m Manager) Uninstall(ctx context.Context, instance string, run Run) (Result, error) {
	plan, err := m.PlanRemoval(instance)
	if err != nil || len(plan) == 0 {
		return Result{}, err
	}
	var r Result
	var files []string
	for _, name := range m.kind.names(instance) {
		if slices.Contains(plan, Change{Action: Remove, Path: filepath.Join(m.Dir, name)}) {
			files = append(files, name)
		}
	}
	var left []step
	var failed error
	if len(files) > 0 {
		left, failed = runAll(ctx, run, m.kind.unload(instance, files))
		// These would find nothing to do when the files are gone.
		left = slices.DeleteFunc(left, func(s step) bool { return s.mayFail })
	}
	for _, c := range plan {
		// The manager has removed its links.
		if err := os.Remove(c.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.Next = commands(left)
			return r, errors.Join(failed, err)
		}
		r.Changes = append(r.Changes, c)
	}
	if failed != nil {
		run = nil // nor would it do the rest
	}
	rest, err := runAll(ctx, run, m.kind.forget(instance))
	r.Next = commands(append(left, rest...))
	return r, errors.Join(failed, err)
}

// runAll runs commands up to the first that fails, and returns those that have not
// been done.
func runAll(ctx context.Context, run Run, steps []step) ([]step, error) {
	if run == nil {
		return steps, nil
	}
	for i, s := range steps {
		if err := run(ctx, s.argv); err != nil && !s.mayFail {
			return steps[i:], err
		}
	}
	return nil, nil
}

func commands(steps []step) [][]string {
	var all [][]string
	for _, s := range steps {
		all = append(all, s.argv)
	}
	return all
}

// maxFile is more than any file of ours has.
const maxFile = 64 << 10

// ours returns the text of a file of ours. The error is a *Refused if it is not.
func (m Manager) ours(path string) (string, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		target, _ := os.Readlink(path)
		if target == "/dev/null" { // systemctl mask
			return "", &Refused{path, "the unit is masked", "run: systemctl --user unmask " + filepath.Base(path)}
		}
		return "", &Refused{path, "it is a link to " + strconv.Quote(target), "move it away"}
	}
	if !fi.Mode().IsRegular() {
		return "", &Refused{path, "it is not a regular file", "move it away"}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	text := string(b)
	_, second, _ := strings.Cut(text, "\n")
	if len(b) > maxFile || !strings.HasPrefix(text, m.kind.mark()) && !strings.HasPrefix(second, m.kind.mark()) {
		return "", &Refused{path, "fastbind has not written it", "move it away"}
	}
	return text, nil
}

// temporary is the pattern of the names beside a file under which it is written.
// Managers read no file of such a name.
func temporary(name string) string { return "." + name + ".*" }

// write makes a file appear at once with its text.
func write(path, text string) error {
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, temporary(name))
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync() // a crash of the machine leaves no empty file either
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// The bounds of a command. A manager waits for a broker's READY=1 for 90 s.
const (
	commandLimit = 2 * time.Minute
	maxOutput    = 4 << 10
)

// Exec runs a command for at most two minutes, or until ctx ends.
func Exec(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandLimit, errors.New("not done within "+commandLimit.String()))
	defer cancel()
	var out tail
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // its children may hold its output
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &Failed{argv, err, strings.TrimSpace(string(out))}
}

// A Failed error is a manager's command that did not succeed.
type Failed struct {
	Argv   []string
	Err    error  // how it ended
	Output string // the last 4 KiB of what it printed
}

func (e *Failed) Error() string {
	s := strings.Join(e.Argv, " ") + ": " + e.Err.Error()
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

// Unwrap returns how the command ended.
func (e *Failed) Unwrap() error { return e.Err }

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if cut := len(*t) - maxOutput; cut > 0 {
		*t = (*t)[cut:]
	}
	return len(p), nil
}

// cause is err without the path, which is named already.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
