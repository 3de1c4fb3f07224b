//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const callsName = "system calls of a client"

// A callsResult is the system calls of two client processes, or of who launches for
// one, those of the Go runtime's left out: what a difference in time is made of, without its noise. What
// a child calls between fork and exec counts, the daemon itself does not.
type callsResult struct {
	What    string         `json:"what"`
	Against string         `json:"against"`
	Ours    map[string]int `json:"ours"`
	Theirs  map[string]int `json:"theirs"`
	Missing string         `json:"missing,omitempty"` // why they were not counted
}

// ofRuntime are calls of which Go's scheduler, collector and signal handling make
// as many as they like.
var ofRuntime = []string{"futex", "nanosleep", "epoll_pwait", "clone", "clone3", "gettid", "getpid", "tgkill", "mmap", "munmap", "mprotect", "madvise", "brk",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "sched_getaffinity", "sched_yield", "clock_gettime", "prctl", "arch_prctl",
	"restart_syscall", "prlimit64", "exit", "exit_group", "set_tid_address", "set_robust_list", "rseq"}

func (p plan) measureCalls(ctx context.Context, w *world, out io.Writer, r *report) error {
	if !p.calls {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%s …\n", callsName)
	strace, err := exec.LookPath("strace")
	ours := w.ourselves(nil)
	count := func(argv ...string) (map[string]int, error) {
		file, err := w.sub("calls")
		if err != nil {
			return nil, err
		}
		file = filepath.Join(file, "summary")
		// -b: it lets go of a child that executes something.
		cmd := exec.Command(strace, append([]string{"-f", "-b", "execve", "-c", "-o", file, "--"}, argv...)...)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, firstLine(said.Bytes()))
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return parseCalls(b)
	}
	for _, warm := range []bool{true, false} {
		c := callsResult{What: "cold tool", Against: "Go reference by hand"}
		if warm {
			c = callsResult{What: "warm tool", Against: "minimal client"}
		}
		if err != nil {
			c.Missing = "strace is not installed"
			r.Calls = append(r.Calls, c)
			continue
		}
		if err := ours.fresh(); err != nil {
			return err
		}
		dir, err := w.inMemory()
		if err != nil {
			return err
		}
		theirs := []string{w.path("ref"), dir}
		if warm {
			if _, err := ours.client(); err != nil {
				return err
			}
			theirs = []string{w.path("minimal"), filepath.Join(os.Getenv("FASTBIND_RUNTIME_DIR"), "default", "tool", "sock")}
		}
		var a, b error
		c.Ours, a = count(w.path("tool"))
		c.Theirs, b = count(theirs...)
		if err := errors.Join(a, b, ctx.Err()); err != nil {
			c.Missing = firstLine([]byte(err.Error())) // where nobody may trace
		}
		r.Calls = append(r.Calls, c)
	}
	c := callsResult{What: "activation by a standing broker", Against: activator}
	if err == nil {
		err = c.ofActivation(ctx, w, strace)
	}
	if err != nil {
		c.Missing = firstLine([]byte(err.Error()))
	}
	r.Calls = append(r.Calls, c)
	fmt.Fprint(out, "\n", callsHead)
	for _, c := range r.Calls {
		fmt.Fprintln(out, c.line())
	}
	return w.endStrays()
}

// ofActivation counts what is called between a client's connect and its first byte by
// those who launch the daemon, up to its exec.
func (c *callsResult) ofActivation(ctx context.Context, w *world, strace string) (err error) {
	static, err := w.static()
	if err != nil {
		return err
	}
	b, err := w.standing(2, static, "{fd}")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if _, err := first(b.sock(0)); err != nil { // what is done once, is done
		return err
	}
	time.Sleep(apart)
	pids, err := b.processes()
	if err != nil {
		return err
	}
	if c.Ours, err = traced(w, strace, pids, b.sock(1)); err != nil {
		return err
	}
	sock := filepath.Join(b.root, "activator")
	cmd, err := activate(ctx, sock, static, "3")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait())) }()
	c.Theirs, err = traced(w, strace, []int{cmd.Process.Pid}, sock)
	return err
}

// traced counts the calls of processes, and of what they fork, until each has executed
// something, while a client gets its first byte at sock.
func traced(w *world, strace string, pids []int, sock string) (map[string]int, error) {
	dir, err := w.sub("calls")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "summary")
	args := []string{"-f", "-b", "execve", "-c", "-o", file}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	cmd := exec.Command(strace, args...)
	says, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(says)
	var said string
	for n := 0; n < len(pids) && lines.Scan(); {
		if said = lines.Text(); strings.HasSuffix(said, "attached") || strings.Contains(said, "attached with") {
			n++
		}
	}
	if !strings.Contains(said, "attached") {
		return nil, errors.Join(errors.New(said), ignoreExit(cmd.Wait()))
	}
	go func() {
		for lines.Scan() { // it says who comes and goes
		}
	}()
	time.Sleep(apart)
	_, err = first(sock)
	err = errors.Join(err, cmd.Process.Signal(unix.SIGINT), ignoreExit(cmd.Wait()))
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseCalls(b)
}

// parseCalls reads the table of strace -c.
func parseCalls(table []byte) (map[string]int, error) {
	calls := map[string]int{}
	sc := bufio.NewScanner(bytes.NewReader(table))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 5 || strings.HasPrefix(f[0], "%") || strings.HasPrefix(f[0], "-") {
			continue
		}
		name := f[len(f)-1]
		n, err := strconv.Atoi(f[3])
		if err != nil {
			return nil, fmt.Errorf("strace printed %q", sc.Text())
		}
		if name != "total" && !slices.Contains(ofRuntime, name) {
			calls[name] = n
		}
	}
	return calls, nil
}

const callsHead = "| system calls | against | ours | theirs | more, and fewer |\n|---|---|---|---|---|\n"

func (c callsResult) line() string {
	if c.Missing != "" {
		return fmt.Sprintf("| %s | %s | | | not counted: %s |", c.What, c.Against, c.Missing)
	}
	var a, b int
	diff := map[string]int{}
	for name, n := range c.Ours {
		a += n
		diff[name] += n
	}
	for name, n := range c.Theirs {
		b += n
		diff[name] -= n
	}
	var names []string
	for name, d := range diff {
		if d != 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(x, y string) int {
		if d := diff[y] - diff[x]; d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %+d", name, diff[name])
	}
	return fmt.Sprintf("| %s | %s | %d | %d | %s |", c.What, c.Against, a, b, strings.Join(names, ", "))
}
