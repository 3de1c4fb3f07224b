package probe

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A command is run until it succeeds. A run that takes too long is killed, with
// all that it has started in its process group. It has the daemon's environment
// and directory, no input, and nobody keeps its output but for the end.
type command struct {
	argv   []string
	path   string
	target Target
	within time.Duration // one run
	ran    bool          // a run has ended
}

// drainWithin is how long a command that has ended may leave its output open in
// processes of its own, before these are left alone with it.
const drainWithin = 100 * time.Millisecond

func openCommand(argv []string, target Target) (*command, error) {
	c := &command{target: target, within: tryWithin}
	for i, a := range argv {
		if i > 0 {
			a = strings.ReplaceAll(a, "{socket}", target.Address)
		}
		c.argv = append(c.argv, a)
	}
	var err error
	c.path, err = lookPath(argv[0], target.Env)
	return c, err
}

func (*command) changed() <-chan struct{} { return nil }

func (*command) close() {}

func (c *command) look(ctx context.Context) (bool, string, error) {
	try, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	var out tail
	cmd := exec.CommandContext(try, c.path)
	cmd.Args, cmd.Dir, cmd.Env = c.argv, c.target.Dir, c.target.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean our own
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = drainWithin
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		if slices.ContainsFunc(final, func(f error) bool { return errors.Is(err, f) }) {
			return false, "", err
		}
		return false, errno(err), nil // no process or memory is left, or it is being written
	}
	err := cmd.Wait()
	if cmd.ProcessState.Success() {
		return true, "", nil // ErrWaitDelay, perhaps: it has left somebody behind
	}
	var seen string
	switch {
	case ctx.Err() != nil && c.ran:
		return false, "", nil // what the last one said is worth more
	case ctx.Err() != nil:
		seen = "it was still running"
	case try.Err() != nil:
		seen = "killed, it ran for more than " + c.within.String()
	default:
		seen = err.Error()
	}
	if line := out.lastLine(); line != "" {
		seen += ", its last line is " + quoted(line)
	}
	c.ran = true
	return false, seen, nil
}

// final are the errors of exec(3) for a program that will not do the next time either.
var final = []error{fs.ErrNotExist, fs.ErrPermission, syscall.ENOEXEC, syscall.ENOTDIR, syscall.EISDIR}

// lookPath finds a program in the PATH of an environment, as a launch does: in
// absolute directories only. The error is *fs.PathError.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	err := error(&fs.PathError{Op: "exec", Path: name, Err: exec.ErrNotFound})
	for _, e := range env {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if !filepath.IsAbs(dir) {
				continue
			}
			p := filepath.Join(dir, name)
			switch perr := executable(p); {
			case perr == nil:
				return p, nil
			case errors.Is(perr, fs.ErrPermission):
				err = perr
			}
		}
	}
	return "", err
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return &fs.PathError{Op: "exec", Path: path, Err: syscall.EISDIR}
	case fi.Mode().Perm()&0o111 == 0:
		return &fs.PathError{Op: "exec", Path: path, Err: fs.ErrPermission}
	}
	return nil
}

// A tail keeps the end of what is written to it. One goroutine writes at a time
// (package os/exec).
type tail struct{ b []byte }

const maxTail = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-maxTail):]...)
	t.b = t.b[max(0, len(t.b)-maxTail):]
	return len(p), nil
}

func (t *tail) lastLine() string {
	b := bytes.TrimRight(t.b, "\r\n")
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}
