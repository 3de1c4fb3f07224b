//go:build unix

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLongRoot: R12. Under a path that no socket address can hold, the endpoint
// has a name that any program can dial.
func TestLongRoot(t *testing.T) {
	w := newWorld(t)
	w.root = filepath.Join(w.dir, strings.Repeat("long/", 60))
	w.env = append(w.env, "FASTBIND_RUNTIME_DIR="+w.root)
	pid := w.dial()
	if again := w.dial(); again != pid {
		t.Error("two daemons")
	}
	sock := strings.TrimPrefix(w.must("start"), "ok ")
	if len(sock) > 103 {
		t.Errorf("the printed endpoint has %d bytes: %s", len(sock), sock)
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatalf("the printed endpoint cannot be dialled: %v", err)
	}
	_ = conn.Close()
	t.Run("curl", func(t *testing.T) { curlLongRoot(t, w) })
	// A cleaner removes the alias: it is made again.
	remove(t, filepath.Dir(sock))
	if again := w.dial(); again != pid {
		t.Error("a removed alias costs the daemon")
	}
	w.must("stop")
	remove(t, filepath.Dir(sock))
}

// curlLongRoot asks a foreign web server below a root that no socket address can
// hold, by the path that start prints.
func curlLongRoot(t *testing.T, w *world) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here")
	}
	sock, err := w.output(w.command("fastbind", "start", "web", "--", w.plaind(), "-http"))
	if err != nil {
		t.Fatal(err, sock)
	}
	cmd := exec.Command(curl, "-sS", "--unix-socket", sock, "http://web/hello")
	if out, err := w.output(cmd); err != nil || out != "GET /hello" {
		t.Errorf("curl --unix-socket %s: %v: %s", sock, err, out)
	}
	if out, err := w.output(w.command("fastbind", "stop", "web")); err != nil {
		t.Error(err, out)
	}
}

// TestSameDaemonEverywhere: R13. A shell with an odd XDG_RUNTIME_DIR, one with a
// broken one, env -i, cron and ssh meet one daemon.
func TestSameDaemonEverywhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be a user without a home and a runtime directory")
	}
	w := newWorld(t)
	uid := 20000 + os.Getpid()%10000
	odd, home := filepath.Join(w.dir, "odd"), filepath.Join(w.dir, "home")
	for _, d := range []string{odd, home} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll("/tmp/fastbind-" + itoa(uid)) })
	environments := map[string][]string{
		"odd XDG_RUNTIME_DIR":     {"XDG_RUNTIME_DIR=" + odd, "HOME=" + home, "PATH=/usr/bin:/bin"},
		"invalid XDG_RUNTIME_DIR": {"XDG_RUNTIME_DIR=/nonexistent", "HOME=" + home},
		"foreign XDG_RUNTIME_DIR": {"XDG_RUNTIME_DIR=" + w.dir, "HOME=" + home},
		"env -i":                  {},
		"cron":                    {"HOME=" + home, "LOGNAME=x", "SHELL=/bin/sh", "PATH=/usr/bin:/bin"},
		"ssh":                     {"HOME=" + home, "USER=x", "SSH_CONNECTION=::1 1 ::1 22", "XDG_RUNTIME_DIR=/run/user/" + itoa(uid)},
	}
	dialAs := func(env []string, verb string) string {
		cmd := w.command("testprog", verb)
		cmd.Env = env
		asUser(cmd, uid)
		out, err := w.output(cmd)
		if err != nil {
			t.Errorf("%v: %v: %s", env, err, out)
		}
		return strings.Join(strings.Fields(out + " - -")[:2], " ")
	}
	for first := range environments {
		t.Run(first+" first", func(t *testing.T) {
			answer := dialAs(environments[first], "dial")
			for name, env := range environments {
				if got := dialAs(env, "dial"); got != answer {
					t.Errorf("%s: %q answered, %q before", name, got, answer)
				}
			}
			dialAs(nil, "stop")
		})
	}
}

// TestTmpfilesClean: R11. systemd-tmpfiles may clean the root down to the last
// name it dares to take.
func TestTmpfilesClean(t *testing.T) {
	if _, err := exec.LookPath("systemd-tmpfiles"); err != nil {
		t.Skip("no systemd-tmpfiles here")
	}
	w := newWorld(t)
	w.dial()
	loop := w.startClient("loop")
	if line := loop.line(); line != "looping" {
		t.Fatal(line)
	}
	conf := filepath.Join(w.dir, "clean.conf")
	if err := os.WriteFile(conf, []byte("d "+w.root+" 0700 - - 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := names(t, w.root)
	cmd := exec.Command("systemd-tmpfiles", "--clean", conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after := names(t, w.root)
	if len(after) >= len(before) {
		t.Fatalf("it cleaned nothing: %q", after)
	}
	t.Logf("left of %d names: %q", len(before), after)
	pid := w.dial()
	if again := w.dial(); again != pid {
		t.Errorf("two daemons: %s and %s", pid, again)
	}
	if out, err := loop.finish(); err != nil {
		t.Errorf("a connection was cut: %v: %s", err, out)
	}
	w.eventually("one living generation", func() bool { return len(w.living("t")) == 1 })
}

func names(t *testing.T, root string) []string {
	t.Helper()
	var list []string
	if err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		list = append(list, strings.TrimPrefix(path, root))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestLacks: what a system can lack for a launch is a typed error each, leaves
// nothing behind, and the next dial works.
func TestLacks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount file systems and become a user with limits")
	}
	for _, c := range []struct {
		name   string
		script string // runs the failing dial in its own mount namespace
		want   []string
	}{
		{"read-only file system", `mkdir -p "$ROOT" && chmod 700 "$ROOT" && mount -t tmpfs -o ro,mode=700 none "$ROOT" && $TESTPROG dial`,
			[]string{"typed", "errno=30"}},
		{"full file system", `mkdir -p "$ROOT" && chmod 700 "$ROOT" && mount -t tmpfs -o size=4k,nr_inodes=3,mode=700 none "$ROOT" &&
			$TESTPROG dial; s=$?; find "$ROOT" -type s; exit $s`,
			[]string{"typed", "errno=28"}},
		{"full file system for contents", `mkdir -p "$ROOT" && chmod 700 "$ROOT" && mount -t tmpfs -o size=4k,mode=700 none "$ROOT" &&
			head -c 4096 /dev/zero >"$ROOT/fill" && $TESTPROG dial; s=$?; find "$ROOT" -type s; exit $s`,
			[]string{"typed", "errno=28"}},
		{"no descriptors", `ulimit -n 9; $TESTPROG dial`, []string{"typed", "errno=24"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			out, err := w.shell(`export ROOT=` + w.root + `; unshare -m /bin/sh -c '` + strings.ReplaceAll(c.script, "'", `'"'"'`) + `'`)
			if err == nil {
				t.Fatalf("the dial succeeded: %s", out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("the error lacks %q: %s", want, out)
				}
			}
			if strings.Contains(out, "\n"+w.root) {
				t.Errorf("a socket is left behind: %s", out)
			}
			if w.execs() != 0 {
				t.Errorf("%d execs", w.execs())
			}
			w.dial()
		})
	}
}

// TestForkRefused: a user with too many processes gets the typed error of the
// fork, and the next dial works. The limit counts threads too, so the one at
// which this program just has its threads and cannot fork is searched for; below
// it the Go runtime ends the program.
func TestForkRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become a user with a limit")
	}
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("no prlimit here")
	}
	w := newWorld(t)
	uid := 30000 + os.Getpid()%10000
	if err := os.Chown(w.dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	prlimit, _ := exec.LookPath("prlimit")
	// How many threads it has at its fork varies, so this takes some attempts,
	// each with a service of its own: a failed launch spends a budget.
	refused := false
	for attempt := 0; attempt < 100 && !refused; attempt++ {
		cmd := w.command("testprog", "dial", "-name=try"+itoa(attempt))
		cmd.Args = append([]string{"prlimit", "--nproc=" + itoa(3+attempt%6), cmd.Path}, cmd.Args[1:]...)
		cmd.Path = prlimit
		asUser(cmd, uid)
		out, _ := w.output(cmd)
		refused = strings.Contains(out, "stage=spawn") && strings.Contains(out, "errno=11")
	}
	if !refused {
		t.Error("no limit refused the fork alone")
	}
	cmd := w.command("testprog", "dial")
	asUser(cmd, uid)
	if out, err := w.output(cmd); err != nil {
		t.Errorf("the next dial: %v: %s", err, out)
	}
	if n := len(w.living("t")); n != 1 {
		t.Errorf("%d living generations", n)
	}
}

// TestStateAndPurge: R33. A user whose XDG_STATE_HOME is another user's gets logs
// at home, whatever links lead elsewhere; and a purge leaves nothing behind.
func TestStateAndPurge(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	w := newWorld(t)
	uid := 50000 + os.Getpid()%10000
	home, theirs := filepath.Join(w.dir, "home"), filepath.Join(w.dir, "theirs")
	secret := filepath.Join(home, "secret")
	for _, d := range []struct {
		path  string
		owner int
	}{{home, uid}, {secret, uid}, {theirs, uid + 1}, {theirs + "/fastbind", uid + 1}} {
		if err := os.Mkdir(d.path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d.path, d.owner, d.owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, theirs+"/fastbind/default"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret+"/web.log", []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(secret+"/web.log", uid, uid); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	anchor := "/tmp/fastbind-" + itoa(uid)
	t.Cleanup(func() { _ = os.RemoveAll(anchor) })
	fastbind := func(args ...string) string {
		t.Helper()
		cmd := w.command("fastbind", args...)
		cmd.Env = []string{"HOME=" + home, "XDG_STATE_HOME=" + theirs, "PATH=" + os.Getenv("PATH")}
		asUser(cmd, uid)
		out, err := w.output(cmd)
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		return out
	}
	fastbind("start", "web", "--foreign=false", "--", w.bin+"/testprog", "daemon")
	log := home + "/.local/state/fastbind/default/web.log"
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}
	fastbind("stop", "web")
	placement := anchor + "/.placed/default/web"
	if fi, err := os.Lstat(placement); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Error(fi, err)
	}
	if out := fastbind("purge", "--dry-run"); !strings.Contains(out, log) || !strings.Contains(out, placement) || strings.Contains(out, theirs) {
		t.Errorf("it would purge %s", out)
	}
	fastbind("purge")
	if left, err := os.ReadDir(secret); len(left) != 1 || err != nil {
		t.Errorf("behind the link is %v, %v", left, err)
	}
	if _, err := os.Lstat(log); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", log, err)
	}
	left, err := os.ReadDir(anchor)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s is left", e.Name())
	}
}
