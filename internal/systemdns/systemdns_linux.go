package systemdns

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The user who can log in. No process of the machine has that uid.
const (
	Name = "tester"
	UID  = 61184
)

// Home and RuntimeDir are the user's, inside. RuntimeDir is there while the user's
// manager runs.
const Home = "/home/" + Name

var RuntimeDir = "/run/user/" + strconv.Itoa(UID)

// limit bounds each wait: for the boot, for a command, for the end. It is generous,
// since the machine may be busy.
const limit = 2 * time.Minute

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

//go:embed boot.sh
var script string

// packages are what has to be installed: Debian's names, and a file of each, which
// other distributions have too.
var packages = map[string]string{
	"systemd":           "/lib/systemd/systemd",
	"dbus":              "/usr/bin/dbus-daemon",
	"dbus-user-session": "/usr/lib/systemd/user/dbus.socket",
	"libpam-systemd":    "/lib*/security/pam_systemd.so /lib/*/security/pam_systemd.so",
	"util-linux":        "/usr/bin/nsenter",
}

// A System is a booted one. Its methods may be called concurrently.
type System struct {
	cmd    *exec.Cmd
	log    bytes.Buffer // what process 1 prints before it has a journal; to be read when it has ended
	cgroup string       // of the machine
	ended  chan struct{}
}

// Need skips a test unless FASTBIND_E2E_SYSTEMD=1 asks for it, and installs what is
// missing.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("FASTBIND_E2E_SYSTEMD") != "1" {
		t.Skip("boots systemd in namespaces of its own, as root; FASTBIND_E2E_SYSTEMD=1 asks for it")
	}
	if err := install(); err != nil {
		t.Fatal(err)
	}
}

// Boot boots a system that ends with the test, which it fails if anything of the
// system is left. It calls Need. The directories are seen inside, read-only, at
// their own paths, which are not below /run.
func Boot(t testing.TB, dirs ...string) *System {
	t.Helper()
	Need(t)
	s, err := Start(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.Root("journalctl", "--no-pager", "--quiet", "--lines=200", "--output=short-monotonic")
			t.Logf("the end of the system's journal:\n%s", out)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Start is Boot for who calls Close. It returns when systemd says that the system
// runs.
func Start(dirs ...string) (*System, error) {
	parent, err := cgroup2()
	if err != nil {
		return nil, err
	}
	sweep(parent)
	s := &System{ended: make(chan struct{})}
	if s.cgroup, err = os.MkdirTemp(parent, prefix+strconv.Itoa(os.Getpid())+"-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.cgroup, 0o755); err != nil { // the user's manager looks below it
		return nil, errors.Join(err, os.Remove(s.cgroup))
	}
	args := append([]string{"-euc", script, "boot", s.cgroup, Name, strconv.Itoa(UID)}, dirs...)
	s.cmd = exec.Command("/bin/sh", args...)
	s.cmd.Env = []string{path, "SCRIPT=" + script}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.WaitDelay = time.Second
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL, // the system ends with this process however that ends
	}
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("new namespaces: %w", err), os.Remove(s.cgroup))
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.booted(); err != nil {
		err = errors.Join(err, s.Close())
		return nil, fmt.Errorf("%w\n%s", err, s.log.String())
	}
	return s, nil
}

// booted waits until the system runs: until systemctl finds somebody to ask, and
// then for the answer.
func (s *System) booted() error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := s.Root("systemctl", "is-system-running", "--wait")
		switch {
		case err == nil && out == "running":
			return nil
		case out == "degraded":
			failed, _ := s.Root("systemctl", "list-units", "--failed", "--no-pager", "--plain", "--no-legend")
			return fmt.Errorf("units fail: %s", failed)
		}
		select {
		case <-tick.C:
		case <-s.ended:
			return errors.New("process 1 has ended")
		case <-ctx.Done():
			return fmt.Errorf("it does not come up within %v: %s", limit, out)
		}
	}
}

// Close ends the system and waits until nothing of it is left, at most four minutes.
// The error says what is.
func (s *System) Close() error {
	_ = s.cmd.Process.Kill()
	select {
	case <-s.ended:
	case <-time.After(limit):
		return fmt.Errorf("process %d, the system's first, does not end", s.cmd.Process.Pid)
	}
	return removeCgroup(s.cgroup)
}

// Pid is process 1 as the machine sees it. What the system sees at a path is
// below /proc/PID/root.
func (s *System) Pid() int { return s.cmd.Process.Pid }

// Path returns by which name this process sees a path of the system.
func (s *System) Path(path string) string { return "/proc/" + strconv.Itoa(s.Pid()) + "/root" + path }

// Command returns the command, not started, that runs a program inside, as root
// and in no unit's cgroup.
func (s *System) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(s.Pid()), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
		"--root", "--wd", "--"}, args...)...)
	cmd.Env = []string{path, "LC_ALL=C.UTF-8", "HOME=/root"}
	return cmd
}

// UserCommand is Command for the user. It is in no session: it is there while the
// user is logged in elsewhere, or lingers.
func (s *System) UserCommand(args ...string) *exec.Cmd {
	return s.Command(slices.Concat(asUser, args)...)
}

// asUser runs what follows as the user, in the environment of a login.
var asUser = []string{"setpriv", "--reuid", strconv.Itoa(UID), "--regid", strconv.Itoa(UID), "--init-groups", "--reset-env",
	"env", "-C", Home, "LC_ALL=C.UTF-8", "XDG_RUNTIME_DIR=" + RuntimeDir, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + RuntimeDir + "/bus"}

// Root runs a program inside as root, for at most two minutes, and returns what it
// printed without the space around that, which is also in the error.
func (s *System) Root(args ...string) (string, error) { return s.output(s.Command(args...), args) }

// User is Root for the user.
func (s *System) User(args ...string) (string, error) { return s.output(s.UserCommand(args...), args) }

func (s *System) output(cmd *exec.Cmd, args []string) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	text := strings.TrimSpace(out.String())
	if !late.Stop() {
		err = fmt.Errorf("killed after %v", limit)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, err
}

// A Session is one of the user's, as a login makes it.
type Session struct {
	ID     string // of loginctl
	Leader int    // its first process, as the system sees it

	system *System
	stdin  io.WriteCloser
	ended  chan error
	once   sync.Once
}

// Login logs the user in: systemd runs a shell for the user through PAM, so that
// logind makes a session and starts the user's manager. It returns when that is
// done.
func (s *System) Login() (*Session, error) {
	// systemd expands variables before the shell does; a doubled dollar sign is one.
	cmd := s.Command("systemd-run", "--quiet", "--collect", "--pipe", "--wait", "--uid="+Name, "--property=PAMName=test-login",
		"--working-directory="+Home, "sh", "-c", `echo "$$XDG_SESSION_ID $$$$"; read end`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	session := &Session{system: s, stdin: stdin, ended: make(chan error, 1)}
	late := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	_, err = fmt.Fscan(stdout, &session.ID, &session.Leader)
	late.Stop()
	if err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("login: %w: %v: %s", err, cmd.Wait(), stderr.String())
	}
	go func() { session.ended <- cmd.Wait() }()
	// The manager has been started; its units may be on their way.
	if out, err := s.User("systemctl", "--user", "is-system-running", "--wait"); err != nil && out != "degraded" {
		return nil, errors.Join(err, session.Logout())
	}
	return session, nil
}

// Command returns the command, not started, that runs a program as the user and in
// the session's cgroup, as if it were started from the session's shell.
func (s *Session) Command(args ...string) *exec.Cmd {
	scope := fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%d.slice/session-%s.scope", UID, s.ID)
	enter := []string{"sh", "-c", `echo 0 >"$0/cgroup.procs" && exec "$@"`, scope}
	return s.system.Command(slices.Concat(enter, asUser, args)...)
}

// Logout ends the session's shell, and waits for that; what logind then does is
// not waited for. A session that was ended otherwise is none any more.
func (s *Session) Logout() error {
	var err error
	s.once.Do(func() {
		_ = s.stdin.Close()
		select {
		case <-s.ended:
		case <-time.After(limit):
			err = fmt.Errorf("session %s does not end", s.ID)
		}
	})
	return err
}

// prefix begins the names of the cgroups that are made; the pid of who has made it
// follows.
const prefix = "fastbind-systemdns-"

// cgroup2 returns where the machine has its cgroup v2 hierarchy.
func cgroup2() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(f) > 4 {
			return f[4], nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted here: mount -t cgroup2 cgroup2 DIRECTORY")
}

// sweep removes what tests that were killed have left. A cgroup that has a process
// cannot be removed.
func sweep(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		n, err := strconv.Atoi(pid)
		if err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			_ = removeTree(dir)
		}
	}
}

// removeCgroup removes a cgroup with those below it: the kernel takes a moment
// after the last process's end.
func removeCgroup(dir string) error {
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = removeTree(dir); err == nil {
			return nil
		}
	}
	return err
}

func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		if e := os.Remove(d); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// install installs the packages that are missing. None of them may start a daemon
// of the machine's: that is what policy-rc.d is for (invoke-rc.d(8)).
func install() error {
	var missing []string
	for name, files := range packages {
		there := func(pattern string) bool {
			found, _ := filepath.Glob(pattern)
			return len(found) > 0
		}
		if !slices.ContainsFunc(strings.Fields(files), there) {
			missing = append(missing, name)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("only root makes such namespaces")
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
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
	for _, args := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
