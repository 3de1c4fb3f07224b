//go:build linux

package launch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/proc"
)

// TestTrampoline: it writes its own pid and start time, and no start time where
// /proc shows the processes of another pid namespace (R10).
func TestTrampoline(t *testing.T) {
	run := func(prefix ...string) (pid int, start uint64, self proc.ID) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "record")
		argv := append(prefix, shell, "-c", trampoline, "sh", path, path+".copy", "", "/bin/sh", "-c", "echo $$; read -r _")
		cmd := exec.Command(argv[0], argv[1:]...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var b [32]byte
		n, err := out.Read(b[:])
		if err != nil {
			t.Fatal(err)
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b[:n])))
		if err != nil {
			t.Fatal(err)
		}
		self, _ = proc.Of(pid)
		_ = in.Close()
		_ = cmd.Wait()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if copied, err := os.ReadFile(path + ".copy"); err != nil || string(copied) != string(text) {
			t.Errorf("the copy has %q, %v", copied, err)
		}
		lines := strings.Split(string(text), "\n")
		if len(lines) < 2 || lines[0] != "pid "+strconv.Itoa(pid) {
			t.Fatalf("process %d wrote %q", pid, text)
		}
		if born, ok := strings.CutPrefix(lines[1], "start "); ok {
			if start, err = strconv.ParseUint(born, 10, 64); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
		return pid, start, self
	}
	if pid, start, self := run(); self.PID != pid || start != self.Start {
		t.Errorf("pid %d, start %d, want %+v", pid, start, self)
	}
	if exec.Command("unshare", "-pf", "true").Run() != nil {
		t.Skip("a pid namespace cannot be made here")
	}
	if pid, start, _ := run("unshare", "-pf", "--kill-child"); start != 0 {
		t.Errorf("pid %d of another namespace than /proc's has start %d", pid, start)
	}
}

// TestTrampolineLimits: a foreign daemon's soft limits are its own, not those of
// the shell that a client was called in, as far as the hard limits allow (I5).
// The trampoline sets them: what the launcher set from outside, the kernel undid
// when it fell into an exec.
func TestTrampolineLimits(t *testing.T) {
	const odd = `ulimit -S -t 2000; ulimit -H -t 4000; ulimit -S -f 2000000; ulimit -H -f 4000000
ulimit -S -d 9000000; ulimit -S -v 90000000; ulimit -S -s 4096; ulimit -S -c 100; ulimit -S -n 100; ulimit -H -n 600
exec "$@"`
	const show = `for l in -t -f -d -v -s -c -n; do ulimit -S $l; ulimit -H $l; done`
	limits := func(argv ...string) []string {
		t.Helper()
		argv = append([]string{"/bin/sh", "-c", odd, "sh"}, argv...)
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Fields(string(out))
	}
	before := limits("/bin/sh", "-c", show)
	after := limits(shell, "-c", trampoline, "sh", filepath.Join(t.TempDir(), "record"), "", "", "/bin/sh", "-c", show)
	if len(before) != 14 || len(after) != 14 {
		t.Fatalf("%q, %q", before, after)
	}
	for i, want := range []string{"4000", "4000000", "unlimited", "unlimited", "8192", "0", "600"} {
		soft, hard := after[2*i], after[2*i+1]
		if hard != before[2*i+1] {
			t.Errorf("hard limit %d went from %s to %s", i, before[2*i+1], hard)
		}
		if want == "unlimited" || want == "8192" { // unless the test runs under less
			want = lesser(want, hard)
		}
		if soft != want {
			t.Errorf("soft limit %d is %s, want %s", i, soft, want)
		}
	}
}

// lesser returns the lesser of two limits as ulimit prints them.
func lesser(a, b string) string {
	x, errA := strconv.Atoi(a)
	y, errB := strconv.Atoi(b)
	if errB != nil || errA == nil && x <= y {
		return a
	}
	return b
}
