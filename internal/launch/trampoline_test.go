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
		start, err = strconv.ParseUint(strings.TrimPrefix(lines[1], "start "), 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
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
