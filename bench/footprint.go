//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind"
)

// An idler is a pair of idle daemons, ours and one that only listens, that the
// other rows run beside: an idle process is not woken by a busy machine.
type idler struct {
	ours, theirs int // pids
	plain        *exec.Cmd
	began        time.Time
	at           [2]int // wake-ups then
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
	i := &idler{ours: st.PID, plain: exec.Command(w.path("plain"), sock)}
	if err := i.plain.Start(); err != nil {
		return nil, err
	}
	i.theirs = i.plain.Process.Pid
	w.kept = append(w.kept, i.ours, i.theirs)
	time.Sleep(settle)
	i.began = time.Now()
	for k, pid := range []int{i.ours, i.theirs} {
		if i.at[k], err = wakeups(pid); err != nil {
			return i, err
		}
	}
	return i, nil
}

// finish waits until they have idled for the given time.
func (i *idler) finish(ctx context.Context, w *world, s size) (result, error) {
	time.Sleep(time.Until(i.began.Add(s.idle)))
	var n [2]int
	for k, pid := range []int{i.ours, i.theirs} {
		now, err := wakeups(pid)
		if err != nil {
			return result{}, err
		}
		n[k] = now - i.at[k]
	}
	r := result{Ours: strconv.Itoa(n[0]), Theirs: strconv.Itoa(n[1]), Unit: "wake-ups more",
		Value: float64(n[0] - n[1]), Counts: "in " + show(time.Since(i.began))}
	stop := func() error { return w.service("idle").Stop(ctx) }
	return r, errors.Join(w.apart(stop), i.plain.Process.Kill(), ignoreExit(i.plain.Wait()))
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
	for range s.rounds {
		svc := w.service("memory")
		if err := ask(ctx, svc); err != nil {
			return result{}, err
		}
		st, err := svc.Status(ctx)
		if err != nil {
			return result{}, err
		}
		plain := exec.Command(w.path("plain"), filepath.Join(w.dir, "memory.sock"))
		if err := plain.Start(); err != nil {
			return result{}, err
		}
		if err := await(ctx, func() error { return w.run("minimal", plain.Args[1]) }); err != nil {
			return result{}, err
		}
		time.Sleep(time.Second)
		a, errA := resident(st.PID)
		b, errB := resident(plain.Process.Pid)
		ours, theirs = append(ours, time.Duration(a)), append(theirs, time.Duration(b))
		err = errors.Join(errA, errB, svc.Stop(ctx), plain.Process.Kill(), ignoreExit(plain.Wait()), os.Remove(plain.Args[1]))
		if err != nil {
			return result{}, err
		}
	}
	a, b := int(quantile(ours, 0.5)), int(quantile(theirs, 0.5))
	return result{Ours: fmt.Sprintf("%d kB", a), Theirs: fmt.Sprintf("%d kB", b),
		Unit: "MB more", Value: float64(a-b) / 1000}, nil
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
