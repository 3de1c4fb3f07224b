package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/systemdns"
)

// A managed broker is one that a real systemd starts, as the units that are
// installed say, for a user who is logged in. The command is stood in for.
type managed struct {
	t       *testing.T
	s       *systemdns.System
	exe     string // the command
	session *systemdns.Session
}

// oddDir is what a path can have that systemd could take for something else.
const oddDir = `100% %h $HOME ${USER} $$ {a;b} #ü`

func newManaged(t *testing.T) *managed {
	t.Helper()
	systemdns.Need(t)
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &managed{t: t, exe: filepath.Join(dir, oddDir, "fastbind")}
	if err := errors.Join(os.Mkdir(filepath.Dir(m.exe), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", m.exe, "./standin")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.s = systemdns.Boot(t, dir)
	m.login()
	return m
}

// TestSystemdSessions: R21. A daemon that a session launches, without a broker of
// its own, ends with the session where logind says so, and outlives it in a scope.
// Whatever a logout ends, the next dial is served.
func TestSystemdSessions(t *testing.T) {
	systemdns.Need(t)
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	m := &managed{t: t, exe: bin + "/testprog", s: systemdns.Boot(t, bin)}
	m.login()
	m.root("loginctl", "enable-linger", systemdns.Name)
	dial := func(args ...string) (pid string) {
		t.Helper()
		out, err := (&world{t: t}).output(m.session.Command(append(args, m.exe, "dial")...))
		f := strings.Fields(out)
		if err != nil || len(f) < 2 || f[0] != "ok" {
			t.Fatalf("%v: %s", err, out)
		}
		return f[1]
	}
	logout := func(pid string, lives bool) {
		t.Helper()
		if err := m.session.Logout(); err != nil {
			t.Fatal(err)
		}
		m.eventually("the session is gone", func() bool {
			_, err := m.s.Root("loginctl", "show-session", m.session.ID)
			return err != nil
		})
		if !lives {
			m.eventually("the daemon is gone", func() bool { return !m.lives(pid) })
		} else if !m.lives(pid) {
			t.Error("the daemon has ended with the session")
		}
		m.login()
	}

	inSession := dial()
	if again := dial(); again != inSession {
		t.Errorf("two daemons: %s and %s", inSession, again)
	}
	if c := m.cgroup(inSession); c != "session-"+m.session.ID+".scope" {
		t.Errorf("the daemon is in %s", c)
	}
	logout(inSession, false)
	inScope := dial("systemd-run", "--user", "--scope", "--quiet", "--collect", "--")
	if c := m.cgroup(inScope); !strings.HasPrefix(c, "run-") {
		t.Errorf("the daemon is in %s", c)
	}
	logout(inScope, true)
	if again := dial(); again != inScope {
		t.Errorf("the next session has another daemon: %s and %s", inScope, again)
	}
	t.Logf("after a logout the daemon in the session's cgroup is gone, the one in a scope lives")

	// The end of the user's manager takes the run-time directory along.
	m.terminateUser()
	if m.lives(inScope) {
		t.Error("the daemon outlives the user's manager")
	}
	m.login()
	if next := dial(); next == inScope {
		t.Error("a dead daemon answers")
	}
}

func (m *managed) login() {
	m.t.Helper()
	var err error
	if m.session, err = m.s.Login(); err != nil {
		m.t.Fatal(err)
	}
}

// terminateUser ends all that a user has, and waits until the user's manager is
// gone.
func (m *managed) terminateUser() {
	m.t.Helper()
	m.root("loginctl", "terminate-user", systemdns.Name)
	m.eventually("the user's manager is gone", func() bool {
		state, _ := m.s.Root("systemctl", "is-active", "user@"+strconv.Itoa(systemdns.UID)+".service")
		return state == "inactive" || state == "failed"
	})
	if err := m.session.Logout(); err != nil {
		m.t.Fatal(err)
	}
}

// do runs a command as the user, which must succeed.
func (m *managed) do(args ...string) string {
	m.t.Helper()
	out, err := m.s.User(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// root runs a command as root, which must succeed.
func (m *managed) root(args ...string) string {
	m.t.Helper()
	out, err := m.s.Root(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// socket is where the broker of the default instance is asked.
var socket = unit.Socket(systemdns.RuntimeDir+"/fastbind", "default")

// ask asks the broker, and starts it by that if it does not run.
func (m *managed) ask(words ...string) string {
	m.t.Helper()
	return m.do(append([]string{m.exe, "ask", socket}, words...)...)
}

const (
	service    = "fastbind-broker.service"
	socketUnit = "fastbind-broker.socket"
)

// property returns a property of a unit.
func (m *managed) property(name, property string) string {
	m.t.Helper()
	return m.do("systemctl", "--user", "show", "--value", "--property="+property, name)
}

// expect fails unless a unit has the properties, each PROPERTY=VALUE.
func (m *managed) expect(name string, properties ...string) {
	m.t.Helper()
	for _, p := range properties {
		k, want, _ := strings.Cut(p, "=")
		if got := m.property(name, k); got != want {
			m.t.Errorf("%s of %s is %q, want %q", k, name, got, want)
		}
	}
}

// becomes waits until a unit has a property.
func (m *managed) becomes(name, property string) {
	m.t.Helper()
	k, want, _ := strings.Cut(property, "=")
	m.eventually(name+" has "+property, func() bool { return m.property(name, k) == want })
}

// eventually waits for what the managers do by themselves.
func (m *managed) eventually(what string, f func() bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), deadline)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			m.t.Fatalf("not within the test's deadline: %s", what)
		case <-tick.C:
		}
	}
}

// lives reports whether a process of the system does.
func (m *managed) lives(pid string) bool {
	b, err := os.ReadFile(m.s.Path("/proc/" + pid + "/stat"))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// cgroup is the last element of a process's cgroup, which is its unit.
func (m *managed) cgroup(pid string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.s.Path("/proc/" + pid + "/cgroup"))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Base(strings.TrimSpace(path))
		}
	}
	return ""
}

// daemon has the broker start one, and returns its pid and what it writes to.
func (m *managed) daemon(verb string) (pid, file string) {
	m.t.Helper()
	file = systemdns.Home + "/" + verb + strconv.FormatInt(time.Now().UnixNano(), 36)
	pid = m.ask(verb, file)
	m.eventually("the daemon has started", func() bool { return m.said(file) == "started" })
	return pid, file
}

func (m *managed) said(file string) string {
	b, err := os.ReadFile(m.s.Path(file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(b)
}

// kill9 kills a process of the system by its pid there.
func (m *managed) kill9(pid string) {
	m.t.Helper()
	m.root("kill", "-9", pid)
	m.eventually("process "+pid+" is dead", func() bool { return !m.lives(pid) })
}

// TestSystemdUnits: the units that fastbind broker install writes, under a real
// systemd, from the installation over every way to end a broker to the removal.
func TestSystemdUnits(t *testing.T) {
	m := newManaged(t)
	step := func(name string, f func(*managed)) {
		if !t.Run(name, func(t *testing.T) {
			here := *m
			here.t = t
			here.do("systemctl", "--user", "reset-failed") // the starts of one step do not count in the next
			f(&here)
		}) {
			t.FailNow() // the next step begins where this one ends
		}
	}
	step("install", (*managed).installs)
	step("first connection", (*managed).firstConnection)
	step("readiness", (*managed).readiness)
	step("stop", (*managed).stops)
	step("restart", (*managed).restarts)
	step("kill -9", (*managed).crashes)
	step("clean exit", (*managed).exits)
	step("refusal", (*managed).refuses)
	step("hang", (*managed).hangs)
	step("refusal of clients", (*managed).refusesClients)
	step("crash loop", (*managed).crashLoops)
	step("other instance", (*managed).otherInstance)
	step("uninstall", (*managed).uninstalls)
}

// installs: what install prints and leaves.
func (m *managed) installs() {
	out := m.do(m.exe, "install", "default")
	dir := systemdns.Home + "/.config/systemd/user/"
	if want := "write " + dir + service + "\nwrite " + dir + socketUnit; out != want {
		m.t.Errorf("install printed %q, want %q", out, want)
	}
	m.expect(service, "ActiveState=active", "SubState=running", "UnitFileState=enabled")
	m.expect(socketUnit, "ActiveState=active", "SubState=running", "UnitFileState=enabled")
	pid := m.ask("pid")
	if out := m.do(m.exe, "install", "default"); out != "keep "+dir+service+"\nkeep "+dir+socketUnit {
		m.t.Errorf("the second time it printed %q", out)
	}
	if again := m.ask("pid"); again != pid {
		m.t.Errorf("an installation that changes nothing has replaced broker %s by %s", pid, again)
	}
	for path, want := range map[string]string{
		socket:                             "srw------- " + systemdns.Name,
		filepath.Dir(socket):               "drwx------ " + systemdns.Name,
		systemdns.RuntimeDir + "/fastbind": "drwx------ " + systemdns.Name,
		dir + service:                      "-rw------- " + systemdns.Name,
	} {
		if got := m.do("stat", "--format=%A %U", path); got != want {
			m.t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	// The executable is the one that was meant, and its arguments are.
	if got, want := m.ask("args"), fmt.Sprintf("%q", []string{m.exe, "broker", "--instance", "default"}); got != want {
		m.t.Errorf("the broker is %s, want %s", got, want)
	}
	if out := m.do("systemctl", "--user", "show", "--property=NeedDaemonReload,LoadError", service); strings.Contains(out, "yes") {
		m.t.Error(out)
	}
}

// firstConnection: the socket is there, nobody runs, a client comes.
func (m *managed) firstConnection() {
	before := m.ask("pid")
	m.do("systemctl", "--user", "stop", service)
	m.expect(service, "ActiveState=inactive", "Result=success")
	m.expect(socketUnit, "ActiveState=active", "SubState=listening")
	begun := time.Now()
	pid := m.ask("pid")
	m.t.Logf("answered %v after the client was started, by a broker that the connection has started", time.Since(begun).Round(time.Millisecond))
	if pid == before {
		m.t.Errorf("broker %s has been stopped, and answers", pid)
	}
	m.expect(service, "MainPID="+pid, "ActiveState=active", "NotifyAccess=main")
	if names := m.ask("names"); names != unit.SocketName {
		m.t.Errorf("its sockets are %q", names)
	}
}

// readiness: the manager believes READY=1 and nothing before it.
func (m *managed) readiness() {
	m.do("systemctl", "--user", "stop", service)
	late := systemdns.Home + "/late"
	m.do("touch", late)
	pid := m.ask("pid") // it answers already
	m.expect(service, "MainPID="+pid, "ActiveState=activating", "SubState=start")
	m.ask("ready")
	m.becomes(service, "ActiveState=active")
	m.expect(service, "MainPID="+pid, "StatusText=told so")
	m.ask("status", "3 services, 1 ready")
	m.becomes(service, "StatusText=3 services, 1 ready")
	m.do("rm", late)
}

// stops: the broker's daemons outlive it, in whichever cgroup they are, and the
// next one has the same socket.
func (m *managed) stops() {
	broker := m.ask("pid")
	beside, _ := m.daemon("spawn")
	apart, _ := m.daemon("scope")
	if c := m.cgroup(beside); c != service {
		m.t.Errorf("the daemon is in %s, want %s", c, service)
	}
	if c := m.cgroup(apart); !strings.HasSuffix(c, ".scope") {
		m.t.Errorf("the daemon is in %s, want a scope", c)
	}
	m.do("systemctl", "--user", "stop", service)
	if m.lives(broker) || !m.lives(beside) || !m.lives(apart) {
		m.t.Errorf("after the stop live: broker %v, daemon in its cgroup %v, daemon in a scope %v", m.lives(broker), m.lives(beside), m.lives(apart))
	}
	if next := m.ask("pid"); next == broker {
		m.t.Error("the stopped broker answers")
	}
	m.do("systemctl", "--user", "restart", service)
	if !m.lives(beside) || !m.lives(apart) {
		m.t.Errorf("after a restart live: daemon in its cgroup %v, daemon in a scope %v", m.lives(beside), m.lives(apart))
	}
	m.kill9(beside)
	m.kill9(apart)
	m.expect(service, "ActiveState=active")
}

// restarts: no client is refused while the broker is restarted, neither at its own
// socket nor at one that it leaves in the manager's keeping; and the same while it
// executes another program in its place.
func (m *managed) restarts() {
	const rounds = 5
	web := systemdns.RuntimeDir + "/fastbind/web"
	m.ask("keep", web)
	m.becomes(service, "NFileDescriptorStore=1")
	var loops []*client
	for i := range 4 {
		c := (&world{t: m.t}).startCommand(m.s.UserCommand(m.exe, "loop", []string{socket, web}[i%2]))
		if line := c.line(); line != "looping" {
			m.t.Fatal(line)
		}
		loops = append(loops, c)
	}
	pids := map[string]bool{m.ask("pid"): true}
	for range rounds {
		m.do("systemctl", "--user", "restart", service)
		pids[m.ask("pid")] = true
	}
	if len(pids) != rounds+1 {
		m.t.Errorf("%d brokers in %d restarts", len(pids), rounds)
	}
	if names := m.ask("names"); names != unit.SocketName+" web" {
		m.t.Errorf("after the restarts the broker has %q", names)
	}

	broker := m.ask("pid")
	_, _ = m.s.User(m.exe, "ask", socket, "exec")
	if again := m.ask("pid"); again != broker {
		m.t.Errorf("process %s has become %s", broker, again)
	}
	if passed := m.ask("env", "STANDIN_SOCKETS"); !strings.Contains(passed, "web=") {
		m.t.Errorf("it has not executed another program: %s", passed)
	}
	m.ask("status", "another program")
	m.becomes(service, "StatusText=another program")
	m.expect(service, "MainPID="+broker, "ActiveState=active", "NRestarts=0")

	total := map[string]int{}
	for _, c := range loops {
		out, err := c.finish()
		var counts map[string]int
		if err == nil {
			err = json.Unmarshal([]byte(out), &counts)
		}
		if err != nil {
			m.t.Errorf("a client was refused: %v: %s", err, out)
		}
		if counts["brokers"] < 2 {
			m.t.Errorf("a client has seen no restart: %s", out)
		}
		for k, v := range counts {
			total[k] += v
		}
	}
	m.t.Logf("%d connects by %d clients over %d restarts and an exec, none refused; %d broke with the broker that had accepted them",
		total["connects"], len(loops), rounds, total["broken"])
	m.do("systemctl", "--user", "stop", service) // which ends the keeping
	m.ask("pid")
	m.expect(service, "NFileDescriptorStore=0")
	m.do("rm", web)
}

// crashes: kill -9 of the broker. Its daemons live on; whoever has queued at a
// listener in the manager's keeping is served by the next broker, which nobody has
// to ask for.
func (m *managed) crashes() {
	broker := m.ask("pid")
	beside, _ := m.daemon("spawn")
	web := systemdns.RuntimeDir + "/fastbind/web"
	m.ask("keep", web)
	m.becomes(service, "NFileDescriptorStore=1")
	// A stopped broker accepts nothing, so this client queues.
	m.root("kill", "-STOP", broker)
	queued := (&world{t: m.t}).startCommand(m.s.UserCommand(m.exe, "ask", web, "pid"))
	m.eventually("the client has queued", func() bool { return m.queued(web) })
	m.kill9(broker)
	next, err := queued.finish()
	if err != nil || next == broker {
		m.t.Errorf("the client who had queued: %q, %v", next, err)
	}
	m.expect(service, "MainPID="+next, "ActiveState=active", "NRestarts=1")
	if names := m.ask("names"); names != unit.SocketName+" web" {
		m.t.Errorf("the next broker was handed %q", names)
	}
	if !m.lives(beside) {
		m.t.Error("the daemon has died with the broker")
	}
	m.kill9(beside)
}

// queued reports whether a client has connected to a socket and nobody has
// accepted that: the kernel lists it, by the listener's name, as connecting
// (SS_CONNECTING in proc_pid_net(5) is state 02, a connected one 03).
func (m *managed) queued(path string) bool {
	m.t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(m.s.Pid()) + "/net/unix")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 8 && f[7] == path && f[5] == "02" {
			return true
		}
	}
	return false
}

// exits: a broker that holds nothing ends, and is started again by the next
// client only.
func (m *managed) exits() {
	broker := m.ask("pid")
	_, _ = m.s.User(m.exe, "ask", socket, "exit", "0")
	m.eventually("it has ended", func() bool { return !m.lives(broker) })
	m.becomes(service, "ActiveState=inactive")
	m.expect(service, "Result=success")
	m.expect(socketUnit, "SubState=listening")
	if next := m.ask("pid"); next == broker {
		m.t.Error("it answers")
	}
}

// refuses: status 5 is not tried again.
func (m *managed) refuses() {
	broker := m.ask("pid")
	_, _ = m.s.User(m.exe, "ask", socket, "exit", "5")
	m.eventually("it has ended", func() bool { return !m.lives(broker) })
	m.becomes(service, "ActiveState=failed")
	m.expect(service, "Result=exit-code", "NRestarts=0")
	m.ask("pid")
	m.expect(service, "ActiveState=active")
}

// hangs: a broker that says nothing for longer than WatchdogSec is replaced.
func (m *managed) hangs() {
	drop := m.dropIn("WatchdogSec=1s")
	m.do("systemctl", "--user", "restart", service)
	broker := m.ask("pid")
	// It lives for longer than that as long as it says so.
	begun := m.property(service, "WatchdogTimestampMonotonic")
	m.eventually("it has said that it lives", func() bool { return m.property(service, "WatchdogTimestampMonotonic") != begun })
	if again := m.ask("pid"); again != broker {
		m.t.Errorf("broker %s was replaced by %s", broker, again)
	}
	m.ask("hang")
	m.eventually("it is dead", func() bool { return !m.lives(broker) })
	m.becomes(service, "ActiveState=active")
	m.expect(service, "NRestarts=1")
	m.root("journalctl", "--sync")
	log := m.root("journalctl", "--no-pager", "--output=cat") // of a dead process journald may not know the unit
	if !strings.Contains(log, "SIGABRT: abort") || !strings.Contains(log, "main.broker(") {
		m.t.Errorf("its journal lacks the stacks: %s", log)
	}
	m.do("rm", "-r", drop)
	m.do("systemctl", "--user", "daemon-reload")
}

// refusesClients: a broker that refuses to start while a client waits at its socket
// is given up, and its socket with it, so that clients go elsewhere at once. An
// installation mends it.
func (m *managed) refusesClients() {
	m.do("systemctl", "--user", "stop", service)
	m.do("touch", systemdns.Home+"/refuse")
	if out, err := m.s.User(m.exe, "ask", socket, "pid"); err == nil {
		m.t.Errorf("a broker that refuses to start has answered %q", out)
	}
	m.becomes(socketUnit, "ActiveState=failed")
	// Which limit is reached first, 20 triggers within 2 s or 20 starts within a
	// minute, is a matter of speed.
	if r := m.property(socketUnit, "Result"); r != "trigger-limit-hit" && r != "service-start-limit-hit" {
		m.t.Errorf("the socket has failed for %s", r)
	}
	if out, err := m.s.User(m.exe, "ask", socket, "pid"); err == nil || !strings.Contains(out, "connect:") {
		m.t.Errorf("a client finds %q, %v", out, err)
	}
	m.do("rm", systemdns.Home+"/refuse")
	m.do(m.exe, "install", "default")
	m.ask("pid")
}

// crashLoops: a broker that crashes at its start is tried twenty times in all, and
// then left alone until an installation, or the user, says otherwise.
func (m *managed) crashLoops() {
	drop := m.dropIn("RestartSec=20ms") // the limit is of starts within a minute
	m.do("systemctl", "--user", "stop", service)
	m.do("systemctl", "--user", "reset-failed", service)
	m.do("touch", systemdns.Home+"/crash")
	if out, err := m.s.User("systemctl", "--user", "start", service); err == nil {
		m.t.Errorf("a broker that crashes has started: %s", out)
	}
	m.becomes(service, "ActiveState=failed")
	m.expect(service, "NRestarts=20") // of which the last one was refused
	if out, err := m.s.User(m.exe, "ask", socket, "pid"); err == nil {
		m.t.Errorf("a broker that crashes has answered %q", out)
	}
	m.becomes(socketUnit, "ActiveState=failed")
	m.expect(socketUnit, "Result=service-start-limit-hit")
	m.do("rm", systemdns.Home+"/crash")
	m.do("rm", "-r", drop)
	m.do(m.exe, "install", "default")
	m.ask("pid")
}

// dropIn changes a setting of the service, and returns the directory that does.
func (m *managed) dropIn(setting string) string {
	m.t.Helper()
	dir := systemdns.Home + "/.config/systemd/user/" + service + ".d"
	m.do("mkdir", "-p", dir)
	m.do("sh", "-c", `printf '[Service]\n%s\n' "$1" >"$2"`, "sh", setting, dir+"/test.conf")
	m.do("systemctl", "--user", "daemon-reload")
	return dir
}

// otherInstance: beside the default one, with a root and variables that have what
// systemd could take for something else.
func (m *managed) otherInstance() {
	root := systemdns.Home + "/50% %t $HOME 'q' b"
	config := systemdns.Home + `/a "quoted" \ 'path' $HOME ${USER} %h %% \x41`
	m.do("env", "FASTBIND_RUNTIME_DIR="+root, "FASTBIND_CONFIG_DIR="+config, m.exe, "install", "ci-untrusted")
	other := unit.Socket(root, "ci-untrusted")
	for variable, want := range map[string]string{"FASTBIND_RUNTIME_DIR": root, "FASTBIND_CONFIG_DIR": config, "FASTBIND_STATE_DIR": ""} {
		if got := m.do(m.exe, "ask", other, "env", variable); got != fmt.Sprintf("%q", want) {
			m.t.Errorf("%s is %s, want %q", variable, got, want)
		}
	}
	if got, want := m.do(m.exe, "ask", other, "args"), fmt.Sprintf("%q", []string{m.exe, "broker", "--instance", "ci-untrusted"}); got != want {
		m.t.Errorf("the broker is %s, want %s", got, want)
	}
	if m.do(m.exe, "ask", other, "pid") == m.ask("pid") {
		m.t.Error("one broker for two instances")
	}
	m.do(m.exe, "uninstall", "ci-untrusted")
	m.expect("fastbind-broker-ci-untrusted.service", "LoadState=not-found", "ActiveState=inactive")
	m.ask("pid") // the other one is not touched
}

// uninstalls: the broker is gone with all its files; its daemons are not.
func (m *managed) uninstalls() {
	broker := m.ask("pid")
	beside, _ := m.daemon("spawn")
	m.do(m.exe, "uninstall", "default")
	if m.lives(broker) || !m.lives(beside) {
		m.t.Errorf("after that live: broker %v, daemon %v", m.lives(broker), m.lives(beside))
	}
	m.expect(service, "LoadState=not-found", "ActiveState=inactive")
	m.expect(socketUnit, "LoadState=not-found", "ActiveState=inactive")
	if left := m.do("find", systemdns.Home+"/.config", "-not", "-type", "d"); left != "" {
		m.t.Errorf("files are left: %s", left)
	}
	if _, err := os.Lstat(m.s.Path(socket)); !errors.Is(err, fs.ErrNotExist) {
		m.t.Errorf("the socket is left: %v", err)
	}
	if out := m.do(m.exe, "uninstall", "default"); out != "" {
		m.t.Errorf("the second time it does %s", out)
	}
	m.kill9(beside)
}

// TestSystemdLogout: what a logout ends, and what it does not. logind is told to
// kill what a session leaves (KillUserProcesses=yes).
func TestSystemdLogout(t *testing.T) {
	m := newManaged(t)
	m.do(m.exe, "install", "default")
	m.root("loginctl", "enable-linger", systemdns.Name)

	// A daemon that is started from within a session, as an embedded broker starts
	// it, is in the session's cgroup.
	launched := systemdns.Home + "/launched"
	enter := m.session.Command(m.exe, "daemon", launched)
	enter.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := enter.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- enter.Wait() }()
	m.eventually("the daemon has started", func() bool { return m.said(launched) == "started" })

	broker := m.ask("pid")
	beside, besideFile := m.daemon("spawn")
	apart, apartFile := m.daemon("scope")
	alive := func() string {
		return fmt.Sprintf("broker %v, daemon in its cgroup %v, daemon in a scope %v", m.lives(broker), m.lives(beside), m.lives(apart))
	}

	// Logout of a user who lingers.
	if err := m.session.Logout(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(deadline):
		t.Fatal("the daemon of the session outlives it")
	}
	if got := m.said(launched); got != "asked" {
		t.Errorf("the daemon of the session was not asked to end: %q", got)
	}
	if got := alive(); got != "broker true, daemon in its cgroup true, daemon in a scope true" {
		t.Errorf("after a logout with lingering: %s", got)
	}
	t.Logf("logout, lingering: a daemon in the session's cgroup ends; %s", alive())

	// Logout of a user who does not.
	m.login()
	if again := m.ask("pid"); again != broker {
		t.Errorf("the second login has another broker: %s, not %s", again, broker)
	}
	m.root("loginctl", "disable-linger", systemdns.Name)
	m.terminateUser()
	if got := alive(); got != "broker false, daemon in its cgroup false, daemon in a scope false" {
		t.Errorf("after the end of the user's manager: %s", got)
	}
	t.Logf("terminate-user: %s; the one in the broker's cgroup was %s, the one in a scope was %s", alive(),
		told(m.said(besideFile)), told(m.said(apartFile)))
	for file, want := range map[string]string{systemdns.Home + "/stopped": broker, besideFile: "started", apartFile: "asked"} {
		if got := m.said(file); got != want {
			t.Errorf("%s says %q, want %q", file, got, want)
		}
	}
	m.eventually("the user's run-time files are gone", func() bool {
		_, err := os.Lstat(m.s.Path(systemdns.RuntimeDir))
		return errors.Is(err, fs.ErrNotExist)
	})

	// The next login finds everything as it was installed.
	m.login()
	m.expect(service, "ActiveState=active", "UnitFileState=enabled")
	if next := m.ask("pid"); next == "" {
		t.Error("no broker")
	}
	// Lingering or not, terminate-user ends the user's manager.
	m.root("loginctl", "enable-linger", systemdns.Name)
	broker = m.ask("pid")
	m.terminateUser()
	if m.lives(broker) {
		t.Error("the broker outlives the user's manager")
	}
	m.login()
	m.ask("pid")
}

func told(said string) string {
	if said == "asked" {
		return "asked to end"
	}
	return "killed without being asked"
}
