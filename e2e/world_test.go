//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// deadline is generous: a wait for something to happen ends here, and nothing
// else in these tests looks at a clock.
const deadline = 2 * time.Minute

// built is the directory that build made, "" before.
var built string

// build builds a command of this module once, without the race detector.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fastbind-e2e-")
	if err != nil {
		return "", err
	}
	built = dir
	cmd := exec.Command("go", "build", "-o", dir+"/", "../internal/testprog", "../cmd/fastbind", "./testdata/standing")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	// Everybody may run it: one test does as another user.
	return dir, errors.Join(os.Chmod(dir, 0o755))
})

// A world is a runtime directory of its own, with everything in it.
type world struct {
	t    *testing.T
	dir  string // below /tmp: a test's own temporary directory has a long name
	root string
	bin  string
	env  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, root: filepath.Join(dir, "run"), bin: bin}
	w.env = []string{"FASTBIND_RUNTIME_DIR=" + w.root, "FASTBIND_CONFIG_DIR=" + filepath.Join(dir, "config"),
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TESTPROG_EXECS=" + w.execsFile()}
	t.Cleanup(func() {
		w.killAll()
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})
	return w
}

func (w *world) execsFile() string { return filepath.Join(w.dir, "execs") }

// execs is how many daemons were executed so far.
func (w *world) execs() int {
	b, err := os.ReadFile(w.execsFile())
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

// pids are the daemons executed so far.
func (w *world) pids() []string {
	b, _ := os.ReadFile(w.execsFile())
	return strings.Fields(string(b))
}

// service is the directory of a service of the default instance.
func (w *world) service(name string) string { return filepath.Join(w.root, "default", name) }

func (w *world) command(prog string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(w.bin, prog), args...)
	cmd.Env = w.env
	cmd.Dir = w.dir
	return cmd
}

// run runs testprog and returns its output, which names what went wrong.
func (w *world) run(args ...string) (string, error) {
	w.t.Helper()
	return w.output(w.command("testprog", args...))
}

func (w *world) output(cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !stop() {
		err = errors.Join(err, errors.New("killed at the test's deadline"))
	}
	return strings.TrimSpace(out.String()), err
}

// must is run for what has to succeed.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("testprog %s: %v\n%s\n%s", strings.Join(args, " "), err, out, w.logs())
	}
	return out
}

// dial does one request and returns the daemon's pid.
func (w *world) dial(args ...string) string {
	w.t.Helper()
	fields := strings.Fields(w.must(append([]string{"dial"}, args...)...))
	if len(fields) < 3 || fields[0] != "ok" {
		w.t.Fatalf("dial answered %q", fields)
	}
	return fields[1]
}

func (w *world) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.root, ".state", "*", "*"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		if len(text) > 4096 {
			text = text[len(text)-4096:]
		}
		b.WriteString("--- " + filepath.Base(f) + "\n" + string(text))
	}
	return b.String()
}

// generations lists those of a service.
func (w *world) generations(name string) []launch.Entry {
	w.t.Helper()
	entries, err := launch.Generations(w.service(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// living are the living generations of a service.
func (w *world) living(name string) []launch.Entry {
	var alive []launch.Entry
	for _, e := range w.generations(name) {
		if e.Alive {
			alive = append(alive, e)
		}
	}
	return alive
}

// kill9 kills the only living generation of a service and waits for its death.
func (w *world) kill9(name string) {
	w.t.Helper()
	alive := w.living(name)
	if len(alive) != 1 {
		w.t.Fatalf("%d living generations of %s, want 1", len(alive), name)
	}
	h, err := alive[0].Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.await(h)
}

func (w *world) await(h *proc.Handle) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
		w.t.Fatalf("process %d still lives: %v", h.PID(), err)
	}
}

// eventually waits for a condition that some other process makes true.
func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("not within the test's deadline: %s\n%s", what, w.logs())
		case <-tick.C:
		}
	}
}

// killAll ends every daemon this world started, by what their records say and,
// where records are gone, by the pids they wrote.
func (w *world) killAll() {
	dirs, _ := filepath.Glob(filepath.Join(w.root, "*", "*"))
	for _, d := range dirs {
		entries, _ := launch.Generations(d)
		for _, e := range entries {
			if h, err := e.Open(); err == nil {
				_ = h.Signal(syscall.SIGKILL)
				_ = h.Close()
			}
		}
	}
	for _, p := range w.pids() {
		exe, _ := os.Readlink("/proc/" + p + "/exe")
		if strings.HasPrefix(exe, w.bin) {
			_ = exec.Command("kill", "-9", p).Run()
		}
	}
}

// A client is a process that was started and is talked to.
type client struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// startClient starts testprog with pipes.
func (w *world) startClient(args ...string) *client {
	w.t.Helper()
	return w.startCommand(w.command("testprog", args...))
}

func (w *world) startCommand(cmd *exec.Cmd) *client {
	w.t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop := context.AfterFunc(w.t.Context(), func() { _ = cmd.Process.Kill() })
	w.t.Cleanup(func() { stop() })
	return &client{cmd, in, bufio.NewScanner(out)}
}

func (c *client) line() string {
	c.out.Scan()
	return c.out.Text()
}

// finish ends the client's stdin and returns the rest of its output.
func (c *client) finish() (string, error) {
	_ = c.stdin.Close()
	var rest []string
	for c.out.Scan() {
		rest = append(rest, c.out.Text())
	}
	return strings.Join(rest, "\n"), c.cmd.Wait()
}

// readRecord reads the record of the newest generation.
func (w *world) readRecord(name string) record.Record {
	w.t.Helper()
	g := w.generations(name)
	if len(g) == 0 {
		w.t.Fatalf("%s has no generation", name)
	}
	return g[0].Record
}

func itoa(n int) string { return strconv.Itoa(n) }

// asUser makes a command run as another user, which only root can.
func asUser(cmd *exec.Cmd, uid int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
}
