package fastbindtest

import (
	"errors"
	"fmt"
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

// stopWord is what daemon.terminate sends.
const stopWord = "SIGTERM"

func (w *world) service() string { return filepath.Dir(w.socket()) }

func (w *world) clear() {
	_ = os.Remove(w.socket())
}

func (w *world) leave() (bool, error) {
	ln, _, err := listen1(w.socket())
	if err != nil {
		return false, err
	}
	return true, ln.Close()
}

// shared: another socket at the path has another inode.
func shared(socket, string) bool { return false }

func writeCurrent(dir, generation string) error {
	current := filepath.Join(dir, "current")
	_ = os.Remove(current)
	return os.Symlink(generation, current)
}

// An inheritance is what becomes the daemon's descriptor 3.
type inheritance struct {
	file *os.File
	keep *os.File // the listener, where file is none
}

func (o *offer) close() {
	_ = o.file.Close()
	_ = o.keep.Close() // on nil it is an error
}

func (w *world) offer() (*offer, error) {
	ln, ino, err := listen1(w.socket())
	if err != nil {
		return nil, err
	}
	o := &offer{inheritance: inheritance{file: ln}, name: "descriptor 3"}
	link, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(ln.Fd())))
	if err == nil {
		o.id = socketInode(link)
		err = w.announce(o, ino)
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (w *world) falseOffer() (*offer, error) {
	o, err := w.offer()
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		o.close()
		return nil, err
	}
	o.file, o.keep = null, o.file
	return o, nil
}

// announce makes the variables with which the broker hands a listener down.
func (w *world) announce(o *offer, ino record.Inode) (err error) {
	if o.handover, err = w.generation(); err != nil {
		return err
	}
	o.handover.Listen, o.handover.Inode = handover.FirstFD, ino
	o.env = []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=check", handover.Variable + "=" + o.handover.Encode()}
	return nil
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

// spawn: own session, working directory /.
func (w *world) spawn(o *offer, g *gate) (*daemon, error) {
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
	d := &daemon{w: w, offer: o}
	files, env := []*os.File{null, log, log}, w.env()
	script := trampoline
	switch {
	case o != nil:
		files, env = append(files, o.file), append(env, o.env...)
		d.handed = o.id
	case g != nil:
		files = append(files, g.closed)
		script = "read -r _ <&3; exec 3<&-\n" + script
	}
	argv := append([]string{"sh", "-c", script, "sh"}, w.expandAll(w.Target.Command)...)
	d.child, err = w.family.start("/bin/sh", argv, &os.ProcAttr{Dir: "/", Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return nil, err
	}
	d.began = time.Now()
	return d, nil
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

// executed: the trampoline has become it.
func executed(pid int) bool {
	b, _ := os.ReadFile(procPath(pid, "cmdline"))
	return !strings.HasPrefix(string(b), "sh\x00-c\x00"+trampoline)
}

// terminate signals the first of the daemon's processes.
func (d *daemon) terminate() error {
	if d.alive() {
		return syscall.Kill(d.pid, syscall.SIGTERM)
	}
	for _, r := range d.w.daemons() {
		return syscall.Kill(r.pid, syscall.SIGTERM)
	}
	return errors.New("it is gone: " + d.ending())
}
