package e2e

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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/cli"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/reexec"
)

// commandHelper is the fastbind command.
var commandHelper = reexec.Helper("command", func(args []string) { os.Exit(command(args)) })

func command(args []string) (status int) {
	return cli.Main(args, os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// brokerWorld is a world with a directory of definition files, in which brokers are.
func brokerWorld(t *testing.T) {
	t.Helper()
	world(t)
	dir := filepath.Join(t.TempDir(), "config")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FASTBIND_CONFIG_DIR", dir)
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range [][]string{{"why", "telling"}, {"logs", "telling"}} {
				out, _ := fastbindCommand(t, args...)
				t.Logf("%q: %s", args, out)
			}
		}
		if out, status := fastbindCommand(t, "stop", "--all"); status != 0 { // what runs has files open
			t.Errorf("stop --all: exit status %d: %s", status, out)
		}
	})
}

// define writes the file of the service whose daemon is the helper.
func define(t *testing.T, lines ...string) {
	t.Helper()
	defineAs(t, "telling", lines...)
}

func defineAs(t *testing.T, name string, lines ...string) {
	t.Helper()
	daemonIsUsed()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := "command = ['" + exe + "']\nforeign = false\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(os.Getenv("FASTBIND_CONFIG_DIR"), name+".toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// env is a definition's, with which the test's executable is the daemon.
func env(more ...string) string {
	return "env = ['" + strings.Join(append([]string{"REEXEC_HELPER=" + daemonHelper}, more...), "', '") + "']"
}

// fastbindCommand runs the command and returns its output and exit status.
func fastbindCommand(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	cmd := reexec.Command(t, commandHelper, args...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return both.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return both.String(), 0
}

// mustRun is fastbindCommand that succeeds.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, status := fastbindCommand(t, args...)
	if status != 0 {
		t.Fatalf("%q: exit status %d: %s", args, status, out)
	}
	return out
}

// A standingBroker is a broker that runs in the foreground.
type standingBroker struct {
	cmd   *exec.Cmd
	lines chan string
	ended chan error
}

// startBroker returns a broker that holds what it is to hold.
func startBroker(t *testing.T) *standingBroker {
	t.Helper()
	b := &standingBroker{cmd: reexec.Command(t, commandHelper, "broker"), lines: make(chan string, 100), ended: make(chan error, 1)}
	b.cmd.Stderr = nil
	out, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for r := bufio.NewScanner(out); r.Scan(); {
			fmt.Fprintln(os.Stderr, "broker:", r.Text())
			select {
			case b.lines <- r.Text():
			default:
			}
		}
		b.ended <- b.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.ended
	})
	b.says(t, "holding ")
	// One that is killed before it is ready has failed to start.
	awaitPhase(t, fastbind.Service{Name: "fastbind-broker"}, fastbind.Ready)
	return b
}

// says waits for a line of the broker's.
func (b *standingBroker) says(t *testing.T, text string) {
	t.Helper()
	late := time.After(deadline)
	for {
		select {
		case line := <-b.lines:
			if strings.Contains(line, text) {
				return
			}
		case err := <-b.ended:
			b.ended <- err
			t.Fatalf("the broker has ended: %v", err)
		case <-late:
			t.Fatalf("the broker does not say %q", text)
		}
	}
}

// kill ends the broker as TerminateProcess does.
func (b *standingBroker) kill(t *testing.T) {
	t.Helper()
	kill9(t, b.cmd.Process.Pid)
	err := <-b.ended
	b.ended <- err
}

// pipeName is the service's endpoint.
func pipeName(t *testing.T) string {
	t.Helper()
	ep, err := fastbind.Service{Name: "telling"}.Endpoint()
	if err != nil {
		t.Fatal(err)
	}
	return ep.Path()
}

// plain is the life of a client that knows nothing of fastbind: it waits only for a pipe
// that is busy, as any client of a pipe does.
func plain(name string) (a answer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c, err := pipe.Dial(ctx, name)
	if err != nil {
		return a, err
	}
	defer c.Close()
	return ask(c, bufio.NewReader(c))
}

func mustPlain(t *testing.T, name string) answer {
	t.Helper()
	a, err := plain(name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestBroker: it is the only one, holds what is defined and launches it for the first
// client, whoever that is; stop, restart and what is to be seen go through it.
func TestBroker(t *testing.T) {
	brokerWorld(t)
	define(t, env())
	b := startBroker(t)
	out, status := fastbindCommand(t, "broker")
	if status != 9 || !strings.Contains(out, fmt.Sprint("pid ", b.cmd.Process.Pid)) {
		t.Errorf("a second broker: exit status %d: %s", status, out)
	}
	if out, status := fastbindCommand(t, "status", "telling"); status != 3 || !strings.Contains(out, "\tbound\t") {
		t.Errorf("status of what is held and does not run: exit status %d: %s", status, out)
	}
	name := pipeName(t)
	first := mustPlain(t, name)
	if again := mustPlain(t, name); again != first {
		t.Errorf("answered by %+v, then by %+v", first, again)
	}
	if a := mustAsk(t, service(t)); a != first {
		t.Errorf("a client with the SDK was answered by %+v, another by %+v", a, first)
	}
	mustRun(t, "restart", "telling")
	second := mustPlain(t, name)
	if second.generation == first.generation || !isDead(first.pid) {
		t.Errorf("restarted: %+v after %+v", second, first)
	}
	mustRun(t, "stop", "telling")
	if !isDead(second.pid) {
		t.Error("it is stopped and lives")
	}
	third := mustPlain(t, name)
	if third.generation == second.generation {
		t.Errorf("stopped: %+v after %+v", third, second)
	}
	if out := mustRun(t, "metrics"); !strings.Contains(out, `fastbind_service_launches_total{instance="default",service="telling"} 3`) {
		t.Errorf("metrics: %s", out)
	}
	mustRun(t, "stop", "fastbind-broker")
	if a := mustPlain(t, name); a != third {
		t.Errorf("after the broker: %+v, before %+v", a, third)
	}
}

// TestBrokerDaemonKilled: under request loops of clients that know nothing of fastbind the
// daemon is terminated again and again. Nobody is refused; who is cut off was taken by a
// daemon that was killed; who has queued is served.
func TestBrokerDaemonKilled(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "backoff_min = \"10ms\"", "backoff_max = \"10ms\"")
	startBroker(t)
	name := pipeName(t)
	mustPlain(t, name)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served, cut atomic.Int64
	var pid atomic.Int64
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := plain(name)
				switch {
				case err == nil:
					served.Add(1)
					pid.Store(int64(a.pid))
				case errors.Is(err, io.EOF), isCut(err):
					cut.Add(1)
				default:
					t.Errorf("refused: %v", err)
					return
				}
			}
		})
	}
	const kills = 10
	for range kills {
		before := served.Load()
		for end := time.Now().Add(deadline); served.Load() < before+20; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) || t.Failed() {
				t.Error("nobody is served")
				cancel()
				wg.Wait()
				return
			}
		}
		kill9(t, int(pid.Load()))
	}
	cancel()
	wg.Wait()
	t.Logf("%d served, %d cut off by %d kills", served.Load(), cut.Load(), kills)
	if cut.Load() > kills*8 {
		t.Errorf("%d were cut off by %d kills under 8 loops", cut.Load(), kills)
	}
}

// TestBrokerQueue: who has queued when the daemon is terminated, while it loads or having
// taken others, is served by the next one. Whom it had taken sees the end.
func TestBrokerQueue(t *testing.T) {
	for _, takes := range []int{0, 3} {
		t.Run(strconv.Itoa(takes)+" taken", func(t *testing.T) {
			brokerWorld(t)
			how := "TAKES=" + strconv.Itoa(takes)
			if takes == 0 {
				how = "LOAD=1s"
			}
			define(t, env(how), "backoff_min = \"10ms\"")
			startBroker(t)
			name := pipeName(t)
			const clients = 12
			answers, ends := make(chan answer, clients), make(chan error, clients)
			first := make(chan answer, takes)
			for i := range clients {
				c, err := pipe.Dial(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				go func() {
					r := bufio.NewReader(c)
					a, err := ask(c, r)
					if err == nil && i < takes {
						first <- a
						_, err = r.ReadByte() // until the daemon ends
					}
					if err != nil {
						ends <- err
						return
					}
					answers <- a
				}()
			}
			pid := 0
			for range takes {
				select {
				case a := <-first:
					pid = a.pid
				case err := <-ends:
					t.Fatal(err)
				}
			}
			if pid == 0 {
				pid = awaitPhase(t, service(t), fastbind.Loading)
			}
			kill9(t, pid)
			for range takes {
				if err := <-ends; !errors.Is(err, io.EOF) && !isCut(err) {
					t.Errorf("a client that was taken: %v", err)
				}
			}
			for range clients - takes {
				select {
				case a := <-answers:
					if a.pid == pid || a.generation != 2 {
						t.Errorf("answered by %+v, after %d", a, pid)
					}
				case err := <-ends:
					t.Errorf("a client that had queued: %v", err)
				case <-time.After(deadline):
					t.Fatal("a client that had queued is not served")
				}
			}
		})
	}
}

// TestBrokerTerminated: a broker that is terminated breaks no connection and has nobody
// refused where a daemon runs; where none does who has the SDK launches it. The next broker
// goes on with what runs.
func TestBrokerTerminated(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "backoff_min = \"10ms\"")
	b := startBroker(t)
	name := pipeName(t)
	long, err := pipe.Dial(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	r := bufio.NewReader(long)
	first, err := ask(long, r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := plain(name)
				if err != nil || a != first {
					t.Errorf("%+v, %v", a, err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 4 {
		b.kill(t)
		before := served.Load()
		for end := time.Now().Add(deadline); served.Load() < before+20 && !t.Failed(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Error("nobody is served without a broker")
				break
			}
		}
		b = startBroker(t)
	}
	cancel()
	wg.Wait()
	if a, err := ask(long, r); err != nil || a != first {
		t.Errorf("the connection from before: %+v, %v", a, err)
	}
	// The last one has what the daemon serves from.
	kill9(t, first.pid)
	if a := mustPlain(t, name); a.generation != first.generation+1 {
		t.Errorf("after %+v: %+v", first, a)
	}
	mustRun(t, "stop", "telling")
	b.kill(t)
	alone := mustAsk(t, service(t)) // launches it
	startBroker(t)
	if a := mustPlain(t, name); a != alone {
		t.Errorf("launched without a broker: %+v, then %+v", alone, a)
	}
	mustRun(t, "stop", "telling")
	if a := mustPlain(t, name); a.generation != alone.generation+1 {
		t.Errorf("after %+v: %+v", alone, a)
	}
	if out, status := fastbindCommand(t, "status", "telling"); status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
}

// TestBrokerCrashes: a daemon that fails at its start is launched three times at most, and
// who waits or dials is told why; a reset, and a file that is mended, have it served.
func TestBrokerCrashes(t *testing.T) {
	brokerWorld(t)
	define(t, env("FAIL=the index is broken"), "backoff_min = \"10ms\"")
	startBroker(t)
	s, name := service(t), pipeName(t)
	began := time.Now()
	for time.Since(began) < 3*time.Second {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := dialAndAsk(ctx, s)
		cancel()
		if e, ok := errors.AsType[*fastbind.Error](err); !ok || !strings.Contains(err.Error(), "the index is broken") {
			t.Fatalf("a client is told %v", err)
		} else if !e.RetryAt.IsZero() {
			if left := time.Until(e.RetryAt); left <= 0 || left > 30*time.Second {
				t.Errorf("the next try is in %s", left)
			}
			break
		}
	}
	if out, _ := fastbindCommand(t, "logs", "telling"); strings.Count(out, "loads") != 3 {
		t.Errorf("launched so often:\n%s", out)
	}
	if _, err := plain(name); err == nil {
		t.Error("a client is served")
	}
	define(t, env(), "backoff_min = \"10ms\"")
	mustRun(t, "reload")
	mustRun(t, "reset", "telling")
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		a, err := plain(name)
		if err == nil && a.generation > 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("mended: %+v, %v", a, err)
		}
	}
}

// TestBrokerDefinitions: a service is let go and held again as is asked for, and files are
// followed. What runs of it runs on, and what is wrong is said.
func TestBrokerDefinitions(t *testing.T) {
	brokerWorld(t)
	define(t, env())
	b := startBroker(t)
	name := pipeName(t)
	first := mustPlain(t, name)
	mustRun(t, "disable", "telling")
	if a := mustPlain(t, name); a != first {
		t.Errorf("disabled: %+v, was %+v", a, first)
	}
	mustRun(t, "stop", "telling")
	if _, err := plain(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a service that nobody holds: %v", err)
	}
	mustRun(t, "enable", "telling")
	if a := mustPlain(t, name); a.generation != first.generation+1 {
		t.Errorf("enabled: %+v after %+v", a, first)
	}
	mustRun(t, "stop", "telling")
	for len(b.lines) > 0 { // it has said so before
		<-b.lines
	}
	config := os.Getenv("FASTBIND_CONFIG_DIR")
	if err := os.Remove(filepath.Join(config, "telling.toml")); err != nil {
		t.Fatal(err)
	}
	b.says(t, "holding 0 services")
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(os.Getenv("FASTBIND_RUNTIME_DIR"), "default", "telling", "holder")); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a service whose file is gone is held")
		}
	}
	if _, err := plain(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a service whose file is gone: %v", err)
	}
	if err := os.WriteFile(filepath.Join(config, "web.toml"), []byte("command = ['C:\\web.exe']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "reload")
	b.says(t, "can inherit no listener")
	for _, args := range [][]string{{"broker", "install"}, {"broker", "upgrade"}} {
		out, status := fastbindCommand(t, args...)
		t.Logf("%q: exit status %d: %s", args, status, out)
		if status == 0 {
			t.Errorf("%q succeeds", args)
		}
	}
}

// TestBrokerOnDemand: a definition says that there is to be a broker, which ends when there
// is nothing to hold; it asks daemons to end that are more than may run.
func TestBrokerOnDemand(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "hold = true")
	mustRun(t, "start", "telling")
	pid := awaitPhase(t, fastbind.Service{Name: "fastbind-broker"}, fastbind.Ready)
	if out := mustRun(t, "list"); !strings.Contains(out, "fastbind-broker") {
		t.Errorf("list: %s", out)
	}
	name := pipeName(t)
	first := mustPlain(t, name)
	kill9(t, first.pid)
	if a := mustPlain(t, name); a.generation != 2 {
		t.Errorf("after %+v: %+v", first, a)
	}
	config := os.Getenv("FASTBIND_CONFIG_DIR")
	if err := os.Remove(filepath.Join(config, "telling.toml")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(deadline); !isDead(pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a broker with nothing to hold lives")
		}
	}
}

// TestBrokerQuota: of two daemons, of which one may run, the one ends that was used before
// the other; the next client has it launched again. A limit that cannot be kept is said so.
func TestBrokerQuota(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "memory = \"512M\"", "tasks = 64")
	defineAs(t, "other", env())
	if err := os.WriteFile(filepath.Join(os.Getenv("FASTBIND_CONFIG_DIR"), "fastbind-broker.toml"), []byte("max_daemons = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	startBroker(t)
	name := pipeName(t)
	other := strings.TrimSuffix(name, "telling") + "other"
	t.Cleanup(func() { mustRun(t, "stop", "--all") })
	first := mustPlain(t, name)
	out, _ := fastbindCommand(t, "status", "--json", "telling")
	if !strings.Contains(out, "not_in_force") || !strings.Contains(out, "memory") {
		t.Errorf("status: %s", out)
	}
	mustPlain(t, other)
	for end := time.Now().Add(deadline); !isDead(first.pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("two daemons live, and one may")
		}
	}
	if a := mustPlain(t, name); a.generation != first.generation+1 {
		t.Errorf("after %+v: %+v", first, a)
	}
}

// TestBrokerRestart: one generation after the other, under request loops of clients that
// know nothing of fastbind.
func TestBrokerRestart(t *testing.T) {
	brokerWorld(t)
	define(t, env())
	startBroker(t)
	name := pipeName(t)
	first := mustPlain(t, name)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served atomic.Int64
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := plain(name); err != nil {
					t.Error(err)
					return
				}
				served.Add(1)
			}
		})
	}
	for range 5 {
		mustRun(t, "restart", "telling")
	}
	cancel()
	wg.Wait()
	last := mustPlain(t, name)
	t.Logf("%d served by generations %d to %d", served.Load(), first.generation, last.generation)
	if last.generation != first.generation+5 {
		t.Errorf("%+v after %+v and 5 restarts", last, first)
	}
}

// TestBrokerChaos: whoever is terminated, clients with the SDK are served, or told that a
// daemon which had them has ended.
func TestBrokerChaos(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "backoff_min = \"10ms\"", "backoff_max = \"10ms\"")
	s := service(t)
	b := startBroker(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var served, cut, pid atomic.Int64
	for range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				a, err := dialAndAsk(context.Background(), s)
				switch {
				case err == nil:
					served.Add(1)
					pid.Store(int64(a.pid))
				case errors.Is(err, io.EOF), isCut(err), strings.Contains(err.Error(), "failed in stage serve: the process"):
					cut.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	await := func(n int64) {
		before := served.Load()
		for end := time.Now().Add(deadline); served.Load() < before+n && !t.Failed(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Error("nobody is served")
			}
		}
	}
	for i := range 12 {
		await(10)
		if t.Failed() {
			break
		}
		if i%3 == 2 {
			b.kill(t)
			if i%2 == 0 {
				kill9(t, int(pid.Load()))
				await(10)
			}
			b = startBroker(t)
			continue
		}
		kill9(t, int(pid.Load()))
	}
	cancel()
	wg.Wait()
	t.Logf("%d served, %d cut off", served.Load(), cut.Load())
}

// TestBrokerIdleExit: a daemon that ends by itself leaves its queue to the broker: clients
// that come and go while it does are served, by it or the next one (R23).
func TestBrokerIdleExit(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "idle_exit = \"20ms\"", "backoff_min = \"10ms\"")
	startBroker(t)
	name := pipeName(t)
	t.Cleanup(func() { mustRun(t, "stop", "--all") })
	var wg sync.WaitGroup
	var last atomic.Int64
	for range 4 {
		wg.Go(func() {
			for i := range 60 {
				a, err := plain(name)
				if err != nil {
					t.Error(err)
					return
				}
				last.Store(max(last.Load(), int64(a.generation)))
				time.Sleep(time.Duration(i%6) * 8 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if t.Logf("%d generations", last.Load()); last.Load() < 2 {
		t.Error("it never ended by itself")
	}
}

// TestBrokerHangs: a daemon does without a broker that does not hear it. When that goes on it
// has what the daemon serves from, again.
func TestBrokerHangs(t *testing.T) {
	brokerWorld(t)
	define(t, env(), "backoff_min = \"10ms\"")
	b := startBroker(t)
	name := pipeName(t)
	t.Cleanup(func() { mustRun(t, "stop", "--all") })
	first := mustPlain(t, name)
	suspended(t, b.cmd.Process.Pid, func() {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		for range 30 { // more than it is waited for, and than have an instance that the broker knows
			c, err := pipe.Dial(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if a, err := ask(c, bufio.NewReader(c)); err != nil || a != first {
				t.Fatalf("%+v, %v", a, err)
			}
		}
	})
	alone := filepath.Join(os.Getenv("FASTBIND_RUNTIME_DIR"), "default", "telling", "1.*", "alone")
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if m, _ := filepath.Glob(alone); len(m) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the broker does not come back")
		}
	}
	for range 20 {
		if a := mustPlain(t, name); a != first {
			t.Errorf("%+v, then %+v", first, a)
		}
	}
	kill9(t, first.pid)
	if a := mustPlain(t, name); a.generation != 2 {
		t.Errorf("after %+v: %+v", first, a)
	}
}

// suspended runs f while a process is.
func suspended(t *testing.T, pid int, f func()) {
	t.Helper()
	h, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(h)
	ntdll := windows.NewLazySystemDLL("ntdll.dll")
	if status, _, _ := ntdll.NewProc("NtSuspendProcess").Call(uintptr(h)); status != 0 {
		t.Fatalf("NtSuspendProcess: %#x", status)
	}
	defer func() {
		if status, _, _ := ntdll.NewProc("NtResumeProcess").Call(uintptr(h)); status != 0 {
			t.Errorf("NtResumeProcess: %#x", status)
		}
	}()
	f()
}

// isCut reports whether a connection has ended at the other end.
func isCut(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA) || errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED)
}
