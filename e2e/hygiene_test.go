//go:build unix

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// shell runs a script with $TESTPROG and $FASTBIND at hand.
func (w *world) shell(script string) (string, error) {
	w.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(w.env[:len(w.env):len(w.env)], "TESTPROG="+filepath.Join(w.bin, "testprog"), "FASTBIND="+filepath.Join(w.bin, "fastbind"))
	cmd.Dir = w.dir
	return w.output(cmd)
}

// TestOnlyWhatWasHandedOver: R4, R17, R18, R19, R38, I5. A caller's descriptors,
// directory, variables, umask, signals, limits and terminal end with it.
func TestOnlyWhatWasHandedOver(t *testing.T) {
	for name, launch := range map[string]string{
		"inherited": `$TESTPROG dial -child=$SEEN`,
		"binding":   `$TESTPROG dial -bind=daemon -child=$SEEN`,
		"foreign":   `$FASTBIND start t --wait ready --env TESTPROG_EXECS -- $TESTPROG daemon -child=$SEEN`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			seen := filepath.Join(w.dir, "grandchild")
			out, err := w.shell(`
				mkdir project && cd project && exec 9>stray 8</etc/passwd
				umask 0; trap '' HUP INT QUIT TERM USR1; ulimit -S -t 1000 -f 100000 -c unlimited
				export CANARY=secret LC_TIME=C.UTF-8 XDG_CACHE_HOME=/x XDG_SESSION_ID=7
				SEEN=` + seen + `
				env --block-signal=USR2 ` + launch)
			if err != nil {
				t.Fatal(err, out, w.logs())
			}
			w.eventually("the grandchild has ended", func() bool {
				b, _ := os.ReadFile(seen)
				return strings.Contains(string(b), "SigIgn")
			})
			pid := w.living("t")[0].Record.PID
			proc := "/proc/" + strconv.Itoa(pid) + "/"

			if cwd, _ := os.Readlink(proc + "cwd"); cwd != "/" {
				t.Errorf("its directory is %s", cwd)
			}
			w.checkFDs(proc)
			environ := strings.Split(strings.TrimSuffix(read(t, proc+"environ"), "\x00"), "\x00")
			allowed := regexp.MustCompile(`^(HOME|USER|LOGNAME|PATH|SHELL|LANG|TZ|TMPDIR|LC_\w+|XDG_\w+|TESTPROG_EXECS|FASTBIND_HANDOVER|LISTEN_\w+)=`)
			for _, e := range environ {
				if !allowed.MatchString(e) || strings.HasPrefix(e, "XDG_SESSION") {
					t.Errorf("it sees %q", e)
				}
			}
			for _, want := range []string{"LC_TIME=C.UTF-8", "XDG_CACHE_HOME=/x", "USER=", "SHELL="} {
				if !strings.Contains(strings.Join(environ, "\n"), want) {
					t.Errorf("it does not see %s: %q", want, environ)
				}
			}
			status := read(t, proc+"status")
			const none = "0000000000000000"
			for field, want := range map[string]string{"Name": "t", "Umask": "0022", "SigIgn": none} {
				if got := statusField(status, field); got != want {
					t.Errorf("%s is %s, want %s", field, got, want)
				}
			}
			stat := strings.Fields(read(t, proc+"stat"))
			if session, tty := stat[5], stat[6]; session != strconv.Itoa(pid) || tty != "0" {
				t.Errorf("its session is %s and its terminal %s", session, tty)
			}
			limits := read(t, proc+"limits")
			for _, want := range []string{`Max cpu time +unlimited`, `Max file size +unlimited`, `Max core file size +0 `, `Max stack size +8388608 `} {
				if !regexp.MustCompile(want).MatchString(limits) {
					t.Errorf("no %q in its limits:\n%s", want, limits)
				}
			}

			// The mask is seen in a child: the runtime of a Go program blocks
			// signals in threads of its own.
			child := read(t, seen)
			if blk, ign := statusField(child, "SigBlk"), statusField(child, "SigIgn"); blk != none || ign != none {
				t.Errorf("a grandchild blocks %s and ignores %s", blk, ign)
			}
			if regexp.MustCompile(`FASTBIND|LISTEN_|NOTIFY|CANARY`).MatchString(child) {
				t.Errorf("a grandchild sees a variable:\n%s", child)
			}
			if regexp.MustCompile(`socket:|life|stray|passwd`).MatchString(child) {
				t.Errorf("a grandchild sees a descriptor:\n%s", child)
			}
			if err := os.RemoveAll(filepath.Join(w.dir, "project")); err != nil {
				t.Errorf("the project cannot be deleted: %v", err)
			}
		})
	}
}

// checkFDs fails for a descriptor that the daemon was not handed and did not
// open itself.
func (w *world) checkFDs(proc string) {
	w.t.Helper()
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		w.t.Fatal(err)
	}
	ours := regexp.MustCompile(`^(/dev/null|socket:.*|anon_inode:(\[(eventpoll|eventfd|pidfd)\]|inotify)|/sys/fs/cgroup/.*|` +
		regexp.QuoteMeta(w.root) + `/.*(/life|\.log))$`)
	for _, fd := range fds {
		target, err := os.Readlink(proc + "fd/" + fd.Name())
		if err == nil && !ours.MatchString(target) {
			w.t.Errorf("descriptor %s leads to %s", fd.Name(), target)
		}
	}
}

func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCallersReturn: R4. Whoever waits for the end of a pipe that a launching
// client held gets it while the daemon lives on.
func TestCallersReturn(t *testing.T) {
	for name, script := range map[string]string{
		"fastbind in a substitution": `x=$($FASTBIND start t -- $TESTPROG daemon) && test -S "$x" && echo ok`,
		"fastbind in a pipe":         `$FASTBIND start t -- $TESTPROG daemon 2>&1 | cat >out && test -S "$(cat out)" && echo ok`,
		"fastbind with a stray":      `{ $FASTBIND start t -- $TESTPROG daemon 9>&1 >/dev/null; } | cat; echo ok`,
		"fastbind by make -j2": `printf 'all: a b\na b:\n\t+@$(FASTBIND) start t -- $(TESTPROG) daemon\n' >Makefile
			make -s -j2 | cat && echo ok`,
		"command substitution": `x=$($TESTPROG dial) && echo "$x"`,
		"pipe":                 `$TESTPROG dial 2>&1 | cat`,
		"stray descriptor":     `{ $TESTPROG dial 9>&1 >/dev/null; } | cat; echo ok`,
		"make -j2":             `printf 'all: a b\na b:\n\t+@$(TESTPROG) dial\n' >Makefile; make -s -j2 | cat`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath("make"); err != nil && strings.Contains(name, "make") {
				t.Skip("no make here")
			}
			w := newWorld(t)
			out, err := w.shell(script)
			if err != nil || !strings.Contains(out, "ok") {
				t.Errorf("%v: %s", err, out)
			}
			if len(w.living("t")) != 1 {
				t.Error("no daemon lives on")
			}
		})
	}
}

// TestSecondUser: R33, R34, I5. Another user can neither connect nor squat; a
// directory of somebody else's, a link or an open one is refused by its name.
func TestSecondUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	const other = 23456
	as := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
		return cmd
	}
	refused := func(t *testing.T, w *world, cmd *exec.Cmd, want ...string) {
		t.Helper()
		out, err := w.output(cmd)
		for _, s := range append(want, "refused=true") {
			if err == nil || !strings.Contains(out, s) {
				t.Errorf("want a refusal that says %q, got %v: %s", s, err, out)
			}
		}
	}
	t.Run("connect", func(t *testing.T) {
		w := newWorld(t)
		w.dial()
		if err := os.Chmod(w.dir, 0o711); err != nil {
			t.Fatal(err)
		}
		refused(t, w, as(w.command("testprog", "dial")))
		// With every directory and the socket open to all, the uid still counts.
		for _, p := range []string{w.root, filepath.Dir(w.service("t")), w.service("t"), w.service("t") + "/sock"} {
			if err := os.Chmod(p, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, w, as(w.command("testprog", "dial")), "peer runs as uid 0")
		nc := as(exec.Command("python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect(sys.argv[1])
try:
    s.sendall(b"1\n"); print("got", s.recv(100))
except OSError as e: print("got b''", e)`, w.service("t")+"/sock"))
		nc.Env = []string{"PATH=" + os.Getenv("PATH")}
		if _, err := exec.LookPath("python3"); err == nil {
			if out, err := w.output(nc); err == nil && !strings.Contains(out, "got b''") {
				t.Errorf("the daemon answered another user: %s", out)
			}
		}
	})
	t.Run("squat", func(t *testing.T) {
		// The other user listens where our endpoint belongs.
		w := newWorld(t)
		w.dial()
		w.must("stop")
		sock := w.service("t") + "/sock"
		remove(t, sock)
		ln, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		for _, p := range []string{w.dir, w.root, filepath.Dir(w.service("t")), w.service("t")} {
			if err := os.Chown(p, other, other); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(sock, 0o777); err != nil {
			t.Fatal(err)
		}
		refused(t, w, as(w.command("testprog", "dial")), "stage=connect", "uid 0")
	})
	for name, make := range map[string]func(t *testing.T, root string){
		"foreign": func(t *testing.T, root string) {
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(root, other, other); err != nil {
				t.Fatal(err)
			}
		},
		"symbolic link": func(t *testing.T, root string) {
			if err := os.Symlink(t.TempDir(), root); err != nil {
				t.Fatal(err)
			}
		},
		"0755": func(t *testing.T, root string) {
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			make(t, w.root)
			says := name
			if name == "foreign" {
				says = "belongs to uid 23456, not to uid 0"
			}
			refused(t, w, w.command("testprog", "dial"), "stage=directory", w.root, says)
		})
	}
}

// TestDenied: R40. A system that forbids connecting gives a typed refusal with
// one line of advice, at once: nothing is launched, nobody waits.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	uid := os.Getuid()
	if uid == 0 { // whom no mode stops
		uid = 34567
	}
	for _, d := range []string{w.dir, w.root, filepath.Dir(w.service("t")), w.service("t")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	as := func(prog string, args ...string) (string, error) {
		cmd := w.command(prog, args...)
		if uid != os.Getuid() {
			asUser(cmd, uid)
		}
		return w.output(cmd)
	}
	if out, err := as("testprog", "dial"); err != nil {
		t.Fatal(out, err)
	}
	execs := w.execs()
	for locked, hint := range map[string]string{
		w.service("t"):           "hint: chmod 700 " + w.service("t"),
		w.service("t") + "/sock": "hint: the system forbids connecting",
	} {
		fi, err := os.Stat(locked)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(locked, 0); err != nil {
			t.Fatal(err)
		}
		out, err := as("testprog", "dial", "-timeout=10m") // the test's deadline is shorter
		for _, want := range []string{"typed", "stage=connect", "errno=13", "refused=true", "deadline=false"} {
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("%s: %v: %q has no %s", locked, err, out, want)
			}
		}
		out, err = as("fastbind", "dial", "t")
		lines := strings.Split(out, "\n")
		if err == nil || len(lines) != 2 || !strings.HasPrefix(lines[0], `fastbind: "t": refused in stage `) || !strings.HasPrefix(lines[1], hint) {
			t.Errorf("%s: %v: %q", locked, err, out)
		}
		if err := os.Chmod(locked, fi.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.execs(); n != execs {
		t.Errorf("%d were launched", n-execs)
	}
	if out, err := as("testprog", "dial"); err != nil {
		t.Error("with the right to connect back: ", out, err)
	}
}
