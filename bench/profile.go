//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind"
)

const profileName = "processor time of a cold launch"

// A profileResult says what the processors do in one kind of process of a cold launch,
// on the average of its launches, as perf-record(1) has sampled it: the profile of the
// cold rows. What the sampling itself takes is in it.
type profileResult struct {
	What     string             `json:"what"`
	Launches int                `json:"launches,omitempty"`
	Kinds    map[string]float64 `json:"kinds,omitempty"` // seconds, by what the processor does
	Steps    map[string]float64 `json:"steps,omitempty"` // seconds, by what of ours it is for; the kinds divide the same
	Missing  string             `json:"missing,omitempty"`
}

// kinds of a sample, each with what is in the name of a kernel's function on its stack. The
// first that matches counts: what an exec does is the exec's.
var kinds = []struct {
	name  string
	marks []string
}{
	{"exec", []string{"execve", "load_elf"}},
	{"exit", []string{"do_exit", "do_group_exit"}},
	{"page faults", []string{"exc_page_fault"}},
	{"threads", []string{"sys_clone", "ret_from_fork"}},
	{"waiting and waking", []string{"futex", "schedule", "nanosleep", "epoll_wait", "epoll_pwait"}},
	{"other system calls", []string{"do_syscall_64", "entry_SYSCALL"}},
}

const inProgram = "program"

// steps are the functions of which Steps tells: the one that is called by the mark.
var steps = []string{"launch.(*system).do", "daemon.adoptHandover", "daemon.(*stand).live"}

const samplesPerSecond = 8000

func (p plan) measureProfile(ctx context.Context, w *world, out io.Writer, r *report) error {
	if !p.profile {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%s …\n", profileName)
	all, err := w.profileCold(ctx, max(p.size.pairs*2, 8))
	if err := ctx.Err(); err != nil {
		return err
	}
	if err != nil { // no perf, or nobody may
		all = []profileResult{{What: "cold tool", Missing: firstLine([]byte(err.Error()))}}
	}
	r.Profile = all
	fmt.Fprint(out, "\n", profileHead())
	for _, res := range all {
		fmt.Fprintln(out, res.line())
	}
	return w.endStrays()
}

// profileCold samples the whole machine while the tool and the reference by hand are
// launched by turns.
func (w *world) profileCold(ctx context.Context, launches int) ([]profileResult, error) {
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
	whose := map[int]string{} // by pid
	for range launches {
		for _, name := range []string{"tool", "ref"} {
			if err = errors.Join(w.launchedBy(ctx, name, whose), ctx.Err()); err != nil {
				break
			}
		}
	}
	err = errors.Join(err, record.Process.Signal(unix.SIGINT))
	<-ended // it ends by that signal
	if err != nil {
		return nil, err
	}
	script := exec.CommandContext(ctx, "perf", "script", "-i", data, "-F", "pid,ip,sym")
	text, err := script.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := script.Start(); err != nil {
		return nil, err
	}
	all, err := sortSamples(text, whose, launches)
	return all, errors.Join(err, script.Wait())
}

// launchedBy launches once, and says which process was what.
func (w *world) launchedBy(ctx context.Context, name string, whose map[int]string) error {
	args := []string(nil)
	if name == "ref" {
		dir, err := w.inMemory()
		if err != nil {
			return err
		}
		args = append(args, dir)
	}
	if _, err := w.input.Seek(0, 0); err != nil {
		return err
	}
	cmd := w.command(name, args...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	whose[cmd.Process.Pid] = "client, " + name
	pids, err := w.strays()
	for _, pid := range pids {
		whose[pid] = "daemon, " + name
	}
	if name == "tool" { // killed, the next launch would look at what it has left
		err = errors.Join(err, fastbind.Service{Name: "tool"}.Stop(ctx))
	}
	return errors.Join(err, w.endStrays())
}

// sortSamples reads what perf script prints: of each sample the pid, then the stack, the
// innermost function first, then an empty line.
func sortSamples(text io.Reader, whose map[int]string, launches int) ([]profileResult, error) {
	found := map[string]*profileResult{}
	const each = 1.0 / samplesPerSecond
	var of *profileResult
	var stack []string
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		switch f := strings.Fields(line); {
		case len(f) == 0 && of != nil:
			of.Kinds[kindOf(stack)] += each / float64(launches)
			if step := stepOf(stack); step != "" {
				of.Steps[step] += each / float64(launches)
			}
			of = nil
		case len(f) == 0:
		case strings.HasPrefix(line, "\t"):
			stack = append(stack, strings.Join(f[1:], " "))
		default:
			stack = stack[:0]
			pid, err := strconv.Atoi(f[0])
			if err != nil {
				return nil, fmt.Errorf("perf script printed %q", line)
			}
			what, ours := whose[pid]
			if !ours {
				continue
			}
			if found[what] == nil {
				found[what] = &profileResult{What: what, Launches: launches, Kinds: map[string]float64{}, Steps: map[string]float64{}}
			}
			of = found[what]
		}
	}
	var all []profileResult
	for _, what := range []string{"client, tool", "client, ref", "daemon, tool", "daemon, ref"} {
		if found[what] == nil {
			return nil, errors.New("perf has no sample of: " + what)
		}
		all = append(all, *found[what])
	}
	return all, lines.Err()
}

func kindOf(stack []string) string {
	for _, k := range kinds {
		for _, mark := range k.marks {
			if slices.ContainsFunc(stack, func(f string) bool { return strings.Contains(f, mark) }) {
				return k.name
			}
		}
	}
	return inProgram
}

// stepOf is the function that one of steps has called, without its package.
func stepOf(stack []string) string {
	for i, f := range stack {
		if i > 0 && slices.ContainsFunc(steps, func(s string) bool { return strings.HasSuffix(f, s) }) {
			name := stack[i-1]
			return name[strings.LastIndex(name, ".")+1:]
		}
	}
	return ""
}

func profileHead() string {
	head, rule := "| "+profileName+" | all |", "|---|---|"
	for _, k := range kinds {
		head, rule = head+" "+k.name+" |", rule+"---|"
	}
	return head + " " + inProgram + " | of which, by step |\n" + rule + "---|---|\n"
}

func (p profileResult) line() string {
	if p.Missing != "" {
		return "| " + p.What + " | not measured: " + p.Missing + strings.Repeat(" |", len(kinds)+3)
	}
	all := 0.0
	for _, s := range p.Kinds {
		all += s
	}
	ms := func(s float64) string { return fmt.Sprintf("%.2f ms", s*1000) }
	b := "| " + p.What + " | " + ms(all) + " |"
	for _, k := range kinds {
		b += " " + ms(p.Kinds[k.name]) + " |"
	}
	byTime := slices.SortedFunc(maps.Keys(p.Steps), func(x, y string) int { return cmp.Or(cmp.Compare(p.Steps[y], p.Steps[x]), cmp.Compare(x, y)) })
	var list []string
	for _, step := range byTime {
		if p.Steps[step] >= 10e-6 {
			list = append(list, step+" "+ms(p.Steps[step]))
		}
	}
	return b + " " + ms(p.Kinds[inProgram]) + " | " + strings.Join(list, ", ") + " |"
}
