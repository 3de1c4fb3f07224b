//go:build linux || windows

package fastbindtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
)

// The twins of this file:
//
//   - again is this executable, to be run once more, out of the reach of a Ctrl-C in
//     the caller's terminal: that is for who called, who then ends stdin;
//   - standAlone makes the supervisor independent of how its caller ends;
//   - tempDir makes the directory of a check, by the system's own name for it;
//   - Case.lacking is why a case has no meaning on the system, "" if it has one.

// variable makes this package's init take the process over. It is set for the
// supervisor alone, which hands it to nobody.
const variable = "FASTBINDTEST_SUPERVISE"

func init() {
	if os.Getenv(variable) != "" {
		os.Exit(supervise(os.Stdin, os.Stdout))
	}
}

// An order is what the supervisor is told, on its stdin. The end of stdin ends
// the check.
type order struct {
	Target Target
	Env    []string // the caller's
}

// An event is what the supervisor says, a line each.
type event struct {
	Begin  *Case   `json:",omitempty"`
	Result *Result `json:",omitempty"`
	Failed string  `json:",omitempty"`
}

// cleaningWithin bounds what the supervisor needs to end everything and to remove
// what a case has written, which may be much. Killed before, it would leave that.
const cleaningWithin = 2 * time.Minute

// check runs the supervisor: this executable, once more.
func check(ctx context.Context, target Target, watch Watcher) (Report, error) {
	began := time.Now()
	var err error
	if target.Command, err = resolve(target.Command); err != nil {
		return Report{}, err
	}
	if target.Client, err = resolve(target.Client); err != nil {
		return Report{}, err
	}
	text, err := json.Marshal(order{target, os.Environ()})
	if err != nil {
		return Report{}, err
	}
	cmd, err := again()
	if err != nil {
		return Report{}, err
	}
	cmd.Env = append(os.Environ(), variable+"=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		return Report{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return Report{}, err
	}
	if err := cmd.Start(); err != nil {
		return Report{}, err
	}
	total, cancel := context.WithTimeout(ctx, target.Limits.Total)
	defer cancel()
	stop := context.AfterFunc(total, func() {
		_ = in.Close()
		time.AfterFunc(cleaningWithin, func() { _ = cmd.Process.Kill() })
	})
	defer stop()
	_, werr := in.Write(append(text, '\n'))

	report := Report{Mode: target.Mode()}
	err = listen(out, func(e event) error {
		switch {
		case e.Failed != "":
			return errors.New(e.Failed)
		case e.Begin != nil:
			watch(*e.Begin, nil)
		case e.Result != nil:
			report.Results = append(report.Results, *e.Result)
			watch(e.Result.Case, e.Result)
		}
		return nil
	})
	_ = in.Close()
	_, _ = io.Copy(io.Discard, out) // after an error: until it ends
	died := cmd.Wait()
	report.Took = time.Since(began)
	switch {
	case ctx.Err() != nil:
		return report, ctx.Err()
	case err != nil:
		return report, err
	case total.Err() != nil:
		for _, c := range target.selected()[len(report.Results):] {
			report.Results = append(report.Results, Result{Case: c, Outcome: Undecided,
				Reason: fmt.Sprintf("the whole check took longer than %v", target.Limits.Total)})
		}
		return report, nil
	case died != nil || werr != nil:
		return report, fmt.Errorf("the process that judges ended early: %w\n%s", errors.Join(died, werr), tail(complaints.Bytes(), 4096))
	}
	return report, nil
}

// listen calls f with each event until the end.
func listen(r io.Reader, f func(event) error) error {
	d := json.NewDecoder(r)
	for {
		var e event
		if err := d.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("what the judging process says makes no sense: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// resolve finds the program of a command.
func resolve(command []string) ([]string, error) {
	if len(command) == 0 {
		return command, nil
	}
	path, err := exec.LookPath(command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	return append([]string{path}, command[1:]...), nil
}

func tail(b []byte, n int) string {
	return strings.TrimSpace(string(b[max(0, len(b)-n):]))
}

// supervise is the main of the supervisor. It returns the exit status.
func supervise(in io.Reader, out io.Writer) int {
	_ = os.Unsetenv(variable)
	proc.SetName("fastbindtest")
	standAlone()
	e := json.NewEncoder(out)
	var o order
	d := json.NewDecoder(in)
	if err := d.Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, "reading what to judge:", err)
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, io.MultiReader(d.Buffered(), in))
		cancel()
	}()
	if err := judgeAll(ctx, o, e); err != nil {
		_ = e.Encode(event{Failed: err.Error()})
	}
	return 0
}

// judgeAll judges case by case, each in a place of its own. Without a target
// that starts there is nothing to judge.
func judgeAll(ctx context.Context, o order, e *json.Encoder) error {
	o.Target.Limits.complete()
	f, err := newFamily()
	if err != nil {
		return err
	}
	defer f.close()
	dir, err := tempDir(o.Env)
	if err != nil {
		return err
	}
	defer func() { _ = removeAll(dir) }()
	// Other users are to find out for themselves what they can reach.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	j := &judging{order: o, family: f, mode: o.Target.Mode()}
	for i, c := range o.Target.selected() {
		if ctx.Err() != nil {
			return nil
		}
		if err := e.Encode(event{Begin: &c}); err != nil {
			return nil // nobody listens
		}
		r := j.judge(ctx, c, filepath.Join(dir, fmt.Sprint(i)))
		if err := f.endAll(); err != nil {
			return err
		}
		// Nobody is left who could write into it.
		written, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, d := range written {
			_ = removeAll(d)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := e.Encode(event{Result: &r}); err != nil {
			return nil
		}
	}
	return nil
}

// removeAll removes a directory. What has just ended may keep it for a moment.
func removeAll(dir string) error {
	for end := time.Now().Add(goneWithin); ; time.Sleep(pollEvery) {
		if err := os.RemoveAll(dir); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func lookup(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if n, v, ok := strings.Cut(e, "="); ok && sameVariable(n, name) {
			return v
		}
	}
	return ""
}

// longIdle is what {idle} is where a daemon is not to end by itself.
const longIdle = time.Hour

// judging is one check.
type judging struct {
	order
	family *family
	mode   Mode

	started *verdict // of the case starts, which is the condition of all others
	hang    *hang    // what the cases of a stopped daemon have seen
}

// judge judges one case in a fresh world.
func (j *judging) judge(ctx context.Context, c Case, dir string) Result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, j.Target.Limits.Case)
	defer cancel()
	w := &world{judging: j, ctx: ctx, dir: dir, idle: longIdle}
	if c.Name == "idle-exit" {
		w.idle = j.Target.IdleExit
	}
	v := w.verdict(c)
	if v.outcome != NotApplicable && ctx.Err() != nil {
		v = verdict{Undecided, fmt.Sprintf("not done after %v: %s", j.Target.Limits.Case, v.reason)}
	}
	if c.Name == "starts" {
		j.started = &v
	}
	return Result{Case: c, Outcome: v.outcome, Reason: v.reason, Observed: w.seen, Took: time.Since(began)}
}

func (w *world) verdict(c Case) verdict {
	t := w.Target
	if reason := cmp.Or(c.notFor(w.mode), c.lacking(w.mode)); reason != "" {
		return notApplicable("%s", reason)
	}
	switch {
	case c.answer && w.mode != Client && t.Request == "" && t.Expect == "":
		return notApplicable("it takes a request and its answer, and none is known")
	case c.Name == "idle-exit" && t.IdleExit == 0:
		return notApplicable("no idle exit is known")
	case c.Name == "stop-start" && w.mode == Client && len(t.Stop) == 0:
		return notApplicable("no command that stops the daemon is known")
	case c.Name == "looks" && len(t.Status) == 0:
		return notApplicable("no command that only looks is known")
	}
	if err := w.furnish(); err != nil {
		return undecided(err)
	}
	// The condition is judged first also if it was not asked for.
	if c.Name != "starts" && c.Name != "announced" {
		if w.started == nil {
			before := &world{judging: w.judging, ctx: w.ctx, dir: w.dir + "s", idle: longIdle}
			v := before.verdict(cases[0])
			w.started = &v
			if err := w.family.endAll(); err != nil {
				return undecided(err)
			}
		}
		if w.started.outcome != Holds {
			return notApplicable("it does not start: %s", w.started.reason)
		}
	}
	f := judges()[c.Name]
	if w.mode == Client {
		return f.client(w)
	}
	return f.daemon(w)
}

// A verdict is what a case's function comes to.
type verdict struct {
	outcome Outcome
	reason  string
}

var holds = verdict{outcome: Holds}

func broken(format string, args ...any) verdict {
	return verdict{Broken, fmt.Sprintf(format, args...)}
}

func notApplicable(format string, args ...any) verdict {
	return verdict{NotApplicable, fmt.Sprintf(format, args...)}
}

// undecided is a verdict for what the kit itself could not do.
func undecided(err error) verdict { return verdict{Undecided, err.Error()} }
