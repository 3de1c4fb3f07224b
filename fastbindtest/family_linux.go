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

// A family is all descendants of this process: as their subreaper it becomes the
// parent of those whose own has ended, and so none gets away.
type family struct {
	mu       sync.Mutex   // guards children; held while a child is started, so that nobody else reaps it
	children map[int]bool // started here and not waited for
	signals  chan os.Signal
	done     chan struct{}
	reaper   sync.WaitGroup
}

func newFamily() (*family, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("becoming the parent of orphans (prctl(2)): %w", err)
	}
	f := &family{children: map[int]bool{}, signals: make(chan os.Signal, 1), done: make(chan struct{})}
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
			if p.ppid == os.Getpid() && p.state == 'Z' && !f.children[p.pid] {
				_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
			}
		}
		f.mu.Unlock()
	}
}

// A child is a process started here.
type child struct {
	pid   int
	ended chan struct{} // closed when it has ended
	state *os.ProcessState
}

func (c *child) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// start starts a process and waits for it in the background.
func (f *family) start(path string, argv []string, attr *os.ProcAttr) (*child, error) {
	f.mu.Lock()
	p, err := os.StartProcess(path, argv, attr)
	if err == nil {
		f.children[p.Pid] = true
	}
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c := &child{pid: p.Pid, ended: make(chan struct{})}
	go func() {
		c.state, _ = p.Wait()
		f.mu.Lock()
		delete(f.children, c.pid)
		f.mu.Unlock()
		close(c.ended)
	}()
	return c, nil
}

// endAll kills every descendant and returns when none is left.
func (f *family) endAll() error {
	var left []process
	for end := time.Now().Add(cleaningWithin / 4); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		left = f.members()
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // nobody but us reaps those who have ended
		}
	}
	return fmt.Errorf("processes that cannot be ended: %v", left)
}

// members are the living descendants.
func (f *family) members() []process { return processes().tree(os.Getpid()) }

// roots are the living whose parent has ended, so that this process is it: what
// the clients left running.
func (f *family) roots(s snapshot) []process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(s.tree(os.Getpid()), func(p process) bool { return p.ppid != os.Getpid() || f.children[p.pid] })
}

// A process is what /proc/PID/stat says.
type process struct {
	pid, ppid, session int
	state              byte
}

// String names a process for people.
func (p process) String() string {
	return fmt.Sprintf("pid %d (%s)", p.pid, commandLine(p.pid))
}

func commandLine(pid int) string {
	b, _ := os.ReadFile(procPath(pid, "cmdline"))
	text := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return text
}

func procPath(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// A snapshot is the processes that can be seen, by pid. It is not of one moment.
type snapshot map[int]process

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
	p := process{pid: pid, state: fields[0][0]}
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

func (s snapshot) descends(p process, from int) bool {
	for range len(s) { // no loop in what was read at different moments may hold us
		if p.ppid == from {
			return true
		}
		parent, ok := s[p.ppid]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}

// tree are a process, unless it is this one, and its living descendants.
func (s snapshot) tree(root int) []process {
	var list []process
	for _, p := range s {
		if p.state != 'Z' && p.pid != os.Getpid() && (p.pid == root || s.descends(p, root)) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b process) int { return a.pid - b.pid })
	return list
}

func tree(root int) []process { return processes().tree(root) }

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

// A socket is one that listens.
type socket struct {
	inode   string // as in socket:[inode]
	network string // unix or tcp
	addr    string // path, @name of an abstract one, or host:port
}

func (s socket) String() string { return s.network + " " + s.addr }

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

// listening are the listening sockets that processes hold.
func listening(of []process) []socket { return held(listeners(), of) }

func held(all map[string]socket, by []process) []socket {
	found := map[string]socket{}
	for _, p := range by {
		for _, d := range descriptors(p.pid) {
			if s, ok := all[socketInode(d.target)]; ok {
				found[s.inode] = s
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

// freeze stops processes and waits until all their threads have stopped: until
// then a daemon may still answer.
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
