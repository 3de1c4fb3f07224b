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
//
// With -peers it also measures well-known tools with daemons, which peers.sh
// installs, each in a private home and network: rows.go and peers.go say what there
// is. With -json a run can be kept, and charts and docs/PERFORMANCE.md be made of it
// later, with -from.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/bench/internal/echo"
	"github.com/fastbind/fastbind/daemon"
)

// A size is how much is measured.
type size struct {
	pairs  int           // of a row that takes milliseconds a pair
	rounds int           // of one that takes seconds
	idle   time.Duration // that an idle daemon is watched
	// Of the duels with peers, of which each kind is given so much time.
	budget   time.Duration
	packages string // that builds compile
}

var (
	ordinary = size{pairs: 40, rounds: 3, idle: 60 * time.Second, budget: 5 * time.Second, packages: "std"}
	quick    = size{pairs: 4, rounds: 1, idle: time.Second, packages: "strings"} // shows that it runs
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == daemonArg {
		daemon.Serve(func(_ context.Context, ln net.Listener) error { return echo.Serve(ln) })
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := 0, error(nil)
	if len(os.Args) == 4 && os.Args[1] == dialsArg {
		err = dialsFor(ctx, os.Stdout, os.Args[2], os.Args[3])
	} else {
		status, err = run(ctx, os.Args[1:], os.Stdout)
	}
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
	of := fs.String("situations", "", "of the peers only situations that match the `expression`: cold, warm, after kill -9, crowd, go build")
	against := fs.String("peers", "", "also measure these peers, by `names` with commas, or all; peers.sh installs them")
	isQuick := fs.Bool("quick", false, "few pairs: shows that everything runs, not how fast")
	long := fs.Bool("long", false, "also the rows that take minutes: builds of the standard library")
	list := fs.Bool("list", false, "print the rows' names and targets and the peers and measure nothing")
	jsonTo := fs.String("json", "", "also write the results to `file`")
	from := fs.String("from", "", "measure nothing: take the results of earlier runs from JSON `files`, with commas; later ones stand for earlier ones")
	profile := fs.String("cpuprofile", "", "also write a processor profile of this process, the rows in process, to `file`, for go tool pprof")
	chartsTo := fs.String("charts", "", "also draw charts into `directory`, as SVG")
	pageTo := fs.String("md", "", "also write the results as a page, docs/PERFORMANCE.md, to `file`; -charts draws beside it")
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
	entrants, err := chosenPeers(*against)
	if err != nil {
		return 2, err
	}
	onlyIn, err := regexp.Compile(*of)
	if err != nil {
		return 2, err
	}
	p := plan{
		rows: chosen(match, *long, *against != ""), stages: match.MatchString(stagesName), calls: match.MatchString(callsName),
		profiles: chosenProfiles(match, *long), peers: entrants, situations: onlyIn, size: ordinary,
	}
	if *isQuick {
		p.size = quick
	}
	if len(p.rows) == 0 && !p.stages && !p.calls && len(p.profiles) == 0 && len(p.peers) == 0 {
		return 2, fmt.Errorf("no row matches %q; -list prints them, -long -peers all -list all", *only)
	}
	if *list {
		p.list(out)
		return 0, nil
	}
	var r *report
	if *from != "" {
		if r, err = readReports(strings.Split(*from, ",")); err == nil {
			r.print(out)
		}
	} else {
		r, err = p.profiled(ctx, out, *profile)
	}
	if *jsonTo != "" && r != nil { // also of a run that was cut short
		err = errors.Join(err, r.write(*jsonTo))
	}
	if err != nil {
		return 2, err
	}
	if *chartsTo != "" {
		err = errors.Join(err, r.draw(*chartsTo))
	}
	if *pageTo != "" {
		err = errors.Join(err, r.page(*pageTo, *chartsTo))
	}
	if err != nil {
		return 2, err
	}
	if r.broken(out) {
		status = 1
	}
	return status, nil
}

// A plan is what is to be measured.
type plan struct {
	rows       []row
	stages     bool
	calls      bool
	profiles   []profile
	peers      []peer
	situations *regexp.Regexp
	size       size
}

func (p plan) list(out io.Writer) {
	for _, r := range p.rows {
		fmt.Fprintf(out, "%-56s %-40s at most %g\n", r.name, r.against, r.target)
	}
	if p.stages {
		fmt.Fprintln(out, stagesName)
	}
	if p.calls {
		fmt.Fprintln(out, callsName)
	}
	for _, p := range p.profiles {
		fmt.Fprintln(out, p.name)
	}
	for _, p := range p.peers {
		fmt.Fprintf(out, "peer %-24s %s\n", p.name, p.what)
	}
}

// profiled measures, and writes a profile if it has a name.
func (p plan) profiled(ctx context.Context, out io.Writer, name string) (r *report, err error) {
	if name == "" {
		return p.measure(ctx, out)
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	defer pprof.StopCPUProfile()
	return p.measure(ctx, out)
}

// measure does it all in a world of its own, and prints each result when it is
// there.
func (p plan) measure(ctx context.Context, out io.Writer) (r *report, err error) {
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
	r = &report{Format: format, Runs: []runInfo{{Began: began.UTC().Round(time.Second), Machine: machine()}}}
	if p.size == quick {
		r.Runs[0].Machine += ", a quick run"
	}
	fmt.Fprintln(out, r.Runs[0].Machine)
	for _, part := range []func(context.Context, *world, io.Writer, *report) error{p.measureRows, p.measureStages, p.measureCalls, p.measureProfiles, p.measurePeers} {
		if err := part(ctx, w, out, r); err != nil {
			return r, err
		}
	}
	r.Runs[0].Took = time.Since(began)
	fmt.Fprintf(out, "\nin %s\n", show(r.Runs[0].Took))
	return r, nil
}

func (p plan) measureRows(ctx context.Context, w *world, out io.Writer, r *report) (err error) {
	if len(p.rows) == 0 {
		return nil
	}
	fmt.Fprint(out, "\n", rowsHead)
	var idlers *idler
	if slices.ContainsFunc(p.rows, func(r row) bool { return r.idle != nil }) { // run beside the others
		if idlers, err = startIdler(ctx, w); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, idlers.end(ctx, w)) }()
	}
	for _, row := range p.rows {
		if row.best {
			continue // measurePeers has it
		}
		fmt.Fprintf(os.Stderr, "%s …\n", row.name)
		measure := row.measure
		if row.idle != nil {
			measure = func(_ context.Context, _ *world, s size) (result, error) { return idlers.finish(row.idle(idlers), s) }
		}
		res, err := measure(ctx, w, p.size)
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Fprintf(os.Stderr, "not measured: %v\n", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		r.Rows = append(r.Rows, row.judge(res))
		fmt.Fprintln(out, r.Rows[len(r.Rows)-1].line())
	}
	return nil
}

func (p plan) measurePeers(ctx context.Context, w *world, out io.Writer, r *report) error {
	if len(p.peers) == 0 {
		return nil
	}
	tools, err := peersDir()
	if err != nil {
		return err
	}
	n, nerr := newNetwork()
	if nerr == nil {
		defer n.close()
	}
	fmt.Fprint(out, "\n", peersHead)
	for _, peer := range p.peers {
		fmt.Fprintf(os.Stderr, "%s …\n", peer.name)
		res := peerResult{Peer: peer.name, What: peer.what, Own: peer.own, Why: peer.why, Missing: peer.missing(tools, n, nerr)}
		if res.Missing == "" {
			res.Contests, res.Version, err = meet(ctx, w, p.size, peer, p.situations, tools, n)
			if err := ctx.Err(); err != nil {
				return err
			}
			if err != nil { // the others have done nothing
				res.Missing = err.Error()
			}
		}
		fmt.Fprint(out, res.lines())
		r.Peers = append(r.Peers, res)
	}
	if res, ok := r.best(); ok && slices.ContainsFunc(p.rows, row.ofPeers) {
		r.Rows = append(r.Rows, res)
		fmt.Fprint(out, "\n", rowsHead, res.line(), "\n")
	}
	return nil
}

// print prints a report of an earlier run.
func (r *report) print(out io.Writer) {
	for _, run := range r.Runs {
		fmt.Fprintf(out, "%s, in %s\n", run.Machine, show(run.Took))
	}
	if len(r.Rows) > 0 {
		fmt.Fprint(out, "\n", rowsHead)
	}
	for _, row := range r.Rows {
		fmt.Fprintln(out, row.line())
	}
	if len(r.Stages) > 0 {
		fmt.Fprint(out, "\n", stagesTable(r.Stages))
	}
	if len(r.Calls) > 0 {
		fmt.Fprint(out, "\n", callsHead)
	}
	for _, c := range r.Calls {
		fmt.Fprintln(out, c.line())
	}
	for _, p := range profiles {
		if table := r.ProfileOf(p.name); table != "" {
			fmt.Fprint(out, "\n", table)
		}
	}
	if len(r.Peers) > 0 {
		fmt.Fprint(out, "\n", peersHead)
	}
	for _, p := range r.Peers {
		fmt.Fprint(out, p.lines())
	}
}

// machine says where the figures are from, without saying which one it is.
func machine() string {
	var u syscall.Utsname
	release := "unknown kernel"
	if syscall.Uname(&u) == nil {
		var b []byte
		for _, c := range u.Release {
			if c != '.' && (c < '0' || c > '9') {
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
	realTime := ""
	if policy, _, errno := syscall.Syscall(syscall.SYS_SCHED_GETSCHEDULER, 0, 0, 0); errno == 0 && (policy == unix.SCHED_FIFO || policy == unix.SCHED_RR) {
		realTime = ", at real-time priority"
	}
	return fmt.Sprintf("%s %s, %d processors, %s, load %s%s", release, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load, realTime)
}

func plural(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
