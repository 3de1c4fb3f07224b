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
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind"
)

// An idler is idle processes, ours and one that only listens, that the other rows run
// beside: an idle process is not woken by a busy machine.
type idler struct {
	daemon, plain idle
	broker        idle // with what waits to be its next daemon
	held          *holder
	listens       *exec.Cmd
	began         time.Time
}

// idle is a process and those that belong to it.
type idle struct {
	pids []int
	at   int // wake-ups when it began
}

func (i *idle) wakeups() (int, error) {
	sum := 0
	for _, pid := range i.pids {
		n, err := wakeups(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// settle is how long a fresh process has for its start-up: Go's runtime rests
// after some hundred milliseconds.
const settle = 5 * time.Second

func startIdler(ctx context.Context, w *world) (*idler, error) {
	var st fastbind.Status
	svc := w.service("idle")
	err := w.apart(func() (err error) {
		if err = ask(ctx, svc); err == nil {
			st, err = svc.Status(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(w.dir, "idle.sock")
	i := &idler{listens: exec.Command(w.path("plain"), sock)}
	if err := i.listens.Start(); err != nil {
		return nil, err
	}
	i.daemon.pids, i.plain.pids = []int{st.PID}, []int{i.listens.Process.Pid}
	if i.held, err = w.standing(1000, w.path("plain")); err != nil {
		return nil, err
	}
	w.kept = append(w.kept, st.PID, i.listens.Process.Pid, i.held.cmd.Process.Pid)
	time.Sleep(settle)
	if i.broker.pids, err = i.held.processes(); err != nil {
		return i, err
	}
	i.began = time.Now()
	for _, p := range []*idle{&i.daemon, &i.plain, &i.broker} {
		if p.at, err = p.wakeups(); err != nil {
			return i, err
		}
	}
	return i, nil
}

// finish compares the wake-ups of one of ours when they have idled for the given time.
func (i *idler) finish(ours *idle, s size) (result, error) {
	time.Sleep(time.Until(i.began.Add(s.idle)))
	n, err := ours.wakeups()
	m, merr := i.plain.wakeups()
	n, m = n-ours.at, m-i.plain.at
	return result{Ours: strconv.Itoa(n), Theirs: strconv.Itoa(m), Unit: "wake-ups more",
		Value: float64(n - m), Counts: "in " + show(time.Since(i.began))}, errors.Join(err, merr)
}

// end ends them.
func (i *idler) end(ctx context.Context, w *world) error {
	stop := func() error { return w.service("idle").Stop(ctx) }
	return errors.Join(w.apart(stop), i.held.close(), i.listens.Process.Kill(), ignoreExit(i.listens.Wait()))
}

// apart calls f with a root of its own for run-time files: a daemon is woken by the
// instances that come and go beside its own.
func (w *world) apart(f func() error) error {
	const name = "FASTBIND_RUNTIME_DIR"
	root := os.Getenv(name)
	own := filepath.Join(w.dir, "apart", "run")
	if err := errors.Join(os.MkdirAll(own, 0o700), os.Setenv(name, own)); err != nil {
		return err
	}
	return errors.Join(f(), os.Setenv(name, root))
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// wakeups counts how often the kernel has put a thread of the process on a
// processor again after it slept.
func wakeups(pid int) (int, error) {
	n, tasks := 0, 0
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // a thread that has ended
		}
		v, err := field(b, "voluntary_ctxt_switches:")
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p, err)
		}
		n += v
		tasks++
	}
	if tasks == 0 {
		return 0, fmt.Errorf("process %d has gone", pid)
	}
	return n, nil
}

func field(text []byte, name string) (int, error) {
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), name); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, errors.New("no field " + name)
}

// memory compares what a daemon that has served one client is resident with.
func memory(ctx context.Context, w *world, s size) (result, error) {
	var ours, theirs []time.Duration // kB: quantile sorts them
	err := rested(ctx, w, s.rounds, func(daemon, plain int) error {
		a, errA := resident(daemon)
		b, errB := resident(plain)
		ours, theirs = append(ours, time.Duration(a)), append(theirs, time.Duration(b))
		return errors.Join(errA, errB)
	})
	if err != nil {
		return result{}, err
	}
	a, b := int(quantile(ours, 0.5)), int(quantile(theirs, 0.5))
	return result{Ours: fmt.Sprintf("%d kB", a), Theirs: fmt.Sprintf("%d kB", b),
		Unit: "MB more", Value: float64(a-b) / 1000}, nil
}

// rested starts a daemon, and one with net.Listen, and looks at both by pid when each has
// served one client and then rested; so many times.
func rested(ctx context.Context, w *world, times int, look func(daemon, plain int) error) error {
	for range times {
		svc := w.service("memory")
		if err := ask(ctx, svc); err != nil {
			return err
		}
		st, err := svc.Status(ctx)
		if err != nil {
			return err
		}
		plain := exec.Command(w.path("plain"), filepath.Join(w.dir, "memory.sock"))
		if err := plain.Start(); err != nil {
			return err
		}
		if err := await(ctx, func() error { return w.run("minimal", plain.Args[1]) }); err != nil {
			return err
		}
		time.Sleep(time.Second)
		err = errors.Join(look(st.PID, plain.Process.Pid), svc.Stop(ctx), plain.Process.Kill(), ignoreExit(plain.Wait()), os.Remove(plain.Args[1]))
		if err != nil {
			return err
		}
	}
	return nil
}

// Kinds of pages. A goroutine's stack is in the heap.
const (
	codePages     = "code"
	readOnlyPages = "read-only data"
	dataPages     = "data"
	heapPages     = "heap"
	runtimePages  = "the runtime's own"
	otherPages    = "the rest" // the first thread's stack, and what the kernel maps
)

var pageKinds = []kind{{name: codePages}, {name: readOnlyPages}, {name: dataPages}, {name: heapPages}, {name: runtimePages}}

// profileMemory says what the pages of both daemons are, as memory measures them.
func profileMemory(ctx context.Context, w *world, s size, _ sorter) ([]profileResult, error) {
	var all []profileResult
	for _, what := range []string{"with the SDK, pages of its own", "with the SDK, pages of files", "net.Listen, pages of its own", "net.Listen, pages of files"} {
		all = append(all, profileResult{What: what, Times: s.rounds, Kinds: map[string]float64{}})
	}
	return all, rested(ctx, w, s.rounds, func(daemon, plain int) error {
		for i, pid := range []int{daemon, plain} {
			f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
			if err != nil {
				return err
			}
			err = sortPages(f, func(kind string, own, files int) {
				all[2*i].Kinds[kind] += float64(own) / float64(s.rounds)
				all[2*i+1].Kinds[kind] += float64(files) / float64(s.rounds)
			})
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// sortPages reads a /proc/PID/smaps (proc_pid_smaps(5)) of a program in Go without a
// library in C. It tells of each mapping what it is and how much of it is resident, in kB:
// pages that only this process has, and such of files, which all who map a file share.
func sortPages(smaps io.Reader, tell func(kind string, own, files int)) error {
	// An arena of the heap is reserved at a multiple of its size (malloc.go of package
	// runtime), wherever that is; other memory of the runtime is where the kernel puts it.
	const arena = 64 << 20
	var kind string
	var end, bss uint64 // of the mapping before; of the data of the executable
	var resident int
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch from, to, _ := strings.Cut(f[0], "-"); {
		case f[0] == "Rss:":
			resident, _ = strconv.Atoi(f[1])
		case f[0] == "Anonymous:":
			own, err := strconv.Atoi(f[1])
			if err != nil {
				return fmt.Errorf("smaps has %q", lines.Text())
			}
			tell(kind, own, resident-own)
		case to != "":
			start, serr := strconv.ParseUint(from, 16, 64)
			until, err := strconv.ParseUint(to, 16, 64)
			if serr != nil || err != nil {
				return fmt.Errorf("smaps has %q", lines.Text())
			}
			name := strings.Join(f[min(5, len(f)):], " ")
			switch anonymous := name == "" || strings.HasPrefix(name, "[anon:"); {
			case strings.HasPrefix(name, "/") && strings.Contains(f[1], "x"):
				kind = codePages
			case strings.HasPrefix(name, "/") && strings.Contains(f[1], "w"):
				kind, bss = dataPages, until
			case strings.HasPrefix(name, "/"):
				kind = readOnlyPages
			case anonymous && start == bss:
				kind, bss = dataPages, until
			case anonymous && start == end && (kind == heapPages || kind == runtimePages): // goes on
			case anonymous && start%arena == 0:
				kind = heapPages
			case anonymous:
				kind = runtimePages
			default:
				kind = otherPages
			}
			end = until
		}
	}
	return lines.Err()
}

func resident(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return field(b, "Rss:")
}

// await tries until it works.
func await(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// startUp compares the processor time of a tool that links the SDK and does not
// use it with one that links package net.
func startUp(ctx context.Context, w *world, s size) (result, error) {
	side := func(name string) sample {
		return func() (time.Duration, error) {
			cmd := exec.Command(w.path(name))
			if err := cmd.Run(); err != nil {
				return 0, err
			}
			return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
		}
	}
	var ours, theirs []time.Duration
	r, err := pairs(s.pairs*3, keep(side("withsdk"), &ours), keep(side("withnet"), &theirs))
	r.Value = float64(quantile(ours, 0.5)-quantile(theirs, 0.5)) / 1e6
	r.Low, r.High, r.Unit = 0, 0, "ms more"
	return r, err
}

func keep(f sample, all *[]time.Duration) sample {
	return func() (time.Duration, error) {
		d, err := f()
		*all = append(*all, d)
		return d, err
	}
}

// binarySize compares the executables of the same two.
func binarySize(flags string) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, _ size) (result, error) {
		var n [2]int64
		for i, pkg := range []string{"withsdk", "withnet"} {
			path := filepath.Join(w.bin, pkg+".size")
			cmd := exec.CommandContext(ctx, "go", "build", "-ldflags="+flags, "-o", path, "./internal/prog/"+pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return result{}, fmt.Errorf("%w: %s", err, out)
			}
			fi, err := os.Stat(path)
			if err != nil {
				return result{}, err
			}
			n[i] = fi.Size()
		}
		return result{Ours: fmt.Sprintf("%.2f MB", float64(n[0])/1e6), Theirs: fmt.Sprintf("%.2f MB", float64(n[1])/1e6),
			Unit: "MB more", Value: float64(n[0]-n[1]) / 1e6}, nil
	}
}
