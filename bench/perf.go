//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// samplesPerSecond of each processor.
const samplesPerSecond = 8000

// A kind is what samples are sorted into: those with one of the marks in the name of a
// function on their stack.
type kind struct {
	name  string
	marks []string
}

// tasks are the kinds of what a process does, by the kernel's functions. The first that
// matches counts: what an exec does is the exec's.
var tasks = []kind{
	{"exec", []string{"execve", "load_elf"}},
	{"exit", []string{"do_exit", "do_group_exit"}},
	{"page faults", []string{"exc_page_fault"}},
	{"threads", []string{"sys_clone", "ret_from_fork"}},
	{"waiting and waking", []string{"futex", "schedule", "nanosleep", "epoll_wait", "epoll_pwait"}},
	{"other system calls", []string{"do_syscall_64", "entry_SYSCALL"}},
}

// firstOf is the name of the first kind that a stack is of, "" if it is of none.
func firstOf(kinds []kind, stack []string) string {
	for _, k := range kinds {
		for _, mark := range k.marks {
			if slices.ContainsFunc(stack, func(f string) bool { return strings.Contains(f, mark) }) {
				return k.name
			}
		}
	}
	return ""
}

// A sampled is what perf has seen of a process.
type sampled struct {
	parent int
	comm   string             // the name of what it has executed last
	kinds  map[string]float64 // seconds, by what the processor does
	steps  map[string]float64 // seconds, by what it does it for; the kinds divide the same
}

// A sorter says of a sample's stack, the innermost function first, what it is. "" is
// nothing in particular.
type sorter struct{ kind, step func(stack []string) string }

// sampled does work, and samples the whole machine meanwhile, by perf-record(1). It
// returns the processes by pid. What the sampling itself takes is theirs.
func (w *world) sampled(ctx context.Context, by sorter, work func() error) (map[int]*sampled, error) {
	dir, err := w.sub("profile")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "perf.data")
	record := exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", strconv.Itoa(samplesPerSecond), "-g", "-a", "-o", data)
	if err := record.Start(); err != nil {
		return nil, err
	}
	w.kept = append(w.kept, record.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- record.Wait() }()
	select {
	case err := <-ended:
		return nil, fmt.Errorf("perf record ended at once: %w", cmp.Or(err, errors.New("without a reason")))
	case <-time.After(time.Second):
	}
	err = errors.Join(work(), record.Process.Signal(unix.SIGINT))
	<-ended // it ends by that signal
	if err != nil {
		return nil, err
	}
	script := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "pid,ip,sym", "--show-task-events", "--show-lost-events")
	text, err := script.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := script.Start(); err != nil {
		return nil, err
	}
	all, err := sortSamples(text, by)
	if err != nil { // perf would wait for a reader
		_ = script.Process.Kill()
		return nil, errors.Join(err, ignoreExit(script.Wait()))
	}
	return all, script.Wait()
}

// What perf script prints when a process or a thread has begun, of both and of the one that
// made it, process and thread; and when one has a new name.
var (
	forked = regexp.MustCompile(`PERF_RECORD_FORK\((\d+):\d+\):\((\d+):\d+\)`)
	named  = regexp.MustCompile(`PERF_RECORD_COMM[^:]*: (.*):(\d+)/(\d+)`)
)

// sortSamples reads what perf script prints: of each sample the pid, then the stack, the
// innermost function first, then an empty line; and a line for each fork, exec and exit, and
// for samples that are lost.
func sortSamples(text io.Reader, by sorter) (map[int]*sampled, error) {
	all := map[int]*sampled{}
	process := func(pid int) *sampled {
		if all[pid] == nil {
			all[pid] = &sampled{kinds: map[string]float64{}, steps: map[string]float64{}}
		}
		return all[pid]
	}
	const each = 1.0 / samplesPerSecond
	var of *sampled
	var stack []string
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "\t"):
			if f := strings.Fields(line); len(f) > 1 {
				stack = append(stack, strings.Join(f[1:], " "))
			}
		case strings.Contains(line, "PERF_RECORD_LOST"):
			return nil, errors.New("perf has lost samples: " + strings.TrimSpace(line))
		case strings.Contains(line, "PERF_RECORD_"):
			if m := forked.FindStringSubmatch(line); m != nil && m[1] != m[2] {
				pid, _ := strconv.Atoi(m[1])
				process(pid).parent, _ = strconv.Atoi(m[2])
			}
			if m := named.FindStringSubmatch(line); m != nil && m[2] == m[3] { // not of a thread
				pid, _ := strconv.Atoi(m[2])
				process(pid).comm = m[1]
			}
		case strings.TrimSpace(line) != "":
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return nil, fmt.Errorf("perf script printed %q", line)
			}
			stack, of = stack[:0], process(pid)
		case of != nil:
			of.kinds[by.kind(stack)] += each
			if step := by.step(stack); step != "" {
				of.steps[step] += each
			}
			of = nil
		}
	}
	return all, lines.Err()
}

// average is the result of all processes whose name is what, divided by how often they did
// what they are sampled for.
func average(seen map[int]*sampled, whose map[int]string, what string, times int) (profileResult, error) {
	res := profileResult{What: what, Times: times, Kinds: map[string]float64{}, Steps: map[string]float64{}}
	for pid, of := range whose {
		if s := seen[pid]; s != nil && of == what {
			for kind, v := range s.kinds {
				res.Kinds[kind] += v / float64(times)
			}
			for step, v := range s.steps {
				res.Steps[step] += v / float64(times)
			}
		}
	}
	if len(res.Kinds) == 0 {
		return res, errors.New("perf has no sample of: " + what)
	}
	return res, nil
}
