package systemdns

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// TestBoot: the user logs in and has a manager, sees what was shared and nothing
// else of the machine's, and after the last logout the manager is gone.
func TestBoot(t *testing.T) {
	reexec.Used(boots)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/shared", []byte("shared"), 0o644); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/tmp" && d != "/"; d = d[:strings.LastIndexByte(d, '/')] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := Boot(t, dir)
	session, err := s.Login()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ command, want string }{
		{"id -un; id -u", Name + "\n" + strconv.Itoa(UID)},
		{"cat " + dir + "/shared", "shared"},
		{"systemctl --user is-active default.target", "active"},
		{"loginctl show-user --property=State --value " + Name, "active"},
		{"loginctl show-session --property=Leader --value " + session.ID, strconv.Itoa(session.Leader)},
		{"echo x > " + Home + "/file && cat " + Home + "/file", "x"},
		{"cat /proc/1/comm", "systemd"},
		{"(echo x > " + dir + "/file) 2>&1 | grep -o 'Read-only file system'", "Read-only file system"},
		{"ls /sys/class/net", "lo"},
	} {
		if out, err := s.User("sh", "-c", c.command); err != nil || out != c.want {
			t.Errorf("%s: %q, %v, want %q", c.command, out, err, c.want)
		}
	}
	if out, err := s.User("false"); err == nil || out != "" {
		t.Errorf("a failure is none: %q", out)
	}
	if err := session.Logout(); err != nil {
		t.Error(err)
	}
	if _, err := s.Root("sh", "-c", "while systemctl is-active --quiet user@"+strconv.Itoa(UID)+"; do sleep 0.02; done"); err != nil {
		t.Error(err)
	}
}

// boots boots a system, says which process is its first, and waits.
var boots = reexec.Helper("boots", func([]string) {
	s, err := Start()
	reexec.Check(err)
	_, err = os.Stdout.WriteString(strconv.Itoa(s.Pid()) + "\n")
	reexec.Check(err)
	select {}
})

// TestKilled: a test that is killed leaves no process and no mount; the next boot
// removes the cgroups.
func TestKilled(t *testing.T) {
	reexec.Used(boots)
	Need(t)
	cmd := reexec.Command(t, boots)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 32)
	n, err := out.Read(b)
	if err != nil {
		t.Fatal(err, cmd.Wait())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(limit.Milliseconds())); n != 1 || err != nil {
		t.Fatal("process 1 lives on:", n, err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || bytes.Contains(mounts, []byte(" /run/root")) {
		t.Errorf("mounts are left: %v\n%s", err, mounts)
	}
	Boot(t)
	parent, err := cgroup2()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix+strconv.Itoa(cmd.Process.Pid)+"-") {
			left++
		}
	}
	if left > 0 {
		t.Errorf("%d of its cgroups are left", left)
	}
}
