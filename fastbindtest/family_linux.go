package fastbindtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is told calls things as the system does.
const (
	descriptorWord = "descriptor"
	executedWord   = "not close-on-exec"
)

// A kin is what becomes the parent of those whose own has ended: their subreaper.
type kin struct {
	signals chan os.Signal
	done    chan struct{}
	reaper  sync.WaitGroup
}

func newFamily() (*family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("becoming the parent of orphans (prctl(2)): %w", err)
	}
	f := &family{children: map[int]bool{}, kin: kin{signals: make(chan os.Signal, 1), done: make(chan struct{})}}
	signal.Notify(f.signals, syscall.SIGCHLD)
	f.reaper.Go(f.reap)
	return f, nil
}

func (f *family) close() {
	_ = f.endAll()
	signal.Stop(f.signals)
	close(f.done)
	f.reaper.Wait()
}

// reap takes the dead whom others left behind, as init does: a zombie looks
// alive to who asks with kill(pid, 0).
func (f *family) reap() {
	tick := time.NewTicker(200 * time.Millisecond) // signals are merged
	defer tick.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-f.signals:
		case <-tick.C:
		}
		f.mu.Lock()
		for _, p := range processes() {
			if p.ppid == os.Getpid() && p.zombie && !f.children[p.pid] {
				_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
			}
		}
		f.mu.Unlock()
	}
}

// kill: nobody but us reaps those who have ended, so that no number is another's.
func (f *family) kill(pid int) error {
	err := syscall.Kill(pid, syscall.SIGKILL)
	if err == syscall.ESRCH {
		return errGone
	}
	return err
}

func arguments(pid int) string {
	b, _ := os.ReadFile(procPath(pid, "cmdline"))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

func directory(pid int) string {
	cwd, _ := os.Readlink(procPath(pid, "cwd"))
	return cwd
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

func processes() snapshot {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	all := snapshot{}
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			if p, err := look(pid); err == nil {
				all[pid] = p
			}
		}
	}
	return all
}

// look reads /proc/PID/stat. The name in it may contain anything (proc_pid_stat(5)).
// It does so for every process of the machine many times a second, and therefore
// by bare system calls.
func look(pid int) (process, error) {
	var buf [512]byte // the first six fields are wanted
	n, err := readFirst(procPath(pid, "stat"), buf[:])
	if err != nil {
		return process{}, err
	}
	i := bytes.LastIndexByte(buf[:n], ')')
	fields := strings.Fields(string(buf[i+1 : min(n, i+1+80)]))
	if i < 0 || len(fields) < 4 {
		return process{}, fmt.Errorf("%s cannot be read", procPath(pid, "stat"))
	}
	p := process{pid: pid, zombie: fields[0][0] == 'Z'}
	p.ppid, _ = strconv.Atoi(fields[1])
	p.session, _ = strconv.Atoi(fields[3])
	return p, nil
}

// readFirst reads the beginning of a file of the kernel's.
func readFirst(path string, buf []byte) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// living reports whether a process has not ended: whether its pidfd does not poll
// readable. The state letter in /proc says zombie as soon as the main thread has
// ended, when others still hold the listener.
func living(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err != nil || n == 0
}

// A descriptor is what /proc/PID/fd shows.
type descriptor struct {
	fd     int
	target string
}

func descriptors(pid int) []descriptor {
	names, _ := filepath.Glob(procPath(pid, "fd/*"))
	var list []descriptor
	for _, n := range names {
		fd, err := strconv.Atoi(filepath.Base(n))
		target, lerr := os.Readlink(n)
		if err == nil && lerr == nil {
			list = append(list, descriptor{fd, target})
		}
	}
	return list
}

// listeners are all listening sockets of this network namespace by inode.
func listeners() map[string]socket {
	all := map[string]socket{}
	// Num RefCount Protocol Flags Type St Inode Path; 10000 in Flags is __SO_ACCEPTCON.
	for _, f := range table("/proc/net/unix") {
		if len(f) >= 7 && strings.HasSuffix(f[3], "10000") {
			addr := "(unnamed)"
			if len(f) > 7 {
				addr = strings.Join(f[7:], " ")
			}
			all[f[6]] = socket{f[6], "unix", addr}
		}
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		const listening = "0A" // TCP_LISTEN
		for _, f := range table(file) {
			if len(f) >= 10 && f[3] == listening {
				all[f[9]] = socket{f[9], "tcp", hostPort(f[1])}
			}
		}
	}
	return all
}

func table(path string) [][]string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	var rows [][]string
	for line := range strings.Lines(string(b)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

func held(all map[string]socket, by []process) []socket {
	found := map[string]socket{}
	for _, p := range by {
		for _, d := range descriptors(p.pid) {
			if s, ok := all[socketInode(d.target)]; ok {
				found[s.id] = s
			}
		}
	}
	var list []socket
	for _, s := range found {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b socket) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// socketInode is N of socket:[N].
func socketInode(target string) string {
	n, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(n, "]")
}

// freeze waits until all threads have stopped: until then a daemon may still answer.
func (w *world) freeze(list []process) error {
	for _, p := range list {
		if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return w.until("all threads have stopped", func() bool {
		for _, p := range list {
			threads, _ := filepath.Glob(procPath(p.pid, "task/*/stat"))
			for _, t := range threads {
				b, err := os.ReadFile(t)
				// What has ended is not reaped by who is stopped: Z.
				if i := strings.LastIndex(string(b), ") "); err == nil && (i < 0 || !strings.ContainsRune("TtZX", rune(b[i+2]))) {
					return false
				}
			}
		}
		return true
	})
}

// closesOnExec reads /proc/PID/fdinfo: O_CLOEXEC is among the flags (proc_pid_fdinfo(5)).
func closesOnExec(pid, fd int) bool {
	b, _ := os.ReadFile(procPath(pid, fmt.Sprintf("fdinfo/%d", fd)))
	for line := range strings.Lines(string(b)) {
		if octal, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseInt(strings.TrimSpace(octal), 8, 64)
			return err == nil && flags&unix.O_CLOEXEC != 0
		}
	}
	return false
}

// announcing are the variables of systemd's convention. Ours is meant for one
// process, which it names, so a daemon that does not know it may pass it on.
var announcing = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"}

func image(pid int) string {
	exe, _ := os.Readlink(procPath(pid, "exe"))
	return exe + "\x00" + commandLine(pid)
}

func environment(pid int) []string {
	b, _ := os.ReadFile(procPath(pid, "environ"))
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// thaw: who has ended meanwhile need not run.
func thaw(list []process) {
	for _, p := range list {
		_ = syscall.Kill(p.pid, syscall.SIGCONT)
	}
}

func holdings(pid int, id string) (list []holding) {
	for _, d := range descriptors(pid) {
		if id != "" && socketInode(d.target) == id {
			list = append(list, holding{strconv.Itoa(d.fd), !closesOnExec(pid, d.fd)})
		}
	}
	return list
}

func opened(pid int) (list []openFile) {
	for _, d := range descriptors(pid) {
		list = append(list, openFile{fmt.Sprintf("descriptor %d", d.fd), d.target})
	}
	return list
}
