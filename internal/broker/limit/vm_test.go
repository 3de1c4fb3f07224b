//go:build linux && amd64

package limit

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestVM runs the tests of this package that need what few machines give a test:
// the memory and pids controllers in cgroup v2, and systemd as the first process.
// It boots Debian's kernel in qemu, without acceleration, from a file system in
// memory that holds the test binary, busybox, and for the second boot this
// machine's own systemd and dbus-daemon.
func TestVM(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_VM") != "1" {
		t.Skip("boots virtual machines; installs qemu-system-x86 and busybox-static with apt-get, and fetches a kernel; FASTBIND_E2E_VM=1 asks for it")
	}
	for command, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static"} {
		if _, err := exec.LookPath(command); err != nil {
			run(t, "", "apt-get", "install", "-y", "-qq", "--no-install-recommends", pkg)
		}
	}
	kernel := fetchKernel(t)
	exe := filepath.Join(t.TempDir(), "limit.test")
	build := exec.Command("go", "test", "-c", "-o", exe, ".")
	build.Env = append(build.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Run("plain", func(t *testing.T) {
		root := newRoot(t, exe)
		root.write("init", 0o755, plainInit)
		boot(t, kernel, root, "/init", []string{"TestMemoryLimit", "TestTasksLimit", "TestDelegated", "TestDelegatedToMore", "TestOwnCgroup", "TestSweep", "TestPopulated"})
	})
	t.Run("systemd", func(t *testing.T) {
		const systemd = "/usr/lib/systemd/systemd"
		if _, err := os.Stat(systemd); err != nil {
			t.Skip("systemd is not installed here:", err)
		}
		root := newRoot(t, exe)
		root.systemd(systemd)
		boot(t, kernel, root, systemd, []string{"TestManagerLimits", "TestManagerTasks", "TestManagerRefuses", "TestManagerAnswers", "TestDelegatedUnit"})
	})
}

func run(t *testing.T, dir string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = exit.Stderr
		}
		t.Fatalf("%s: %v: %s%s", name, err, out, stderr)
	}
	return string(out)
}

// fetchKernel unpacks the kernel of Debian's package for virtual machines. It is
// not installed.
func fetchKernel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	depends := run(t, dir, "apt-cache", "depends", "linux-image-cloud-amd64")
	name := regexp.MustCompile(`linux-image-[0-9]\S+`).FindString(depends)
	if name == "" {
		t.Fatalf("linux-image-cloud-amd64 depends on no kernel: %s", depends)
	}
	run(t, dir, "apt-get", "download", "-qq", name)
	debs, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	run(t, dir, "dpkg", "-x", debs[0], dir)
	kernels, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(kernels) != 1 {
		t.Fatalf("kernels of %s: %v", name, kernels)
	}
	return kernels[0]
}

// A root is the file system of a virtual machine.
type root struct {
	t   *testing.T
	dir string
}

func newRoot(t *testing.T, exe string) root {
	t.Helper()
	r := root{t, t.TempDir()}
	for _, dir := range []string{"bin", "dev", "proc", "sys", "run", "tmp", "etc", "root", "var", "usr/bin", "usr/sbin"} {
		r.check(os.MkdirAll(r.path(dir), 0o755))
	}
	r.check(os.Chmod(r.path("tmp"), 0o1777))
	busybox, err := exec.LookPath("busybox")
	r.check(err)
	r.copy(busybox, "bin/busybox")
	for _, applet := range []string{"sh", "sleep", "mount", "poweroff", "cat", "ls", "true", "chown", "mkdir", "setpriv"} {
		r.check(os.Symlink("busybox", r.path("bin/"+applet)))
	}
	r.copy(exe, "limit.test")
	r.write("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nada:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
	r.write("etc/group", 0o644, "root:x:0:\nmessagebus:x:100:\nada:x:1000:\nnogroup:x:65534:\n")
	return r
}

func (r root) path(name string) string { return filepath.Join(r.dir, name) }

func (r root) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r root) write(name string, mode fs.FileMode, text string) {
	r.t.Helper()
	r.check(os.MkdirAll(filepath.Dir(r.path(name)), 0o755))
	r.check(os.WriteFile(r.path(name), []byte(text), mode))
}

func (r root) copy(from, to string) {
	r.t.Helper()
	b, err := os.ReadFile(from)
	r.check(err)
	r.write(to, 0o755, string(b))
}

// program copies a program or library of this machine, and what it is linked to.
func (r root) program(path string) {
	r.t.Helper()
	if _, err := os.Stat(r.path(path)); err == nil {
		return
	}
	r.copy(path, path)
	f, err := elf.Open(path)
	r.check(err)
	defer f.Close()
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		r.check(err)
		interp := strings.TrimRight(string(b), "\x00")
		r.copy(interp, interp)
	}
	libs, err := f.ImportedLibraries()
	r.check(err)
	for _, lib := range libs {
		found := false
		for _, dir := range []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/systemd", "/usr/lib/systemd", "/lib64"} {
			if p := filepath.Join(dir, lib); fileExists(p) {
				r.program(p)
				found = true
				break
			}
		}
		if !found {
			r.t.Fatalf("%s needs %s, which is not found", path, lib)
		}
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

const tests = "/limit.test -test.v -test.run '^(TestOwnCgroup|TestSweep|TestPopulated|TestMemoryLimit|TestTasksLimit|TestDelegated.*|TestManager.+)$'"

const plainInit = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup2 /sys/fs/cgroup
` + tests + `
echo status $?
poweroff -f
`

// systemd makes systemd the first process, of a system with a message bus and the
// manager of user 1000.
func (r root) systemd(path string) {
	r.t.Helper()
	r.program(path)
	for _, p := range []string{"/usr/bin/dbus-daemon", "/usr/lib/systemd/systemd-executor"} {
		if fileExists(p) {
			r.program(p)
		}
	}
	r.write("etc/os-release", 0o644, "ID=test\n")
	r.write("etc/machine-id", 0o644, strings.Repeat("a", 32)+"\n")
	const policy = `<busconfig><type>%s</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`
	r.write("etc/system-bus.conf", 0o644, fmt.Sprintf(policy, "system", "/run/dbus/system_bus_socket"))
	unit := func(name, text string) { r.write("etc/systemd/system/"+name, 0o644, text) }
	unit("default.target", "[Unit]\nRequires=tests.service\n")
	unit("dbus.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n")
	unit("dbus.service", `[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
ExecStart=/usr/bin/dbus-daemon --config-file=/etc/system-bus.conf --address=systemd: --nofork --nopidfile --systemd-activation
`)
	unit("user@.service", `[Unit]
DefaultDependencies=no
After=dbus.service
Requires=dbus.service
[Service]
User=%i
Slice=user-%i.slice
Type=notify
Delegate=pids memory cpu
RuntimeDirectory=user/%i
Environment=XDG_RUNTIME_DIR=/run/user/%i DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket
ExecStart=/usr/lib/systemd/systemd --user
`)
	r.write("etc/systemd/user/default.target", 0o644, "[Unit]\n")
	for _, u := range []string{"basic.target", "sockets.target", "timers.target", "paths.target", "shutdown.target", "exit.target"} {
		r.write("etc/systemd/user/"+u, 0o644, "[Unit]\nDefaultDependencies=no\n")
	}
	unit("tests.service", `[Unit]
DefaultDependencies=no
After=dbus.service user@1000.service
Requires=dbus.service user@1000.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh /tests.sh
`)
	// The tests run three times: as root in tests.service, as a user in what stands
	// for a session of it, and as a user in a unit that is delegated to it.
	for name, more := range map[string]string{
		"session-1": "Slice=user-1000.slice\nEnvironment=XDG_RUNTIME_DIR=/run/user/1000\n",
		"delegated": "Delegate=yes\nEnvironment=XDG_RUNTIME_DIR=/nonexistent\nExecStartPre=+/bin/busybox rm -r /run/user/1000/systemd\n",
	} {
		unit(name+".service", `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
User=1000
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c "exec `+tests+`"
ExecStopPost=/bin/busybox echo status $EXIT_STATUS
`+more)
	}
	r.write("tests.sh", 0o755, `exec >/dev/ttyS0 2>&1
/bin/cat /proc/1/comm
cd /tmp
`+tests+`
echo status $?
/systemctl start session-1.service && /systemctl start delegated.service
sync
/bin/busybox poweroff -f
`)
	r.program("/usr/bin/systemctl")
	r.check(os.Symlink("usr/bin/systemctl", r.path("systemctl")))
}

// boot runs the virtual machine to its end, and demands of each test that is
// named: it must have passed there, and none have failed.
func boot(t *testing.T, kernel string, r root, init string, names []string) {
	t.Helper()
	initrd := filepath.Join(t.TempDir(), "initrd")
	run(t, r.dir, "sh", "-c", "find . | busybox cpio -o -H newc >"+initrd)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 systemd.show_status=0 rdinit="+init)
	cmd.WaitDelay = time.Second
	b, err := cmd.CombinedOutput()
	out := string(b)
	if err != nil {
		t.Errorf("qemu: %v", err)
	}
	t.Logf("%s", strings.ReplaceAll(out, "\r", ""))
	for _, name := range names {
		if !strings.Contains(out, "--- PASS: "+name+" ") {
			t.Errorf("%s has not passed in the virtual machine", name)
		}
	}
	if bad := regexp.MustCompile(`(?m)^\s*--- FAIL: \S+`).FindAllString(out, -1); len(bad) > 0 {
		t.Errorf("%q", bad)
	}
	statuses := regexp.MustCompile(`(?m)^status (\d+)`).FindAllStringSubmatch(out, -1)
	if len(statuses) == 0 {
		t.Error("the tests have not ended")
	}
	for _, s := range statuses {
		if s[1] != "0" {
			t.Errorf("the tests ended with status %s", s[1])
		}
	}
}
