//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind"
)

// A world is where the measured programs run: a directory of its own, an
// environment that leads fastbind into it, and the executables. Everything in it
// is gone after close.
type world struct {
	dir, bin string
	memory   []string                              // directories that inMemory made
	input    *os.File                              // a line, for clients that read their standard input
	kept     []int                                 // pids of children that endStrays leaves alone
	session  int                                   // of this process
	built    map[string]map[string][]time.Duration // goBuilds
}

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp("/tmp", "fastbind-bench.")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, bin: filepath.Join(dir, "bin")}
	if w.session, err = unix.Getsid(0); err != nil {
		return w, err
	}
	// Not directly in dir: a daemon is woken by what comes and goes beside its root.
	run, err := w.inMemory()
	if err != nil {
		return w, err
	}
	home := filepath.Join(dir, "home")
	for name, path := range map[string]string{
		"FASTBIND_RUNTIME_DIR": filepath.Join(run, "fastbind"),
		"XDG_STATE_HOME":       filepath.Join(home, "state"), "FASTBIND_CONFIG_DIR": filepath.Join(home, "config"),
	} {
		if err := errors.Join(os.MkdirAll(path, 0o700), os.Setenv(name, path)); err != nil {
			return w, err
		}
	}
	input := filepath.Join(dir, "input")
	if err := os.WriteFile(input, []byte("hello\n"), 0o600); err != nil {
		return w, err
	}
	if w.input, err = os.Open(input); err != nil {
		return w, err
	}
	// Daemons whose launcher has ended become children of this process: the
	// kernel tells how many were started.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return w, err
	}
	return w, os.WriteFile(filepath.Join(dir, "home", "config", "tool.toml"),
		[]byte(fmt.Sprintf("command = [%q, \"--daemon\"]\nforeign = false\n", w.path("tool"))), 0o600)
}

// programs are what is run, and the directory of the module that each is in.
var programs = []struct{ name, module, pkg string }{
	{"tool", ".", "./internal/prog/tool"},
	{"plain", ".", "./internal/prog/plain"},
	{"ref", ".", "./internal/prog/ref"},
	{"minimal", ".", "./internal/prog/minimal"},
	{"withnet", ".", "./internal/prog/withnet"},
	{"withsdk", ".", "./internal/prog/withsdk"},
	{"goplugin", ".", "./internal/prog/goplugin"},
	{"stages", ".", "./internal/prog/stages"},
	{"lsp", ".", "./internal/prog/lsp"},
	{"standing", ".", "./internal/prog/standing"},
	{"static", ".", ""},
	{"fastbind", "..", "./cmd/fastbind"},
	{"gocache", "..", "./examples/gocache"},
	{"floor", "..", "./examples/gocache/internal/floor"},
}

// build compiles the programs, or those that are named.
func (w *world) build(ctx context.Context, names ...string) error {
	for _, p := range programs {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		made := w.path(p.name + ".made")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", made, p.pkg)
		if p.pkg == "" { // in C: a daemon whose start takes next to no time of its own
			if _, err := exec.LookPath("cc"); err != nil {
				continue // static tells
			}
			cmd = exec.CommandContext(ctx, "cc", "-O2", "-static", "-o", made, "internal/prog/static/static.c")
		}
		cmd.Dir = p.module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", p.pkg, err, out)
		}
		if err := install(made, w.path(p.name)); err != nil {
			return err
		}
	}
	return nil
}

// install copies an executable, as every installer does. What a linker has written in
// place lies in the page cache in single pages, of which a start takes longer to map some
// hundred: a tenth of the time of a small program's whole life.
func install(made, at string) error {
	content, err := os.ReadFile(made)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(at, content, 0o700), os.Remove(made))
}

// static is the path of the daemon in C. The error is exec.ErrNotFound if there is no
// compiler.
func (w *world) static() (string, error) {
	_, err := exec.LookPath("cc")
	return w.path("static"), err
}

func (w *world) path(program string) string { return filepath.Join(w.bin, program) }

func (w *world) sub(name string) (string, error) {
	return os.MkdirTemp(w.dir, name+".")
}

// inMemory returns a directory for run-time files: in memory where there is such a place,
// as it is for a user of a system with systemd. It is gone after close.
func (w *world) inMemory() (string, error) {
	const tmpfs = "/dev/shm"
	at := w.dir
	var st unix.Statfs_t
	if unix.Statfs(tmpfs, &st) == nil && st.Type == unix.TMPFS_MAGIC {
		at = tmpfs
	}
	dir, err := os.MkdirTemp(at, "fastbind-bench.")
	w.memory = append(w.memory, dir)
	return dir, err
}

// close ends what is left and removes the world.
func (w *world) close() error {
	w.kept = nil
	err := errors.Join(w.endStrays(), os.RemoveAll(w.dir))
	for _, dir := range w.memory {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// service is the tool's service, as a client in this process has it.
func (w *world) service(name string) fastbind.Service {
	return fastbind.Service{Name: name, Command: []string{w.path("tool"), "--daemon"}, StopWithin: 5 * time.Second}
}

// command returns a client process that has a line to read.
func (w *world) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(w.path(name), args...)
	cmd.Stdin = w.input
	return cmd
}

// run runs a client process, which must print the reply.
func (w *world) run(name string, args ...string) error {
	cmd := w.command(name, args...)
	if _, err := w.input.Seek(0, 0); err != nil {
		return err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, errs.String())
	}
	if !strings.Contains(out.String(), "hello") {
		return fmt.Errorf("%s printed %q", name, out.String())
	}
	return nil
}

// strays returns this process's children but those kept: daemons, which it has
// launched itself or is the parent of by adoption.
func (w *world) strays() ([]int, error) {
	var pids []int
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	for _, path := range tasks {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that has ended
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(w.kept, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// endStrays kills and reaps them, and the children that each leaves. It is called
// when no other child is left.
func (w *world) endStrays() error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		pids, err := w.strays()
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			if err := reap(pid); err != nil {
				return err
			}
		}
	}
	return errors.New("daemons come faster than they can be ended, for a minute")
}

// settled waits until the daemons are the same for half a second, at most ten. It
// returns how many there are, the dead whom nobody has waited for included, and
// how many of them live. A daemon is a stray with a session of its own.
func (w *world) settled() (all, alive int, err error) {
	const steady, most = 500 * time.Millisecond, 10 * time.Second
	since := time.Now()
	for end := since.Add(most); ; time.Sleep(20 * time.Millisecond) {
		pids, err := w.strays()
		if err != nil {
			return 0, 0, err
		}
		own, living := 0, 0
		for _, pid := range pids {
			if sid, err := unix.Getsid(pid); err != nil || sid == w.session {
				continue
			}
			own++
			if !dead(pid) {
				living++
			}
		}
		if own != all || living != alive {
			all, alive, since = own, living, time.Now()
		}
		if now := time.Now(); now.Sub(since) > steady || now.After(end) {
			return all, alive, nil
		}
	}
}

// dead reports whether a child has ended, and has not been waited for.
func dead(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo == int32(unix.SIGCHLD)
}

// reap waits for a child that was adopted.
func reap(pid int) error {
	for {
		_, err := syscall.Wait4(pid, nil, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err == nil || errors.Is(err, syscall.ECHILD):
			return nil
		default:
			return os.NewSyscallError("wait4", err)
		}
	}
}
