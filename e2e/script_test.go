//go:build linux || darwin || freebsd

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
	"github.com/fastbind/fastbind/internal/cli"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestMain makes this test binary the command and the SDK's daemon as well.
// cleaning removes what build built when the tests have run.
type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	defer func() {
		if built != "" {
			_ = os.RemoveAll(built)
		}
	}()
	return c.m.Run()
}

func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, map[string]func(){
		"fastbind": func() {
			os.Exit(cli.Main(os.Args[1:], os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"echod":    func() { daemon.Run[echod](daemon.Version("echod-1")) },
		"echotool": echotool,
	})
}

// echod is an echo daemon made with the SDK. Its environment says how it loads:
// ECHOD_LOAD is how long, ECHOD_FAIL makes it fail or panic.
type echod struct{}

func (echod) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (echod) Load(ctx context.Context, inst *daemon.Instance) (struct{}, error) {
	switch os.Getenv("ECHOD_FAIL") {
	case "":
	case "panic":
		panic("the index is broken")
	default:
		fmt.Println("echod: about to fail\x1b[31m")
		return struct{}{}, &os.PathError{Op: "open", Path: "/index", Err: syscall.EIO}
	}
	inst.Progress("loading index", 0.25)
	load, _ := time.ParseDuration(os.Getenv("ECHOD_LOAD"))
	select {
	case <-time.After(load):
	case <-ctx.Done():
	}
	return struct{}{}, nil
}

func (echod) Serve(_ context.Context, ln net.Listener, _ struct{}) error {
	fmt.Println("echod: serving")
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// echotool is a tool with a daemon of its own, made with the SDK: it sends its
// arguments to the service echotool and prints the answer.
func echotool() {
	if len(os.Args) > 1 && os.Args[1] == "daemon" {
		daemon.Run[echod](daemon.Version("echotool-1"))
	}
	conn, err := fastbind.Dial(context.Background(), fastbind.Service{Name: "echotool", Args: []string{"daemon"}})
	if err == nil {
		_, err = fmt.Fprintln(conn, strings.Join(os.Args[1:], " "))
		_ = conn.CloseWrite()
	}
	if err == nil {
		_, err = io.Copy(os.Stdout, conn)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// plaind is the directory with the foreign daemon, and with the command as it
// is shipped. The SDK clears the variables of the handover in every program
// that links it, this test binary included, so a daemon that knows nothing of
// it must be another program.
var plaind = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fastbind-plaind-")
	if err != nil {
		return "", err
	}
	for _, pkg := range []string{"./testdata/plaind", "../cmd/fastbind"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "built-"+filepath.Base(pkg)), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", errors.New(string(out))
		}
	}
	return dir, os.Rename(dir+"/built-plaind", dir+"/plaind")
})

// TestScripts runs the command's executable manual: one script for each verb,
// and for each exit status.
func TestScripts(t *testing.T) {
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setupScript(env, bin) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit":           cmdExit,
			"member":         cmdMember,
			"plainly":        cmdPlainly,
			"waitphase":      cmdWaitPhase,
			"waitheld":       cmdWaitHeld,
			"waitgeneration": cmdWaitGeneration,
			"kill9":          func(ts *testscript.TestScript, _ bool, args []string) { signalService(ts, args, syscall.SIGKILL) },
			"freeze":         func(ts *testscript.TestScript, _ bool, args []string) { signalService(ts, args, syscall.SIGSTOP) },
			"thaw":           func(ts *testscript.TestScript, _ bool, args []string) { signalService(ts, args, syscall.SIGCONT) },
			"interrupt":      cmdInterrupt,
			"follow":         cmdFollow,
			"watch":          cmdWatch,
		},
	})
}

// setupScript gives a script a world of its own, with a short name because
// socket addresses are short, and ends whatever the script started.
func setupScript(env *testscript.Env, bin string) error {
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		return err
	}
	env.Setenv("FASTBIND_RUNTIME_DIR", dir+"/run")
	env.Setenv("FASTBIND_STATE_DIR", dir+"/state")
	env.Setenv("FASTBIND_CONFIG_DIR", filepath.Join(env.WorkDir, "config"))
	env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
	env.Setenv("BIN", bin)
	env.Setenv("TERM", "xterm")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else the race detector makes each command last a second
	get := env.Getenv
	env.Defer(func() {
		dirs := scriptDirs(get)
		for _, f := range launch.Services(dirs) {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			b := launch.Of(dirs, f, os.Environ)
			if b.Def.StopWithin > time.Second {
				b.Def.StopWithin = time.Second
			}
			_, _ = b.Stop(ctx)
			cancel()
		}
		_ = os.RemoveAll(dir)
	})
	return nil
}

func scriptDirs(get func(string) string) runtimedir.Env {
	return runtimedir.FromEnviron(get, os.Geteuid(), func() string { return "" })
}

// inspect looks at a service of the default instance, or at INSTANCE/NAME.
func inspect(ts *testscript.TestScript, name string) (launch.Status, error) {
	instance, service, ok := strings.Cut(name, "/")
	if !ok {
		instance, service = "default", name
	}
	d := definition.Definition{Service: service, Instance: instance}.Complete()
	return launch.NewBroker(scriptDirs(ts.Getenv), d, os.Environ).Inspect(context.Background())
}

// exit N COMMAND… runs the command and wants exit status N.
func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		status = ee.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("exit status %d, want %s", status, args[0])
	}
}

// member PATH [VALUE] wants a member of the JSON object on stdout, such as
// services.0.phase, to be there, and to have the value as JSON or as text.
func cmdMember(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: member path [value]")
	}
	var v any
	out := ts.ReadFile("stdout")
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		ts.Fatalf("stdout is not one JSON value: %v", err)
	}
	for _, key := range strings.Split(args[0], ".") {
		var ok bool
		switch x := v.(type) {
		case map[string]any:
			v, ok = x[key]
		case []any:
			i, err := strconv.Atoi(key)
			if ok = err == nil && i < len(x); ok {
				v = x[i]
			}
		}
		if !ok {
			ts.Fatalf("there is no member %s", args[0])
		}
	}
	if len(args) == 1 {
		return
	}
	text, _ := json.Marshal(v)
	s, isText := v.(string)
	if match := string(text) == args[1] || isText && s == args[1]; match == neg {
		ts.Fatalf("member %s is %s", args[0], text)
	}
}

// plainly PATH LINE REPLY is a client that knows nothing of fastbind.
func cmdPlainly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: plainly path line reply")
	}
	conn, err := net.Dial("unix", args[0])
	ts.Check(err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	_, err = fmt.Fprintln(conn, args[1])
	ts.Check(err)
	reply, err := bufio.NewReader(conn).ReadString('\n')
	ts.Check(err)
	if reply != args[2]+"\n" {
		ts.Fatalf("it answers %q", reply)
	}
}

// waitphase NAME PHASE… waits until the service is in one of the phases.
func cmdWaitPhase(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: waitphase name phase...")
	}
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		s, err := inspect(ts, args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		last = string(s.Phase)
		for _, p := range args[1:] {
			if last == p {
				return
			}
		}
	}
	ts.Fatalf("%s is %s", args[0], last)
}

// waitheld NAME waits until a standing broker holds the service, or with ! until none
// does.
func cmdWaitHeld(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] waitheld name")
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if s, err := inspect(ts, args[0]); err == nil && s.Held != neg {
			return
		}
	}
	ts.Fatalf("%s: not held is still %v", args[0], !neg)
}

// waitgeneration NAME N waits until that generation of the service lives.
func cmdWaitGeneration(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: waitgeneration name number")
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		s, err := inspect(ts, args[0])
		if err == nil && s.Alive() && strconv.FormatUint(s.Shown.Number, 10) == args[1] {
			return
		}
	}
	ts.Fatalf("%s has no living generation %s", args[0], args[1])
}

// signalService signals the daemon of a service by handle and waits until the
// signal has done its work: a process that dies or stops still accepts and
// answers for a moment.
func signalService(ts *testscript.TestScript, args []string, sig syscall.Signal) {
	if len(args) != 1 {
		ts.Fatalf("usage: kill9|freeze|thaw name")
	}
	s, err := inspect(ts, args[0])
	ts.Check(err)
	if s.Shown == nil {
		ts.Fatalf("%s has no generation", args[0])
	}
	h, err := s.Shown.Open()
	ts.Check(err)
	defer h.Close()
	ts.Check(h.Signal(sig))
	switch sig {
	case syscall.SIGKILL:
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		ts.Check(h.Wait(ctx))
	case syscall.SIGSTOP:
		for end := time.Now().Add(deadline); !frozen(h.PID()) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}

// frozen reports whether every thread of a process has stopped: they do one by
// one, and until then a daemon may still answer. Without /proc it is believed.
func frozen(pid int) bool {
	threads, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if i := strings.LastIndex(string(b), ") "); err == nil && (i < 0 || b[i+2] != 'T') {
			return false
		}
	}
	return true
}

// interrupt NAME PHASE COMMAND… starts the command, sends it SIGINT once the
// service is in the phase, and wants exit status 130 promptly.
func cmdInterrupt(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: interrupt name phase command...")
	}
	cmd := scriptCommand(ts, args[2:])
	in, err := cmd.StdinPipe() // open, so that a dial has something to wait for
	ts.Check(err)
	defer in.Close()
	ts.Check(cmd.Start())
	cmdWaitPhase(ts, false, args[:2])
	began := time.Now()
	ts.Check(cmd.Process.Signal(os.Interrupt))
	err = cmd.Wait()
	if code := shellStatus(cmd.ProcessState); code != 130 {
		ts.Fatalf("exit status %d, want 130: %v", code, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		ts.Fatalf("it took %v", took)
	}
}

// shellStatus is the exit status that a shell sees: a dial's first moment is one in which
// it catches nothing.
func shellStatus(ps *os.ProcessState) int {
	if status, ok := ps.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return ps.ExitCode()
}

func scriptCommand(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, args[0])); err == nil {
			path = filepath.Join(dir, args[0])
			break
		}
	}
	cmd := exec.Command(path, args[1:]...)
	for _, name := range []string{"FASTBIND_RUNTIME_DIR", "FASTBIND_STATE_DIR", "FASTBIND_CONFIG_DIR", "PATH", "HOME", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// follow NAME REGEXP COMMAND… runs fastbind logs -f NAME, then the command, and
// wants a line that matches to appear; then it interrupts the follower.
func cmdFollow(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: follow name regexp command...")
	}
	followed(ts, []string{"fastbind", "logs", "-f", args[0]}, args[1], args[2:])
}

// cmdWatch runs a command while events -f follows, and fails unless a line of it matches:
// watch regexp command...
func cmdWatch(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: watch regexp command...")
	}
	followed(ts, []string{"fastbind", "events", "-f"}, args[0], args[1:])
}

// followed runs a command while another one follows something, until a line of that one
// matches; then it interrupts it.
func followed(ts *testscript.TestScript, follower []string, pattern string, command []string) {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	cmd := scriptCommand(ts, follower)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	stop := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	ts.Check(ts.Exec(command[0], command[1:]...))
	seen := false
	lines := bufio.NewScanner(out)
	for !seen && lines.Scan() {
		seen = re.MatchString(lines.Text())
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); !seen || code != 130 {
		ts.Fatalf("line seen: %v; exit status %d, want 130", seen, code)
	}
}

// R32, R7: what only looks executes nothing, removes nothing, makes nothing
// and takes no launch lock, in whatever state the services are.
func TestLookingTouchesNothing(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config")
	env := []string{"FASTBIND_RUNTIME_DIR=" + dir + "/run", "FASTBIND_STATE_DIR=" + dir + "/state",
		"FASTBIND_CONFIG_DIR=" + config, "PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	fb := bin + "/built-fastbind"
	run := func(want int, args ...string) {
		t.Helper()
		cmd := exec.Command(fb, args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("%v: exit status %d, want %d: %v: %s", args, got, want, err, out)
		}
	}
	t.Cleanup(func() {
		run(0, "stop", "--all")
		_ = os.RemoveAll(dir)
	})
	if err := os.Mkdir(config, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(config, "filed.toml")
	if err := os.WriteFile(file, []byte("command = [\"/bin/true\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(0, "start", "living", "--", bin+"/plaind")
	run(0, "start", "stopped", "--", bin+"/plaind")
	run(0, "stop", "stopped")
	run(0, "start", "killed", "--", bin+"/plaind")
	killService(t, dir, "killed")

	for _, args := range [][]string{
		{"status"}, {"status", "living", "stopped", "killed", "filed", "unknown"}, {"status", "--json", "killed"},
		{"list"}, {"why", "living"}, {"why", "killed"}, {"why", "filed"},
		{"doctor"}, {"validate", file}, {"version"}, {"logs", "living"}, {"help"}, {"__complete", "stop", ""},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			cmd := exec.Command(strace, append([]string{"-f", "-qq", "-o", trace, "-e", "signal=none", "-e",
				"trace=execve,execveat,unlink,unlinkat,rmdir,rename,renameat,renameat2,link,linkat,symlink,symlinkat," +
					"mkdir,mkdirat,flock,chmod,fchmod,fchmodat,truncate,ftruncate,open,openat,openat2,creat,bind,kill,tkill,pidfd_send_signal",
				fb}, args...)...)
			cmd.Env = env
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(trace)
			if err != nil {
				t.Skipf("strace cannot trace here: %s", out)
			}
			if !strings.Contains(string(b), "execve(") {
				t.Skipf("strace saw nothing: %s", out)
			}
			for i, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
				if i > 0 && touches(l) {
					t.Errorf("fastbind %s did this: %s", strings.Join(args, " "), l)
				}
			}
		})
	}
}

// traced matches a line in which strace shows a call, not its resumption.
var traced = regexp.MustCompile(`^\d+ +(\w+)\(`)

// touches reports whether a line of strace is a change of the system. The Go
// runtime signals its own threads to preempt them.
func touches(l string) bool {
	m := traced.FindStringSubmatch(l)
	switch {
	case m == nil, m[1] == "tgkill", m[1] == "tkill":
		return false
	case m[1] == "flock": // probes of life locks are shared
		return strings.Contains(l, "LOCK_EX")
	case strings.HasPrefix(m[1], "open"):
		return strings.Contains(l, "O_CREAT") || strings.Contains(l, "O_WRONLY") || strings.Contains(l, "O_RDWR")
	}
	return true
}

// killService kills the daemon of a service below dir and waits for its end.
func killService(t *testing.T, dir, name string) {
	t.Helper()
	env := runtimedir.Env{RuntimeDir: dir + "/run", EUID: os.Geteuid()}
	d := definition.Definition{Service: name}.Complete()
	s, err := launch.NewBroker(env, d, os.Environ).Inspect(t.Context())
	if err != nil || s.Shown == nil {
		t.Fatal("no generation to kill: ", err)
	}
	h, err := s.Shown.Open()
	if errors.Is(err, proc.ErrGone) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
