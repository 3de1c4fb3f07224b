package fastbindtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/record"
)

// A daemon is a process of the target's Command.
type daemon struct {
	*child
	w     *world
	inode string // of the socket that it was handed, as in socket:[inode]
	began time.Time
}

// trampoline becomes the daemon, as that of fastbind's broker does: LISTEN_PID
// must be its own pid, and SIGPIPE is ignored (systemd.exec(5)).
const trampoline = `trap '' PIPE
if [ -n "$LISTEN_FDS" ]; then
	export LISTEN_PID=$$
	FASTBIND_HANDOVER="$FASTBIND_HANDOVER
pid=$$"
fi
unset PWD OLDPWD SHLVL
exec "$@"`

// spawn starts the daemon's process with the manners of fastbind's broker: own
// session, no descriptor but those it is handed, working directory /, an
// environment without anything of the caller's.
func (w *world) spawn(handed *os.File, env []string, gate *os.File) (*daemon, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	files := []*os.File{null, log, log}
	script := trampoline
	switch {
	case handed != nil:
		files = append(files, handed)
	case gate != nil:
		files = append(files, gate)
		script = "read -r _ <&3; exec 3<&-\n" + script
	}
	argv := append([]string{"sh", "-c", script, "sh"}, w.expandAll(w.Target.Command)...)
	c, err := w.family.start("/bin/sh", argv, &os.ProcAttr{Dir: "/", Env: append(w.env(), env...), Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return nil, err
	}
	return &daemon{child: c, w: w, began: time.Now()}, nil
}

// launch starts the daemon with what it is to serve on.
func (w *world) launch() (*daemon, error) {
	switch w.mode {
	case Inherit:
		ln, ino, err := listen1(w.socket())
		if err != nil {
			return nil, err
		}
		defer ln.Close() // the daemon's copy is the only one
		env, err := w.announcement(ino)
		if err != nil {
			return nil, err
		}
		inode, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(ln.Fd())))
		if err != nil {
			return nil, err
		}
		d, err := w.spawn(ln, env, nil)
		if err == nil {
			d.inode = socketInode(inode)
		}
		return d, err
	case Port:
		if w.port == "" {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			_, w.port, _ = net.SplitHostPort(ln.Addr().String())
			_ = ln.Close()
		}
	case Socket, Client:
	}
	return w.spawn(nil, nil, nil)
}

// listen1 binds a listener at a path, over whatever was there.
func listen1(path string) (*os.File, record.Inode, error) {
	//fastbindvet:ignore unlink the directory is the case's own: nobody else binds there
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, record.Inode{}, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, record.Inode{}, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = errors.Join(os.Chmod(path, 0o600), unix.Listen(fd, 1024), unix.Stat(path, &st))
	}
	if err != nil {
		_ = f.Close()
		return nil, record.Inode{}, fmt.Errorf("listening at %s: %w", path, err)
	}
	return f, record.Inode{Dev: st.Dev, Ino: st.Ino}, nil
}

// announcement is the variables with which the broker hands a listener down, and
// makes what the daemon is to find in the file system.
func (w *world) announcement(ino record.Inode) ([]string, error) {
	h := handover.Handover{
		Service: "check", Instance: "default", Generation: 1,
		Dir: filepath.Dir(w.socket()), Addr: filepath.Dir(w.socket()), GenDir: fmt.Sprintf("1.%x.check", time.Now().UnixNano()), Inode: ino,
		Listen: handover.FirstFD, Control: handover.None, Life: handover.None,
		StopWithin: w.patience(), IdleExit: w.idle,
	}
	if err := os.Mkdir(h.GenPath(), 0o700); err != nil {
		return nil, err
	}
	if err := record.Create(filepath.Join(h.GenPath(), record.FileName), []record.Line{record.Int("generation", 1)}); err != nil {
		return nil, err
	}
	current := filepath.Join(h.Dir, "current")
	_ = os.Remove(current)
	if err := os.Symlink(h.GenDir, current); err != nil {
		return nil, err
	}
	return []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=check", handover.Variable + "=" + h.Encode()}, nil
}

// bound waits until somebody listens at the endpoint.
func (d *daemon) bound() error {
	if d.w.mode == Inherit {
		return nil
	}
	var last error
	err := d.w.until("it listens", func() bool {
		var c net.Conn
		if c, last = d.w.dial(); last == nil {
			_ = c.Close()
			return true
		}
		return d.failed()
	})
	if err == nil && last != nil {
		err = errors.New("it ended before it listened: " + d.ending())
	}
	return err
}

// failed reports whether the process has ended otherwise than one that leaves a
// child in the background does.
func (d *daemon) failed() bool { return !d.alive() && d.state.ExitCode() != 0 }

// ending says how it ended, with the last lines of its log.
func (d *daemon) ending() string {
	if d.alive() {
		return fmt.Sprintf("pid %d lives", d.pid)
	}
	text := fmt.Sprintf("pid %d: %v", d.pid, d.state)
	if last := lastOf(d.w.log(), 300); last != "" {
		text += fmt.Sprintf(", log %q", last)
	}
	return text
}

// lastOf is the end of a file that may be of any size.
func lastOf(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, n))
	return strings.TrimSpace(string(b))
}

// up launches the daemon and waits until it serves.
func (w *world) up() (*daemon, error) {
	d, err := w.launch()
	if err != nil {
		return nil, err
	}
	if err := d.bound(); err != nil {
		return nil, err
	}
	if err := d.serves(); err != nil {
		return nil, err
	}
	return d, nil
}

// serves wants an answer, or without a request what can be seen of one.
func (d *daemon) serves() error {
	if !d.w.speaks() {
		// The trampoline has become it, and it did not end at once.
		err := d.w.until("it was executed", func() bool {
			return !d.alive() || !isTrampoline(d.pid)
		})
		if err == nil {
			d.w.sleep(200 * time.Millisecond)
			if !d.alive() && !d.forked() {
				err = errors.New("it ended: " + d.ending())
			}
		}
		return err
	}
	// One that turns clients away while it loads has started all the same.
	var last error
	err := d.w.until("it answers", func() bool {
		_, last = d.w.ask()
		return last == nil || d.failed() || errors.Is(last, os.ErrDeadlineExceeded)
	})
	switch {
	case last != nil && d.failed():
		return fmt.Errorf("%w; it ended: %s", last, d.ending())
	case last != nil:
		return last
	}
	return err
}

// forked reports whether the process has left a child that listens and ended
// with success, as daemons do that put themselves into the background.
func (d *daemon) forked() bool {
	return !d.alive() && d.state.ExitCode() == 0 && len(d.w.daemons()) > 0
}

// processes are the daemon and its children, wherever it has put itself.
func (d *daemon) processes() []process {
	if d.alive() {
		return tree(d.pid)
	}
	var list []process
	for _, r := range d.w.daemons() {
		list = append(list, r.tree...)
	}
	return list
}

// isTrampoline reports whether a process has not become the daemon yet.
func isTrampoline(pid int) bool {
	b, _ := os.ReadFile(procPath(pid, "cmdline"))
	return strings.HasPrefix(string(b), "sh\x00-c\x00"+trampoline)
}

// signal signals the daemon, the first of its processes.
func (d *daemon) signal(sig syscall.Signal) error {
	if d.alive() {
		return syscall.Kill(d.pid, sig)
	}
	for _, r := range d.w.daemons() {
		return syscall.Kill(r.pid, sig)
	}
	return errors.New("it is gone: " + d.ending())
}

// gone waits until nothing of the daemon's is left.
func (d *daemon) gone() error {
	return d.w.until("it has ended", func() bool { return !d.alive() && len(d.w.daemons()) == 0 })
}

// kill9 kills the daemon itself, not its children, and waits for its end.
func (d *daemon) kill9() error {
	pid := d.pid
	if !d.alive() {
		for _, r := range d.w.daemons() {
			pid = r.pid
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return d.w.until("the kernel has ended it", func() bool { return !living(pid) })
}
