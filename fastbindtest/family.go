//go:build linux || windows

package fastbindtest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// The twins of this file say what the system knows of processes:
//
//   - newFamily makes this process the head of its family, for good, and
//     family.close ends all of it that is left;
//   - family.kill ends a member at once and does not wait; errGone if it has ended;
//   - processes are those that can be seen; living reports whether one has not ended
//     and holds what it held; arguments, image, environment and directory are what
//     it was started with and its working directory, "" or nil for one that cannot be
//     asked;
//   - listeners is what listens at this moment, which held looks for among processes;
//   - holdings are the copies of a socket that a process has, opened its files;
//   - world.freeze stops processes until thaw, and returns when they have stopped.

// errGone is that of a process that has ended.
var errGone = errors.New("the process has ended")

// A family is all descendants of this process: it is taken for the parent of those
// whose own has ended, and none gets away.
type family struct {
	kin // the system's part

	mu       sync.Mutex   // guards children; held while a child is started, so that nobody else takes it for an orphan
	children map[int]bool // started here and not waited for
}

// A child is a process started here.
type child struct {
	proc  *os.Process
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
	c := &child{proc: p, pid: p.Pid, ended: make(chan struct{})}
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
	var err error
	for end := time.Now().Add(cleaningWithin / 4); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		left = f.members()
		if len(left) == 0 {
			return nil
		}
		for _, p := range left {
			if kerr := f.kill(p.pid); kerr != errGone {
				err = kerr
			}
		}
	}
	if err == nil {
		err = errors.New("they do not end")
	}
	return fmt.Errorf("processes that cannot be ended: %v: %w", left, err)
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

// A process is what the system's list says of one.
type process struct {
	pid, ppid int
	session   int  // on Windows that of the logon
	zombie    bool // its main thread has ended
}

// String names a process for people.
func (p process) String() string {
	return fmt.Sprintf("pid %d (%s)", p.pid, commandLine(p.pid))
}

func commandLine(pid int) string {
	text := arguments(pid)
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return text
}

// A snapshot is the processes that can be seen, by pid. It is not of one moment.
type snapshot map[int]process

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
		if !p.zombie && p.pid != os.Getpid() && (p.pid == root || s.descends(p, root)) {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b process) int { return a.pid - b.pid })
	return list
}

func tree(root int) []process { return processes().tree(root) }

// A socket is one that listens, or a pipe.
type socket struct {
	id      string // the same in all processes that hold it
	network string // unix, pipe or tcp
	addr    string // path, @name of an abstract one, name of a pipe, or host:port
}

func (s socket) String() string { return s.network + " " + s.addr }

// listening are the listening sockets that processes hold.
func listening(of []process) []socket { return held(listeners(), of) }

// A holding is how a process holds a socket.
type holding struct {
	name     string // descriptor 3, handle 0x3
	executed bool   // what the process executes gets it
}

// An openFile is one that a process has open.
type openFile struct{ name, path string }
