package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// A standing is a broker of a world, whose program can be replaced.
type standing struct {
	*world
	path string // of the program
	cmd  *exec.Cmd
	log  string
}

// install makes the program at the path another build of the command, as a package
// manager does. Builds differ in what stands behind them in the file.
func (b *standing) install(build int) {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.bin, "fastbind"))
	if err != nil {
		b.t.Fatal(err)
	}
	b.installFile(append(text, fmt.Sprintf("build:%08d", build)...), 0o755)
}

func (b *standing) installFile(text []byte, mode os.FileMode) {
	b.t.Helper()
	// A fork would carry the open file on until its exec, and nobody could execute it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	next := b.path + ".new"
	err := os.WriteFile(next, text, mode)
	if err == nil {
		err = os.Rename(next, b.path)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// define writes a definition file.
func (b *standing) define(name, text string) {
	b.t.Helper()
	dir := filepath.Join(b.dir, "config")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o600)); err != nil {
		b.t.Fatal(err)
	}
}

// newStanding starts a broker in the foreground that holds what was defined.
func newStanding(t *testing.T, definitions map[string]string) *standing {
	t.Helper()
	b := &standing{world: newWorld(t)}
	b.path, b.log = filepath.Join(b.dir, "bin", "fastbind"), filepath.Join(b.dir, "broker.log")
	if err := os.Mkdir(filepath.Dir(b.path), 0o700); err != nil {
		t.Fatal(err)
	}
	b.install(0)
	for name, text := range definitions {
		b.define(name, text)
	}
	b.start()
	for name := range definitions {
		b.eventually(name+" is held", func() bool { return launch.Holder(b.service(name)) != "" })
	}
	return b
}

func (b *standing) start() {
	b.t.Helper()
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	b.cmd = exec.Command(b.path, "broker")
	b.cmd.Env, b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = b.env, b.dir, log, log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	cmd := b.cmd
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, _ := os.ReadFile(b.log); b.t.Failed() {
			b.t.Logf("the broker says:\n%s", text)
		}
	})
}

// fb runs the command and returns what it says, and its exit status.
func (b *standing) fb(args ...string) (string, int) {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.bin, "fastbind"), args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	out, err := b.output(cmd)
	if err != nil && cmd.ProcessState == nil {
		b.t.Fatal(err)
	}
	return out, cmd.ProcessState.ExitCode()
}

func (b *standing) mustFB(args ...string) string {
	b.t.Helper()
	out, status := b.fb(args...)
	if status != 0 {
		b.t.Fatalf("fastbind %s: exit %d: %s", strings.Join(args, " "), status, out)
	}
	return out
}

// ask is a client that knows nothing of fastbind.
func (b *standing) ask(name string) (string, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(b.service(name), "sock"), deadline)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if _, err := fmt.Fprintln(conn, 1); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func (b *standing) mustAsk(name string) {
	b.t.Helper()
	if _, err := b.ask(name); err != nil {
		b.t.Fatalf("%s: %v", name, err)
	}
}

func (b *standing) descriptors() int {
	b.t.Helper()
	list, err := os.ReadDir("/proc/" + itoa(b.cmd.Process.Pid) + "/fd")
	if err != nil {
		b.t.Fatal(err)
	}
	return len(list)
}

// runs reports whether the broker's process executes what is at its path.
func (b *standing) runs() bool {
	is, err := os.Stat("/proc/" + itoa(b.cmd.Process.Pid) + "/exe")
	at, aerr := os.Stat(b.path)
	return err == nil && aerr == nil && os.SameFile(is, at)
}

// main is the pid of the only living generation.
func (b *standing) main(name string) int {
	b.t.Helper()
	living := b.living(name)
	if len(living) != 1 {
		b.t.Fatalf("%d living generations of %s", len(living), name)
	}
	return living[0].Record.PID
}

// children are those of the broker, by pid, with their state.
func (b *standing) children() map[int]string {
	list := map[int]string{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, _ := os.ReadFile(path)
		f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(f) > 1 && f[1] == itoa(b.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			list[pid] = f[0]
		}
	}
	return list
}

// TestBrokerUpgrades: R14. The broker becomes another build again and again while
// clients with plain sockets ask without pause and others come to services that do not
// run yet: nobody is refused or reset, nothing is left over, and the daemons do not
// notice. How they end is still known, and another is launched for the next client.
func TestBrokerUpgrades(t *testing.T) {
	const upgrades = 20
	definitions := map[string]string{}
	w := &world{t: t}
	plain := "command = [\"" + w.plaind() + "\"]\n"
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	definitions["plain"] = plain
	definitions["sdk"] = "command = [\"" + filepath.Join(bin, "testprog") + "\", \"daemon\"]\nforeign = false\n"
	for i := range upgrades {
		definitions["held"+itoa(i)] = plain
	}
	b := newStanding(t, definitions)
	b.mustAsk("plain")
	b.mustAsk("sdk")
	before := map[string]int{"plain": b.main("plain"), "sdk": b.main("sdk")}

	stop := make(chan struct{})
	var asked atomic.Int64
	var loops sync.WaitGroup
	for i := range 8 {
		loops.Go(func() {
			name := []string{"plain", "sdk"}[i%2]
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.ask(name); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	events := b.startEvents()
	first := 0
	for i := range upgrades {
		b.install(1 + i%2)
		loops.Go(func() {
			name := "held" + itoa(i)
			if i%2 == 0 { // the command asks the broker, which may become another meanwhile
				if out, status := b.fb("start", name); status != 0 {
					t.Errorf("start %s: exit %d: %s", name, status, out)
				}
			}
			if _, err := b.ask(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		out := b.mustFB("broker", "upgrade")
		if !b.runs() {
			t.Fatalf("upgrade %d: another program runs: %s", i, out)
		}
		if want := "pid " + itoa(b.cmd.Process.Pid) + " was "; !strings.Contains(out, want) {
			t.Errorf("%s, without %q", out, want)
		}
		if i == 0 {
			first = b.descriptors()
		}
	}
	close(stop)
	loops.Wait()
	events()
	t.Logf("%d requests during %d upgrades", asked.Load(), upgrades)
	for name, pid := range before {
		if now := b.main(name); now != pid {
			t.Errorf("%s: pid %d, was %d", name, now, pid)
		}
	}
	// What a daemon costs is known from the ones that were there at first.
	b.eventually("the broker has no more descriptors than its daemons need", func() bool {
		return b.descriptors() <= first+3*upgrades
	})
	crowded := b.descriptors()
	for i := range upgrades {
		b.mustFB("stop", "held"+itoa(i))
	}
	for i := range 4 {
		b.install(i % 2)
		b.mustFB("restart", "fastbind-broker")
	}
	b.eventually("what daemons had is closed", func() bool { return b.descriptors() <= first })
	t.Logf("%d descriptors after the first upgrade, %d with all daemons, %d without them", first, crowded, b.descriptors())

	// How they end is known, and the next client has another one.
	for name, pid := range before {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.eventually(name+"'s end is on record", func() bool {
			r := b.readRecord(name)
			return r.PID != pid || r.Phase == record.Failed
		})
		if r := b.readRecord(name); r.PID == pid && (r.Failure == nil || r.Failure.Signal != "killed") {
			t.Errorf("%s has ended with %+v", name, r.Failure)
		}
		b.mustAsk(name)
	}
	b.eventually("nobody is left unreaped", func() bool {
		for _, state := range b.children() {
			if state == "Z" {
				return false
			}
		}
		return true
	})
	if text, _ := os.ReadFile(b.log); bytes.Contains(text, []byte("is not what")) {
		t.Error("a descriptor was not what it was said to be")
	}
}

// startEvents leaves a connection to the broker open, which upgrades end.
func (b *standing) startEvents() (end func()) {
	b.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(b.service("fastbind-broker"), "sock"))
	if err != nil {
		b.t.Fatal(err)
	}
	return func() {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(deadline))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			b.t.Errorf("a connection that asked for nothing has %d, %v", n, err)
		}
	}
}

// TestBrokerUpgradeRefused: what cannot take over is refused with the reason, and the
// broker goes on as before, with everybody in its queues.
func TestBrokerUpgradeRefused(t *testing.T) {
	w := &world{t: t}
	b := newStanding(t, map[string]string{"plain": "command = [\"" + w.plaind() + "\"]\n", "held": "command = [\"" + w.plaind() + "\"]\n"})
	b.mustAsk("plain")
	pid, fds := b.main("plain"), b.descriptors()
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"nothing to execute", "", 0o755, "exec format error"},
		{"not executable", "x", 0o644, "permission denied"},
		{"it fails", "#!/bin/sh\necho broken >&2\nexit 3\n", 0o755, "exit status 3: broken"},
		{"it says nothing", "#!/bin/sh\n", 0o755, "is not understood"},
		{"another format", "#!/bin/sh\necho '{\"formats\":[7],\"program\":{\"version\":\"v9\"}}'\n", 0o755, "v9, reads hand-overs of the formats [7]"},
		{"it holds less", "#!/bin/sh\necho '{\"formats\":[1],\"holds\":[\"plain\"],\"problems\":{\"held\":\"no longer\"}}'\n", 0o755, `would not hold "held", which is held: no longer`},
		{"no end of words", "#!/bin/sh\nexec cat /dev/zero\n", 0o755, "it has not said what it is within 10s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.installFile([]byte(c.text), c.mode)
			out, status := b.fb("broker", "upgrade")
			if status != 4 || !strings.Contains(out, c.want) {
				t.Errorf("exit %d, want 4 and %q: %s", status, c.want, out)
			}
		})
	}
	b.install(1)
	b.define("held", "command = 7\n")
	if out, status := b.fb("broker", "upgrade"); status != 4 || !strings.Contains(out, `would not hold "held"`) {
		t.Errorf("with a definition that has become wrong: exit %d: %s", status, out)
	}
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
	if out, status := b.fb("broker", "upgrade"); status != 4 || !strings.Contains(out, "no such file") {
		t.Errorf("without a program: exit %d: %s", status, out)
	}
	b.mustAsk("held")
	b.mustAsk("plain")
	if now := b.main("plain"); now != pid {
		t.Errorf("pid %d, was %d", now, pid)
	}
	b.mustFB("stop", "held")
	b.eventually("nothing is left open", func() bool { return b.descriptors() <= fds })
	b.define("held", "command = [\""+b.plaind()+"\"]\n")
	b.install(1)
	b.mustFB("broker", "upgrade")
	b.mustAsk("held")
	if _, status := b.fb("stop", "fastbind-broker"); status != 0 {
		t.Errorf("stop: exit %d", status)
	}
	if out, status := b.fb("broker", "upgrade"); status != 3 && status != 4 {
		t.Errorf("without a broker: exit %d: %s", status, out)
	}
}

// TestBrokerUpgradeCrashes: a program that says that it can take over and then does not
// takes everything with it that the broker had, and nothing else: who has asked is told
// so, daemons serve on, and whoever dials is served without a broker.
func TestBrokerUpgradeCrashes(t *testing.T) {
	w := &world{t: t}
	b := newStanding(t, map[string]string{"plain": "command = [\"" + w.plaind() + "\"]\n", "held": "command = [\"" + w.plaind() + "\"]\n"})
	b.mustAsk("plain")
	pid := b.main("plain")
	b.installFile([]byte("#!/bin/sh\ncase \"$*\" in *--check-handover*) exec "+filepath.Join(b.bin, "fastbind")+" \"$@\" ;; esac\nexit 3\n"), 0o755)
	out, status := b.fb("broker", "upgrade")
	if status != 4 || !strings.Contains(out, "ended without an answer") || !strings.Contains(out, "fastbind why fastbind-broker") {
		t.Errorf("exit %d: %s", status, out)
	}
	_ = b.cmd.Wait()
	if s := b.cmd.ProcessState; s.ExitCode() != 3 {
		t.Errorf("the broker has ended with %v", s)
	}
	b.mustAsk("plain")
	if now := b.main("plain"); now != pid {
		t.Errorf("pid %d, was %d", now, pid)
	}
	b.mustFB("start", "held", "--wait", "bound")
	b.mustAsk("held")
	b.install(0)
	b.start()
	b.eventually("the next broker holds what it can", func() bool {
		out, _ := b.fb("status", "fastbind-broker", "--json")
		return strings.Contains(out, `"phase":"ready"`) || strings.Contains(out, `"phase": "ready"`)
	})
	b.mustAsk("plain")
}
