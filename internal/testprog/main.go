//go:build unix

// Command testprog is the tool and the daemon of the end-to-end tests: one
// program that dials a service and is its daemon, as a real tool would be, with
// ways to misbehave. Tests build it without the race detector, because crowds
// of processes are what they are about.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
	"github.com/fastbind/fastbind/internal/launch"
)

// behaviour is how the daemon misbehaves; it travels in its arguments.
var behaviour struct {
	load     time.Duration
	fail     string // the method that returns an error
	panics   string // the method that panics
	exit     string // the method that exits with status 7
	early    bool   // Serve returns nil at once
	forget   bool   // main forgets daemon.Run and dials instead
	hang     bool   // main never adopts
	bindLate time.Duration
	runLate  time.Duration
	byHand   bool
	later    bool
	serial   bool   // Serve takes one connection after the other
	aside    bool   // Bind binds another path and leaves a link to it
	child    string // write what a child process sees into this file
}

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	b := &behaviour
	fs.DurationVar(&b.load, "load", 0, "time to load")
	fs.StringVar(&b.fail, "fail", "", "method that fails")
	fs.StringVar(&b.panics, "panic", "", "method that panics")
	fs.StringVar(&b.exit, "exit", "", "method that exits")
	fs.BoolVar(&b.early, "early", false, "Serve returns at once")
	fs.BoolVar(&b.forget, "forget", false, "forget daemon.Run")
	fs.BoolVar(&b.hang, "hang", false, "never adopt")
	fs.DurationVar(&b.bindLate, "bind-late", 0, "time before Bind binds")
	fs.DurationVar(&b.runLate, "run-late", 0, "time before main calls Run")
	fs.BoolVar(&b.byHand, "by-hand", false, "started by hand")
	fs.BoolVar(&b.later, "later", false, "serve while loading")
	fs.BoolVar(&b.serial, "serial", false, "one connection after the other")
	fs.BoolVar(&b.aside, "aside", false, "bind another path")
	fs.StringVar(&b.child, "child", "", "file for what a child sees")
	name := fs.String("name", "t", "service")
	bind := fs.String("bind", "", "bind policy")
	env := fs.String("env", "", "environment contract, comma separated")
	envPolicy := fs.String("env-policy", "", "environment policy")
	adopt := fs.Duration("adopt", 0, "adopt budget")
	hangAfter := fs.Duration("hang-after", 0, "silence after which the daemon is asked whether it lives")
	onHang := fs.String("on-hang", "", "hang policy")
	bound := fs.Duration("bound", 0, "bound budget")
	gate := fs.Bool("gate", false, "wait for the end of stdin before dialling")
	count := fs.Int("n", 1, "how many dials at once")
	requests := fs.Int("requests", 1, "requests on each connection")
	timeout := fs.Duration("timeout", time.Minute, "deadline of a dial")
	ready := fs.Bool("ready", false, "wait for ready")
	step := fs.Int("kill-at", -1, "kill this launcher before a step")
	retry := fs.Bool("retry", false, "dial again after a typed failure of a killed daemon")
	onVersion := fs.String("on-version", "", "version policy")
	version := fs.String("version", "", "version of the service")
	want := fs.String("want", "", "version that this dial wants")
	allow := fs.String("min-version", "", "lowest version")
	seconds := fs.Duration("for", 10*time.Second, "how long to go on")
	idle := fs.Duration("idle", 0, "idle exit")
	leaseDir := fs.String("lease-dir", "", "directory that the daemon's life is tied to")
	leasePID := fs.Int("lease-pid", 0, "process that the daemon's life is tied to")
	leaseConn := fs.Bool("lease-conn", false, "tie the daemon's life to the connection")
	foreign := fs.String("foreign", "", "a foreign daemon's program that serves instead")
	endpoints := fs.String("endpoints", "", "names of its further endpoints, comma separated")
	linger := fs.Bool("linger", false, "stay after the dials until the end of stdin")
	_ = fs.Parse(os.Args[2:])

	svc := fastbind.Service{
		Name: *name, Args: daemonArgs(), Bind: fastbind.Bind(*bind), EnvPolicy: fastbind.EnvPolicy(*envPolicy),
		AdoptWithin: *adopt, BoundWithin: *bound, IdleExit: *idle, HangAfter: *hangAfter, OnHang: fastbind.HangPolicy(*onHang),
		OnVersion: fastbind.VersionPolicy(*onVersion), Version: *version, MinVersion: *allow,
		Env: []string{"TESTPROG_EXECS"},
	}
	if *env != "" {
		svc.Env = append(svc.Env, strings.Split(*env, ",")...)
	}
	if *foreign != "" {
		svc.Args, svc.Command, svc.Foreign = nil, []string{*foreign, "-pid"}, true
		svc.Endpoints = strings.FieldsFunc(*endpoints, func(r rune) bool { return r == ',' })
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if *ready {
		options = append(options, fastbind.WaitReady(nil))
	}
	if *want != "" {
		options = append(options, fastbind.WithWant(*want))
	}
	if *leaseDir != "" {
		options = append(options, fastbind.WithLease(fastbind.DirectoryLease(*leaseDir)))
	}
	if *leasePID != 0 {
		options = append(options, fastbind.WithLease(fastbind.ProcessLease(*leasePID)))
	}
	if *leaseConn {
		options = append(options, fastbind.WithLease(fastbind.ConnectionLease()))
	}
	switch os.Args[1] {
	case "daemon":
		serve(ctx, svc)
	case "dial":
		if *step >= 0 {
			killAt(launch.Step(*step))
		}
		if *gate {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
		os.Exit(dialMany(ctx, svc, *count, *requests, *retry, *linger))
	case "restart":
		if err := svc.Restart(ctx); err != nil {
			fmt.Println("fail", describe(err))
			os.Exit(1)
		}
	case "again":
		os.Exit(again(svc, *seconds))
	case "cycles":
		os.Exit(cycles(svc, *count))
	case "start":
		if *step >= 0 {
			killAt(launch.Step(*step))
		}
		ep, err := svc.Start(ctx)
		if err != nil {
			fmt.Println("fail", describe(err))
			os.Exit(1)
		}
		fmt.Println("ok", ep)
	case "loop":
		loop(svc)
	case "hold":
		conn, err := fastbind.Dial(ctx, svc, options...)
		if err != nil {
			fmt.Println("fail", describe(err))
			os.Exit(1)
		}
		fmt.Println("holding")
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = conn.Close()
	case "status":
		st, err := svc.Status(ctx)
		fmt.Printf("%s %d %d %v\n", st.Phase, st.Generation, st.PID, err)
	case "stop":
		if err := svc.Stop(ctx); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// killAt makes this launcher end itself before it does a step.
func killAt(step launch.Step) {
	launch.OnStep = func(s launch.Step) {
		if s == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// daemonArgs are the arguments of a daemon that behaves as this client was told.
func daemonArgs() []string {
	args := []string{"daemon"}
	for _, f := range os.Args[2:] {
		for _, pass := range []string{"-load", "-fail", "-panic", "-exit", "-early", "-forget", "-hang", "-bind-late", "-run-late", "-later", "-aside", "-serial", "-child", "-name"} {
			if f == pass || strings.HasPrefix(f, pass+"=") {
				args = append(args, f)
			}
		}
	}
	return args
}

// dialMany dials n times at once and prints a line for each: "ok REPLY" or
// "fail ERROR".
func dialMany(ctx context.Context, svc fastbind.Service, n, requests int, retry, linger bool) int {
	var wg sync.WaitGroup
	lines := make(chan string, n)
	for range n {
		wg.Go(func() {
			reply, err := request(ctx, svc, requests)
			// A killed process closes its descriptors one by one: its listener
			// may still accept when its first connection is reset.
			for retry && errors.Is(err, fastbind.ErrLaunchFailed) && ctx.Err() == nil {
				reply, err = request(ctx, svc, requests)
			}
			if err != nil {
				lines <- "fail " + describe(err)
				return
			}
			lines <- "ok " + reply
		})
	}
	wg.Wait()
	close(lines)
	status := 0
	for l := range lines {
		if strings.HasPrefix(l, "fail") {
			status = 1
		}
		fmt.Println(l)
	}
	if n > 1 {
		tasks, _ := os.ReadDir("/proc/self/task")
		fmt.Println("threads", len(tasks))
	}
	if linger {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	return status
}

// describe prints what a test looks at of a typed error.
func describe(err error) string {
	var fe *fastbind.Error
	if !errors.As(err, &fe) {
		return fmt.Sprintf("untyped %q", err)
	}
	var errno syscall.Errno
	_ = errors.As(err, &errno)
	return fmt.Sprintf("typed generation=%d stage=%s status=%d signal=%q unknown=%t errno=%d launch=%t refused=%t deadline=%t already=%t retry=%t hung=%t log=%t tail=%d %q",
		fe.Generation, fe.Stage, fe.ExitStatus, fe.Signal, fe.Unknown, int(errno), errors.Is(err, fastbind.ErrLaunchFailed),
		errors.Is(err, fastbind.ErrRefused), errors.Is(err, context.DeadlineExceeded), errors.Is(err, fastbind.ErrAlreadyBound),
		!fe.RetryAt.IsZero(), errors.Is(err, fastbind.ErrHung), fe.Log != "", len(fe.LogTail), err)
}

// options are those of every dial, as the flags say.
var options []fastbind.Option

// request dials and does requests on the connection.
func request(ctx context.Context, svc fastbind.Service, requests int) (string, error) {
	conn, err := fastbind.Dial(ctx, svc, options...)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	r := bufio.NewReader(conn)
	var reply string
	for i := range requests {
		if _, err := fmt.Fprintf(conn, "%d\n", i); err != nil && i > 0 {
			return "", err
		}
		if reply, err = r.ReadString('\n'); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(reply), nil
}

// cycles dials n times, with pauses around the daemon's idle exit, so that some
// meet it alive, some gone and some in between, and checks that every request is
// answered and that no answer is of an older generation than one before.
func cycles(svc fastbind.Service, n int) int {
	exits, last := 0, 0
	for i := range n {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		reply, err := request(ctx, svc, 1)
		cancel()
		if err != nil {
			fmt.Println("fail", i, describe(err))
			return 1
		}
		generation, err := strconv.Atoi(strings.Fields(reply)[1])
		if err != nil || generation < last {
			fmt.Printf("fail %d: %q after generation %d\n", i, reply, last)
			return 1
		}
		if generation > last {
			exits, last = exits+1, generation
		}
		time.Sleep(rand.N(2 * svc.IdleExit))
	}
	fmt.Println("ok", n, exits)
	return 0
}

// again dials and asks without pause for a time, and prints how often each build
// has answered.
func again(svc fastbind.Service, within time.Duration) int {
	answers := map[string]int{}
	n := 0
	for end := time.Now().Add(within); time.Now().Before(end); n++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		reply, err := request(ctx, svc, 3)
		cancel()
		if err != nil {
			fmt.Println("fail", n, describe(err))
			return 1
		}
		answers[strings.Fields(reply)[3]]++
	}
	fmt.Println("ok", n, answers)
	return 0
}

// build is what was appended to this executable, as an upgrade would change it:
// "build:" and eight bytes at its end.
var build = sync.OnceValue(func() string {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return "none"
	}
	defer f.Close()
	tail := make([]byte, 14)
	if fi, err := f.Stat(); err == nil {
		_, _ = f.ReadAt(tail, fi.Size()-int64(len(tail)))
	}
	if b, ok := strings.CutPrefix(string(tail), "build:"); ok {
		return b
	}
	return "none"
})

// loop does requests on one connection until stdin ends, then prints how many.
func loop(svc fastbind.Service) {
	conn, err := fastbind.Dial(context.Background(), svc)
	if err != nil {
		fmt.Println("fail", err)
		os.Exit(1)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	r := bufio.NewReader(conn)
	for n := 0; ; n++ {
		select {
		case <-stop:
			fmt.Println("ok", n)
			return
		default:
		}
		_, werr := fmt.Fprintf(conn, "%d\n", n)
		if _, err := r.ReadString('\n'); err != nil || werr != nil {
			fmt.Println("fail", n, werr, err)
			os.Exit(1)
		}
		if n == 0 {
			fmt.Println("looping")
		}
	}
}

// serve is the daemon's main.
//
//fastbindvet:ignore beforerun tests count its executions and append to its file
func serve(ctx context.Context, svc fastbind.Service) {
	_ = build() // whatever is at the path later
	if path := os.Getenv("TESTPROG_EXECS"); path != "" {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, os.Getpid())
			_ = f.Close()
		}
	}
	b := behaviour
	time.Sleep(b.runLate)
	switch {
	case b.forget:
		// A tool whose main forgot Run comes here as a client.
		_, err := fastbind.Dial(ctx, svc)
		fmt.Fprintln(os.Stderr, "forgetful:", err)
		os.Exit(9)
	case b.hang:
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGUSR1)
		<-c
	case b.byHand:
		daemon.Run[backend](daemon.For(svc))
	}
	daemon.Run[backend]()
}

type backend struct{}

// misbehave does what the daemon was told to in a method.
func misbehave(method string) error {
	b := behaviour
	if b.panics == method {
		panic("told to panic in " + method + "\nsecond line")
	}
	if b.exit == method {
		fmt.Fprintln(os.Stderr, "told to exit in", method)
		os.Exit(7)
	}
	switch b.fail {
	case method:
		return errors.New("told to fail in " + method)
	case method + "-errno":
		return syscall.EADDRINUSE
	}
	return nil
}

// Bind misbehaves if the daemon was told to.
//
//fastbindvet:ignore bind that it does more than to bind is what tests are about
func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	time.Sleep(behaviour.bindLate)
	if err := misbehave("bind"); err != nil {
		return nil, err
	}
	if behaviour.aside {
		path := ep.Path() + "." + strconv.Itoa(os.Getpid())
		if err := os.Symlink(path, ep.Path()); err != nil {
			return nil, err
		}
		return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	}
	return daemon.Listen(ep)
}

type state struct{ inst *daemon.Instance }

func (backend) Load(ctx context.Context, inst *daemon.Instance) (*state, error) {
	fmt.Fprintln(os.Stderr, "loading")
	if err := misbehave("load"); err != nil {
		return nil, err
	}
	if behaviour.later {
		inst.ReadyLater()
		go func() {
			if loading(ctx, inst) == nil {
				inst.Ready()
			}
		}()
		return &state{inst}, nil
	}
	return &state{inst}, loading(ctx, inst)
}

func loading(ctx context.Context, inst *daemon.Instance) error {
	const parts = 100
	for i := range parts {
		if behaviour.load == 0 {
			break
		}
		inst.Progress("loading index", float64(i)/parts)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(behaviour.load / parts):
		}
	}
	return nil
}

func (backend) Serve(ctx context.Context, ln net.Listener, s *state) error {
	if err := misbehave("serve"); err != nil || behaviour.early {
		return err
	}
	if behaviour.child != "" {
		cmd := exec.Command("/bin/sh", "-c", "env; ls -l /proc/self/fd; grep Sig /proc/self/status")
		out, _ := cmd.CombinedOutput()
		_ = os.WriteFile(behaviour.child, out, 0o600)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		serve := func() {
			defer conn.Close()
			answer(ctx, conn, s)
		}
		if behaviour.serial {
			serve()
			continue
		}
		wg.Go(serve)
	}
}

// answer replies to each line with the process, the generation and the line: after
// N milliseconds to a line "-N", never to a line "hangup", and a line "wedge" makes
// the whole process stand still without being stopped.
func answer(ctx context.Context, conn net.Conn, s *state) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		if line == "chatter" {
			// Three times the bound of a log, in numbered lines.
			for i := range 40_000 {
				fmt.Fprintf(os.Stderr, "chatter %06d %s\n", i, strings.Repeat("x", 64))
			}
		}
		if line == "wedge" {
			wedge()
		}
		if line == "hangup" {
			cctx := daemon.ConnContext(ctx, conn)
			<-cctx.Done()
			fmt.Fprintln(os.Stderr, "hung up", cctx.Err(), ctx.Err())
			return
		}
		if n, err := strconv.Atoi(line); err == nil && n < 0 {
			time.Sleep(time.Duration(-n) * time.Millisecond)
		}
		if _, err := fmt.Fprintln(conn, os.Getpid(), s.inst.Generation(), line, build()); err != nil {
			return
		}
	}
}
