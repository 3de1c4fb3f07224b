package fastbindtest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
)

// What is told calls things as the system does.
const (
	killWord   = "kill -9"
	freezeWord = "SIGSTOP"
	strayWord  = "descriptor 9"
	inUseWord  = "unmounted, nor deleted on some systems"
)

func (w *world) socket() string { return filepath.Join(w.run(), "check", "sock") }

// gated waits for the end of descriptor 3 and becomes the command.
const gated = `read -r _ <&3; exec 3<&- "$@"`

func (w *world) places() []string {
	env := []string{
		"HOME=" + w.home(), "TMPDIR=" + filepath.Join(w.dir, "tmp"),
		"XDG_RUNTIME_DIR=" + w.run(), "XDG_CACHE_HOME=" + w.home() + "/.cache", "XDG_CONFIG_HOME=" + w.home() + "/.config",
		"XDG_STATE_HOME=" + w.home() + "/.local/state", "XDG_DATA_HOME=" + w.home() + "/.local/share",
		"SHELL=/bin/sh", "LANG=C.UTF-8",
	}
	if _, user, _, err := proc.Account(os.Geteuid()); err == nil {
		env = append(env, "USER="+user, "LOGNAME="+user)
	}
	return env
}

func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	d := net.Dialer{}
	return d.DialContext(ctx, "unix", path)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// A gate is a pipe that ends when it opens.
type gate struct{ closed, release *os.File }

func newGate() (*gate, error) {
	r, w, err := os.Pipe()
	return &gate{r, w}, err
}

func (g *gate) open() { _, _ = g.release.Close(), g.closed.Close() }

func (*gate) hold(*child) {}

// own: in a session of its own. A stray is descriptor 9.
func (c command) own(path string, argv []string, attr *os.ProcAttr) (string, []string, func(), error) {
	if c.gate != nil {
		attr.Files = append(attr.Files, c.gate.closed)
		argv = append([]string{"sh", "-c", gated, "sh", path}, argv[1:]...)
		path = "/bin/sh"
	}
	if c.stray != nil {
		for len(attr.Files) < 9 {
			attr.Files = append(attr.Files, nil)
		}
		attr.Files = append(attr.Files, c.stray)
	}
	attr.Sys = &syscall.SysProcAttr{Setsid: true}
	return path, argv, func() {}, nil
}

// cut: what it has detached has another session.
func (w *world) cut(b *begun) {
	for _, p := range tree(b.pid) {
		if p.session == b.pid {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

func (w *world) noteHolders(reader *os.File) {
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(reader.Fd())))
	if err != nil {
		return
	}
	for _, p := range w.family.members() {
		for _, d := range descriptors(p.pid) {
			if d.target == link {
				w.note("%v has it as descriptor %d", p, d.fd)
			}
		}
	}
}

func inodeAt(path string) uint64 {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// ownSession: what a terminal does to its foreground process group at Ctrl-C, and
// to the session at its end.
func ownSession(w *world) verdict {
	r, before, err := w.cold(command{})
	if err != nil {
		return undecided(err)
	}
	for _, d := range before {
		w.note("the client's session was %d, that of pid %d is %d", r.pid, d.pid, d.session)
		if d.session == r.pid {
			return broken("%v is in its first client's session %d: what ends that terminal ends the daemon", d.process, r.pid)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		_ = syscall.Kill(-r.pid, sig) // ESRCH: nobody is left in it, as it should be
	}
	w.sleep(100 * time.Millisecond)
	for _, d := range before {
		if !living(d.pid) {
			return broken("Ctrl-C in its first client's terminal ended %v", d.process)
		}
	}
	return holds
}
