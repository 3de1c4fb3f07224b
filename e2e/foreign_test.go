//go:build linux

package e2e

import (
	"bytes"
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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A foreign daemon is one of somebody else, unchanged. Its definition is
// foreign/NAME.toml, its real work foreign/NAME.sh if there is such a file.
type foreign struct {
	name     string
	packages []string // of Debian
	version  string   // a command that prints it

	// line is the same definition as the file's, on the command line.
	line []string

	// ask is its own client's question, want what the answer looks like: with a
	// first group, that is the pid of who answered, the daemon's or its child's.
	ask  []string
	want string

	// send is a request for fastbind dial, and reply what is answered.
	send, reply string

	// orphans says what its children, who accept, do after a kill -9 of the
	// daemon: "stay", or "leave" once they see that it is gone.
	orphans string
}

const httpRequest = "GET / HTTP/1.0\r\n\r\n"

var foreigners = []foreign{
	{
		name: "emacs", packages: []string{"emacs-nox"}, version: "emacs --version",
		line: []string{"--", "emacs", "-Q", "--fg-daemon"},
		ask:  []string{"emacsclient", "--socket-name=@ENDPOINT@", "--eval", "(emacs-pid)"}, want: `^(\d+)$`,
		send: "-eval (emacs-pid)\n", reply: `-print (\d+)`,
	},
	{
		name: "podman", packages: []string{"podman", "crun"}, version: "podman --version",
		line: []string{"--", "podman", "--root", "@DIR@/podman/root", "--runroot", "@DIR@/podman/run",
			"--storage-driver", "vfs", "system", "service", "--time=0"},
		ask:  []string{"podman", "--remote", "--url", "unix://@ENDPOINT@", "version", "--format", "{{.Server.Version}}"},
		want: `^\d+\.\d+\.\d+$`,
		send: "GET /_ping HTTP/1.0\r\n\r\n", reply: `200 OK\r\n(?s:.*)\r\n\r\nOK$`,
	},
	{
		name: "gpg-agent", packages: []string{"gpg-agent", "gpg", "gpgconf"}, version: "gpg-agent --version",
		line: []string{"--env", "GNUPGHOME=@DIR@/gnupg", "--", "gpg-agent", "--supervised"},
		ask:  []string{"gpg-connect-agent", "-S", "@ENDPOINT@", "GETINFO pid", "/bye"}, want: `^D (\d+)\nOK$`,
		send: "GETINFO pid\nBYE\n", reply: `\nD (\d+)\nOK\n`,
	},
	{
		name: "nginx", packages: []string{"nginx-light", "curl"}, version: "/usr/sbin/nginx -v",
		line: []string{"--fd-env", "NGINX={fd};", "--", "/usr/sbin/nginx", "-e", "stderr", "-p", "@DIR@/nginx", "-c", "@DIR@/nginx.conf"},
		ask:  []string{"curl", "-sS", "--unix-socket", "@ENDPOINT@", "http://nginx/"}, want: `^nginx [\d.]+ pid (\d+)$`,
		send: httpRequest, reply: `nginx [\d.]+ pid (\d+)`,
		orphans: "stay",
	},
	{
		name: "php-fpm", packages: []string{"php8.2-fpm", "libfcgi-bin"}, version: "php-fpm8.2 --version",
		line: []string{"--fd-env", "FPM_SOCKETS={socket}={fd}", "--", "/usr/sbin/php-fpm8.2", "--allow-to-run-as-root", "-n",
			"--fpm-config", "@DIR@/php-fpm.conf"},
		ask:  []string{"env", "SCRIPT_FILENAME=@DIR@/pid.php", "REQUEST_METHOD=GET", "cgi-fcgi", "-bind", "-connect", "@ENDPOINT@"},
		want: `php [\d.]+ pid (\d+)$`,
		// FastCGI: version 1, FCGI_GET_VALUES with one empty value.
		send: "\x01\x09\x00\x00\x00\x11\x00\x00\x0f\x00FCGI_MPXS_CONNS", reply: `^\x01\x0a(?s:.*)FCGI_MPXS_CONNS0`,
		orphans: "stay",
	},
	{
		name: "haproxy", packages: []string{"haproxy", "curl"}, version: "haproxy -v",
		line: []string{"--fd-env", "LISTENER={fd}", "--", "/usr/sbin/haproxy", "-db", "-f", "@DIR@/haproxy.cfg"},
		ask:  []string{"curl", "-sS", "--unix-socket", "@ENDPOINT@", "http://haproxy/"}, want: `^haproxy pid (\d+)$`,
		send: httpRequest, reply: `haproxy pid (\d+)`,
	},
	{
		name: "gunicorn", packages: []string{"gunicorn", "curl"}, version: "gunicorn --version",
		line: []string{"--", "gunicorn", "--chdir", "@DIR@", "wsgi:app"},
		ask:  []string{"curl", "-sS", "--unix-socket", "@ENDPOINT@", "http://gunicorn/"}, want: `^gunicorn pid (\d+)$`,
		send: httpRequest, reply: `gunicorn pid (\d+)`,
		orphans: "leave",
	},
	{
		name: "uvicorn", packages: []string{"uvicorn", "curl"}, version: "uvicorn --version",
		line: []string{"--", "uvicorn", "--app-dir", "@DIR@", "--fd", "{fd}", "--lifespan", "off", "asgi:app"},
		ask:  []string{"curl", "-sS", "--unix-socket", "@ENDPOINT@", "http://uvicorn/"}, want: `^uvicorn pid (\d+)$`,
		send: httpRequest, reply: `uvicorn pid (\d+)`,
	},
	{
		name: "lighttpd", packages: []string{"lighttpd", "curl"}, version: "/usr/sbin/lighttpd -v",
		line: []string{"--", "/usr/sbin/lighttpd", "-D", "-f", "@DIR@/lighttpd.conf"},
		ask:  []string{"curl", "-sS", "--unix-socket", "@ENDPOINT@", "http://lighttpd/ppid.cgi"}, want: `^lighttpd/[\d.]+ pid (\d+)$`,
		send: "GET /ppid.cgi HTTP/1.0\r\n\r\n", reply: `lighttpd/[\d.]+ pid (\d+)`,
	},
	{
		name: "dbus", packages: []string{"dbus-daemon", "dbus-bin"}, version: "dbus-daemon --version",
		line: []string{"--", "dbus-daemon", "--session", "--address=systemd:", "--nofork", "--nopidfile", "--nosyslog"},
		ask: []string{"dbus-send", "--bus=unix:path=@ENDPOINT@", "--print-reply=literal", "--dest=org.freedesktop.DBus", "/",
			"org.freedesktop.DBus.GetConnectionUnixProcessID", "string:org.freedesktop.DBus"}, want: `^\s*uint32 (\d+)$`,
		send: "\x00AUTH EXTERNAL 30\r\n", reply: `^OK [0-9a-f]{32}$`,
	},
	{
		name: "redis", packages: []string{"redis-server", "redis-tools"}, version: "redis-server --version",
		line: []string{"--bind", "daemon", "--bound-within", "10s", "--", "redis-server", "--port", "0", "--unixsocket", "{socket}",
			"--unixsocketperm", "600", "--dir", "@DIR@/redis", "--save", ""},
		ask: []string{"bash", "-c", "redis-cli -s @ENDPOINT@ INFO server | grep process_id"}, want: `^process_id:(\d+)$`,
		send: "PING\r\nQUIT\r\n", reply: `^\+PONG\r\n\+OK$`,
	},
	{
		name: "tmux", packages: []string{"tmux"}, version: "tmux -V",
		line: []string{"--bind", "daemon", "--bound-within", "10s", "--", "tmux", "-f", "/dev/null", "-S", "{socket}", "-D"},
		ask:  []string{"tmux", "-N", "-S", "@ENDPOINT@", "start-server", ";", "display-message", "-p", "#{pid}"}, want: `^(\d+)$`,
	},
}

// foreignTools are built and installed once, and only for whoever asks.
var foreignTools = sync.OnceValues(func() (string, error) {
	if err := installForeign(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "fastbind-foreign-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "../cmd/fastbind")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return dir, nil
})

// installForeign installs the packages that are missing. None of them may start
// a daemon of the system's: that is what policy-rc.d is for (invoke-rc.d(8)).
func installForeign() error {
	var missing []string
	for _, f := range foreigners {
		for _, p := range f.packages {
			state, _ := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Abbrev}", p).Output()
			if !strings.HasPrefix(string(state), "ii") && !slices.Contains(missing, p) {
				missing = append(missing, p)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing packages; as root: apt-get %s", strings.Join(args, " "))
	}
	const policy = "/usr/sbin/policy-rc.d"
	f, err := os.OpenFile(policy, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err == nil {
		defer os.Remove(policy)
		_, err = f.WriteString("#!/bin/sh\nexit 101\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil && !os.IsExist(err) {
		return err
	}
	for _, a := range [][]string{{"update", "-qq"}, args} {
		cmd := exec.Command("apt-get", a...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(a, " "), err, out)
		}
	}
	return nil
}

// TestForeign runs daemons of others, unchanged, under the command, and uses
// each with its own client. What it logs, with -v, is kept in docs/foreign.md.
func TestForeign(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_FOREIGN") != "1" {
		t.Skip("installs and runs daemons of others; FASTBIND_E2E_FOREIGN=1 asks for it")
	}
	bin, err := foreignTools()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range foreigners {
		t.Run(f.name, func(t *testing.T) {
			w := newForeignWorld(t, bin, f)
			w.crowd()
			w.work()
			w.handedOver()
			w.again(true)
			w.killed()
			w.stopped()
			t.Log("\n" + w.transcript.String())
		})
	}
}

// A foreignWorld is a world for one foreign daemon.
type foreignWorld struct {
	*world
	foreign
	files, caller, endpoint string

	shown      string       // what the transcript has for the endpoint
	phase      string       // of a daemon that runs
	transcript bytes.Buffer // commands and what they printed, for the documentation
	sessions   []int        // of each generation so far
}

func newForeignWorld(t *testing.T, bin string, f foreign) *foreignWorld {
	w := newForeignDir(t, bin)
	w.of(f)
	w.copyFiles("foreign", "")
	t.Cleanup(w.killSessions)
	return w
}

// newForeignDir is a world with everything but a daemon and its files.
func newForeignDir(t *testing.T, bin string) *foreignWorld {
	w := &foreignWorld{world: newWorld(t), phase: "bound"}
	w.bin = bin
	w.files, w.caller = filepath.Join(w.dir, "files"), filepath.Join(w.dir, "caller")
	xdg := filepath.Join(w.dir, "xdg")
	config := filepath.Join(w.dir, "config")
	for _, d := range []string{w.files, w.caller, xdg, config, w.files + "/gnupg", w.files + "/nginx", w.files + "/redis"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "PATH="+bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR="+w.dir,
		"XDG_RUNTIME_DIR="+xdg, "DIR="+w.files, "GNUPGHOME="+w.files+"/gnupg", "LC_ALL=C.UTF-8", "FASTBIND_CANARY=canary")
	return w
}

// of makes the daemon the world's. Where clients will dial is known before anything
// runs.
func (w *foreignWorld) of(f foreign) {
	w.foreign, w.endpoint = f, filepath.Join(w.service(f.name), "sock")
	w.shown = "$(fastbind start " + f.name + ")"
}

// copyFiles copies what is in a directory and begins with prefix, with the names of
// this world in it.
func (w *foreignWorld) copyFiles(from, prefix string) {
	w.t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			w.t.Fatal(err)
		}
		to := filepath.Join(w.files, e.Name())
		if strings.HasSuffix(e.Name(), ".toml") {
			to = filepath.Join(w.dir, "config", e.Name())
		}
		if err := os.WriteFile(to, []byte(w.fill(string(b))), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// fill puts this world's names into a text, and hide takes them out again.
func (w *foreignWorld) fill(s string) string {
	return strings.NewReplacer("@DIR@", w.files, "@ENDPOINT@", w.endpoint).Replace(s)
}

func (w *foreignWorld) hide(s string) string {
	return strings.NewReplacer(w.root+"/.state", "$XDG_STATE_HOME/fastbind", w.root, "$XDG_RUNTIME_DIR/fastbind",
		filepath.Join(w.dir, "config"), "$XDG_CONFIG_HOME/fastbind", w.files, "$DIR", w.dir, "$HOME").Replace(s)
}

// try runs a command as the caller, whose end every command must outlast: what
// keeps its stdout open keeps output waiting.
func (w *foreignWorld) try(args []string, edit func(*exec.Cmd)) (string, error) {
	cmd := exec.Command("env", args...) // finds it by the caller's PATH
	cmd.Env, cmd.Dir = w.env, w.caller
	cmd.WaitDelay = deadline
	if edit != nil {
		edit(cmd)
	}
	return w.output(cmd)
}

// do runs a command that must succeed, and keeps what it printed.
func (w *foreignWorld) do(args ...string) string {
	w.t.Helper()
	out, err := w.try(args, nil)
	if err != nil {
		w.t.Fatalf("%q: %v\n%s\n%s", args, err, out, w.logs())
	}
	w.keep(args, out)
	return out
}

func (w *foreignWorld) keep(args []string, out string) {
	words := slices.Clone(args)
	for i, a := range words {
		if a == "" || strings.ContainsAny(a, " ;{}()#$\n") {
			words[i] = "'" + a + "'"
		}
	}
	line := strings.ReplaceAll(strings.Join(words, " "), w.endpoint, w.shown)
	fmt.Fprintf(&w.transcript, "$ %s\n%s\n", w.hide(line), strings.ReplaceAll(w.hide(out), "\r\n", "\n"))
}

// question is the client's command line.
func (w *foreignWorld) question() []string {
	words := make([]string, len(w.ask))
	for i, a := range w.ask {
		words[i] = w.fill(a)
	}
	return words
}

// answerer checks an answer and returns the pid of the daemon that gave it, 0 if
// answers do not tell.
func (w *foreignWorld) answerer(pattern, answer string) (int, error) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(answer)
	if m == nil {
		return 0, fmt.Errorf("the answer is %q, want %s", answer, pattern)
	}
	if len(m) == 1 {
		return 0, nil
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	p, ok := processes()[pid]
	if !ok {
		return 0, fmt.Errorf("pid %d answered, and is no process", pid)
	}
	return p.session, nil // whoever accepts is in the session that the launch made
}

// current is the pid of the only living generation, and its number.
func (w *foreignWorld) current() (pid int, number uint64) {
	w.t.Helper()
	alive := w.living(w.name)
	if len(alive) != 1 {
		w.t.Fatalf("%d living generations, want 1\n%s", len(alive), w.logs())
	}
	pid = alive[0].Record.PID
	if !slices.Contains(w.sessions, pid) {
		w.sessions = append(w.sessions, pid)
	}
	return pid, alive[0].Number
}

// crowd lets 20 clients come at once, when nothing runs: one process is
// launched, and all are answered by it. Each has a stray descriptor 9, a pipe
// that must end when they have (R1, R4).
func (w *foreignWorld) crowd() {
	w.t.Helper()
	r, stray, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	const n = 20
	pids := w.clients(n, stray)
	pid, number := w.current()
	if all := w.generations(w.name); len(all) != 1 || number != 1 {
		w.t.Errorf("a crowd of %d launched %d generations, the last one number %d", n, len(all), number)
	}
	for i, p := range pids {
		if p != 0 && p != pid {
			w.t.Errorf("client %d was answered by the session of %d, want %d", i, p, pid)
		}
	}
	fmt.Fprintf(&w.transcript, "# %d clients at once, nothing runs: %d answers, generation %d, pid %d\n", n, n, number, pid)
	_ = stray.Close()
	_ = r.SetReadDeadline(time.Now().Add(deadline))
	if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
		w.t.Errorf("the stray descriptor lives on: read %q, %v", b, err)
	}
}

// clients lets n clients come at once, and returns who answered each. With a stray
// descriptor each starts the daemon first, and has it as its descriptor 9; else it
// only connects.
func (w *foreignWorld) clients(n int, stray *os.File) []int {
	w.t.Helper()
	pids, errs := make([]int, n), make([]error, n)
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-gate
			out, err := w.endpoint, error(nil)
			if stray != nil {
				out, err = w.try([]string{"fastbind", "start", w.name}, func(cmd *exec.Cmd) {
					cmd.ExtraFiles = []*os.File{6: stray}
				})
			}
			if err == nil && out != w.endpoint {
				err = fmt.Errorf("printed %q, want %q", out, w.endpoint)
			}
			if err == nil {
				out, err = w.try(w.question(), nil)
			}
			if err == nil {
				pids[i], err = w.answerer(w.want, out)
			}
			if err != nil {
				errs[i] = fmt.Errorf("client %d: %w\n%s", i, err, out)
			}
		})
	}
	close(gate)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		w.t.Fatalf("%v\n%s", err, w.logs())
	}
	return pids
}

// work shows version, client and real work.
func (w *foreignWorld) work() {
	w.t.Helper()
	w.keep(strings.Fields(w.version), w.says())

	// The file and the command line are one definition; another one is refused.
	words := []string{"fastbind", "start", w.name}
	for _, a := range w.line {
		words = append(words, w.fill(a))
	}
	if out := w.do(words...); out != w.endpoint {
		w.t.Errorf("start printed %q, want %q", out, w.endpoint)
	}
	if out, err := w.try(append(words, "--other"), nil); exitStatus(err) != 5 {
		w.t.Errorf("another command line is not refused: %v\n%s", err, out)
	}
	if pid, err := w.answerer(w.want, w.do(w.question()...)); err != nil {
		w.t.Error(err)
	} else if have, _ := w.current(); pid != 0 && pid != have {
		w.t.Errorf("answered by the session of %d, want %d", pid, have)
	}
	w.script()
}

// says is the first line of what it says its version is.
func (w *foreignWorld) says() string {
	w.t.Helper()
	v, err := w.try(strings.Fields(w.version), nil)
	if err != nil {
		w.t.Fatal(v, err)
	}
	first, _, _ := strings.Cut(v, "\n")
	return first
}

// script does its real work, if there is any.
func (w *foreignWorld) script() {
	w.t.Helper()
	if _, err := os.Stat("foreign/" + w.name + ".sh"); err == nil {
		script, err := w.try([]string{"timeout", "60", "bash", filepath.Join(w.files, w.name+".sh"), w.endpoint}, nil)
		if err != nil {
			w.t.Errorf("%s.sh: %v\n%s\n%s", w.name, err, script, w.logs())
		}
		w.keep([]string{"bash", w.name + ".sh", w.endpoint}, script)
	}
}

// handedOver looks at the daemon from outside: status names it, and it and its
// children have nothing of the caller's (R4, R17, R18, R34).
func (w *foreignWorld) handedOver() {
	w.t.Helper()
	pid, _ := w.current()
	var reply struct {
		Services []struct {
			Phase, Endpoint string
			PID             int
		}
	}
	out := w.do("fastbind", "status", w.name, "--json")
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		w.t.Fatal(err)
	}
	if len(reply.Services) != 1 || reply.Services[0].PID != pid || reply.Services[0].Phase != w.phase ||
		reply.Services[0].Endpoint != w.endpoint {
		w.t.Errorf("status %+v, want pid %d, phase %s and endpoint %s", reply.Services, pid, w.phase, w.endpoint)
	}
	members := inSession(pid)
	if !slices.Contains(members, pid) {
		w.t.Errorf("the daemon, %d, does not lead its session", pid)
	}
	for _, m := range members {
		dir := "/proc/" + itoa(m) + "/"
		environ, err := os.ReadFile(dir + "environ")
		if err != nil {
			continue // it has ended
		}
		if bytes.Contains(environ, []byte("FASTBIND_CANARY")) {
			w.t.Errorf("process %d has the caller's canary variable", m)
		}
		if cwd, err := os.Readlink(dir + "cwd"); err == nil && strings.HasPrefix(cwd, w.caller) {
			w.t.Errorf("process %d is in the caller's directory %s", m, cwd)
		}
		if ports := listeningPorts(m); len(ports) > 0 {
			w.t.Errorf("process %d listens to the network: %v", m, ports)
		}
	}
	if in, _ := os.Readlink("/proc/" + itoa(pid) + "/fd/0"); in != "/dev/null" {
		w.t.Errorf("stdin of the daemon is %s", in)
	}
}

// dialled speaks the daemon's own protocol through fastbind dial, which also
// launches.
func (w *foreignWorld) dialled() {
	w.t.Helper()
	args := []string{"fastbind", "dial", w.name, "--timeout", "1m"}
	out, err := w.try(args, func(cmd *exec.Cmd) { cmd.Stdin = strings.NewReader(w.send) })
	if err == nil {
		var pid int
		if pid, err = w.answerer(w.reply, out); err == nil && pid != 0 {
			if have, _ := w.current(); pid != have {
				err = fmt.Errorf("answered by the session of %d, want %d", pid, have)
			}
		}
	}
	if err != nil {
		w.t.Errorf("dial: %v\n%s\n%s", err, out, w.logs())
	}
	if !strings.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\r' && r != '\n' }) {
		request := strings.NewReplacer("\r", `\r`, "\n", `\n`, "\x00", `\0`).Replace(w.send)
		fmt.Fprintf(&w.transcript, "$ printf '%s' | %s\n%s\n", request, strings.Join(args, " "), strings.ReplaceAll(w.hide(out), "\r\n", "\n"))
	}
}

// again starts the service, by dial if there is a request for it.
func (w *foreignWorld) again(dial bool) {
	w.t.Helper()
	if dial && w.send != "" {
		w.dialled()
	} else if out := w.do("fastbind", "start", w.name); out != w.endpoint {
		w.t.Errorf("start printed %q", out)
	}
}

// killed is kill -9 of the daemon: the next client works (R9).
func (w *foreignWorld) killed() {
	w.t.Helper()
	before, number := w.current()
	w.kill9(w.name)
	fmt.Fprintf(&w.transcript, "$ kill -9 %d\n", before)
	if w.orphans == "stay" {
		// Its children hold the listener and accept: the endpoint lives, so
		// nothing is launched beside it. They go when somebody ends them.
		if out := w.do("fastbind", "start", w.name); out != w.endpoint {
			w.t.Errorf("start printed %q", out)
		}
		if out, err := w.try(w.question(), nil); err != nil {
			w.t.Errorf("its children do not answer: %v\n%s", err, out)
		}
		if all := w.generations(w.name); len(all) != 1 {
			w.t.Errorf("launched beside a living endpoint: %d generations", len(all))
		}
		fmt.Fprintf(&w.transcript, "$ pkill -9 --session %d\n", before)
		w.killSessions()
	}
	var pid int
	w.eventually("a new generation answers", func() bool {
		// A client may yet have met a child that was about to leave.
		out, err := w.try([]string{"fastbind", "start", w.name}, nil)
		if err == nil {
			out, err = w.try(w.question(), nil)
		}
		if err == nil {
			pid, err = w.answerer(w.want, out)
		}
		if err != nil && w.orphans == "" {
			w.t.Fatalf("the next client: %v\n%s\n%s", err, out, w.logs())
		}
		return err == nil && len(w.living(w.name)) == 1
	})
	after, next := w.current()
	w.do(w.question()...)
	if after == before || next != number+1 || pid != 0 && pid != after {
		w.t.Errorf("generation %d, pid %d, answered by %d, after generation %d, pid %d", next, after, pid, number, before)
	}
}

// stopped is stop, after which nothing of it runs, and the start after it.
func (w *foreignWorld) stopped() {
	w.t.Helper()
	for _, dial := range []bool{false, true} {
		pid, number := w.current()
		h, err := w.living(w.name)[0].Open()
		if err != nil {
			w.t.Fatal(err)
		}
		want := fmt.Sprintf("%s: stopped generation %d, pid %d", w.name, number, pid)
		if out := w.do("fastbind", "stop", w.name); out != want {
			w.t.Errorf("stop printed %q, want %q", out, want)
		}
		if h.Alive() {
			w.t.Errorf("stop returned and the daemon, %d, lives", pid)
		}
		if err := h.Close(); err != nil {
			w.t.Error(err)
		}
		w.eventually("its children are gone", func() bool { return len(inSession(pid)) == 0 })
		if out, err := w.try([]string{"fastbind", "status", w.name}, nil); exitStatus(err) != 3 {
			w.t.Errorf("status after stop: %v\n%s", err, out)
		}
		if c, err := net.Dial("unix", w.endpoint); err == nil {
			_ = c.Close()
			w.t.Error("somebody accepts after stop")
		}
		// The file still says how to start it.
		w.again(dial)
		if out, err := w.try(w.question(), nil); err != nil {
			w.t.Errorf("after stop and start: %v\n%s\n%s", err, out, w.logs())
		}
	}
	w.do("fastbind", "stop", w.name)
}

// killSessions ends what is left of the generations seen so far. A session's
// number is not given to another process while the session has a member.
func (w *foreignWorld) killSessions() {
	for _, s := range w.sessions {
		for _, pid := range inSession(s) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for _, s := range w.sessions {
		for len(inSession(s)) > 0 {
			select {
			case <-ctx.Done():
				w.t.Errorf("processes of session %d survive kill -9", s)
				return
			case <-tick.C:
			}
		}
	}
}

type process struct{ session int }

// processes are those that live; a zombie does not.
func processes() map[int]process {
	all := map[int]process{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// After the name in parentheses: state, parent, group, session.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 4 || f[0] == "Z" || f[0] == "X" {
			continue
		}
		session, _ := strconv.Atoi(f[3])
		all[pid] = process{session}
	}
	return all
}

func inSession(session int) []int {
	var pids []int
	for pid, p := range processes() {
		if p.session == session {
			pids = append(pids, pid)
		}
	}
	return pids
}

// listeningPorts are the addresses of the network sockets of a process that
// take connections or datagrams.
func listeningPorts(pid int) []string {
	dir := "/proc/" + itoa(pid)
	mine := map[string]bool{}
	fds, _ := os.ReadDir(dir + "/fd")
	for _, fd := range fds {
		link, _ := os.Readlink(dir + "/fd/" + fd.Name())
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []string
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, _ := os.ReadFile(dir + "/net/" + table)
		for line := range strings.Lines(string(b)) {
			// sl local remote state … inode; 0A is listening, 07 an open UDP socket.
			f := strings.Fields(line)
			if len(f) > 9 && mine[f[9]] && (f[3] == "0A" || f[3] == "07") {
				ports = append(ports, table+" "+f[1])
			}
		}
	}
	return ports
}

func exitStatus(err error) int {
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode()
	}
	return 0
}

// TestForeignDocs: what the documentation shows is what TestForeign runs.
func TestForeignDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/foreign.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range foreigners {
		if !bytes.Contains(page, []byte("\n## "+f.name)) {
			t.Errorf("docs/foreign.md has no section %s", f.name)
		}
	}
	showsFiles(t, "../docs/foreign.md", "foreign")
}

// showsFiles fails unless a page has the text of every file of a directory.
func showsFiles(t *testing.T, page, dir string) {
	t.Helper()
	shown, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(shown, text) {
			t.Errorf("%s has not the text of e2e/%s/%s", page, dir, e.Name())
		}
	}
}
