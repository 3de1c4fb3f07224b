//go:build linux

// Command bench measures fastbind beside what it is compared to, in one run, and
// prints ratios: machines differ, and a shared one differs from itself. From the
// repository's root:
//
//	go -C bench run .
//
// Every pair is measured by turns, so that a machine that slows down does so for
// both, and the ratio is that of the medians; the range is that of the quartiles
// of the pairs' ratios. The exit status is 1 if a count does not hold (execs,
// failures, allocations), whatever the times: those are the machine's too.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/bench/internal/echo"
	"github.com/fastbind/fastbind/daemon"
)

// A size is how much is measured.
type size struct {
	pairs  int           // of a row that takes milliseconds a pair
	rounds int           // of one that takes seconds
	idle   time.Duration // that an idle daemon is watched
}

var (
	ordinary = size{pairs: 40, rounds: 3, idle: 60 * time.Second}
	quick    = size{pairs: 4, rounds: 1, idle: time.Second} // shows that it runs
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == daemonArg {
		daemon.Serve(func(_ context.Context, ln net.Listener) error { return echo.Serve(ln) })
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		status = 2
	}
	os.Exit(status)
}

func run(ctx context.Context, args []string, out io.Writer) (status int, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := fs.String("rows", "", "only rows whose name matches the regular `expression`")
	isQuick := fs.Bool("quick", false, "few pairs: shows that everything runs, not how fast")
	long := fs.Bool("long", false, "also the rows that take minutes: builds of the standard library")
	list := fs.Bool("list", false, "print the rows' names and targets and measure nothing")
	jsonTo := fs.String("json", "", "also write the results to `file`")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 2, nil // it has said why
	}
	if fs.NArg() > 0 {
		return 2, fmt.Errorf("bench takes no arguments, only flags: %q", fs.Arg(0))
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return 2, err
	}
	s := ordinary
	if *isQuick {
		s = quick
	}
	rows := chosen(match, *long)
	if len(rows) == 0 {
		return 2, fmt.Errorf("no row matches %q; -list prints them, -long -list all", *only)
	}
	if *list {
		for _, r := range rows {
			fmt.Fprintf(out, "%-56s at most %g\n", r.name, r.target)
		}
		return 0, nil
	}
	results, err := measure(ctx, rows, s, out)
	if err != nil {
		return 2, err
	}
	if *jsonTo != "" {
		b, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return 2, err
		}
		if err := os.WriteFile(*jsonTo, append(b, '\n'), 0o644); err != nil {
			return 2, err
		}
	}
	for _, r := range results {
		if r.Broken != "" {
			fmt.Fprintf(out, "%s: %s\n", r.Row, r.Broken)
			status = 1
		}
	}
	return status, nil
}

func measure(ctx context.Context, rows []row, s size, out io.Writer) (results []result, err error) {
	w, err := newWorld()
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	fmt.Fprintln(os.Stderr, "building …")
	if err := w.build(ctx); err != nil {
		return nil, err
	}
	fmt.Fprintln(out, machine())
	fmt.Fprintf(out, "\n| row | against | ours | theirs | ratio | range | at most | | counts |\n|---|---|---|---|---|---|---|---|---|\n")
	var idle *idler
	for _, r := range rows {
		if r.measure == nil && idle == nil { // runs beside the others
			if idle, err = startIdler(ctx, w); err != nil {
				return results, err
			}
		}
	}
	for _, r := range rows {
		fmt.Fprintf(os.Stderr, "%s …\n", r.name)
		var res result
		var err error
		if r.measure == nil {
			res, err = idle.finish(ctx, w, s)
		} else {
			res, err = r.measure(ctx, w, s)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return results, fmt.Errorf("%s: %w", r.name, err)
		}
		res.Row, res.Against, res.Target = r.name, r.against, r.target
		res.Pass = res.Value <= r.target && res.Broken == ""
		fmt.Fprintln(out, res.line())
		results = append(results, res)
	}
	fmt.Fprintf(out, "\nin %s\n", show(time.Since(began)))
	return results, nil
}

func (r result) line() string {
	value, spread := fmt.Sprintf("%.2f", r.Value), ""
	if r.Unit != "" {
		value = fmt.Sprintf("%.3g %s", r.Value, r.Unit)
	}
	if r.High > 0 {
		spread = fmt.Sprintf("%.2f–%.2f", r.Low, r.High)
	}
	verdict := "miss"
	if r.Pass {
		verdict = "pass"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %g | %s | %s |",
		r.Row, r.Against, r.Ours, r.Theirs, value, spread, r.Target, verdict, r.Counts)
}

// machine says where the figures are from.
func machine() string {
	var u syscall.Utsname
	release := "unknown kernel"
	if syscall.Uname(&u) == nil {
		var b []byte
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			b = append(b, byte(c))
		}
		release = "Linux " + string(b)
	}
	load := "?"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(b), " ")
	}
	return fmt.Sprintf("%s %s, %d processors, %s, load %s", release, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load)
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
