package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMemoryLimit: R30. A daemon that reaches its memory limit dies by it, and status
// says which limit is in force, and of what it died. The broker, the neighbour and the
// next generation serve. Where the system gives a cgroup it is the kernel that kills;
// elsewhere the limit is one of the process, which the daemon ends itself for.
func TestMemoryLimit(t *testing.T) {
	w := newWorld(t)
	config := filepath.Join(w.dir, "config")
	if err := os.Mkdir(config, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, limits := range map[string]string{"large": "memory = \"128M\"\nopen_files = 300\n", "neighbour": ""} {
		text := fmt.Sprintf("command = [%q, \"-grow\"]\nrestart = \"on-failure\"\n%s", w.plaind(), limits)
		if err := os.WriteFile(filepath.Join(config, name+".toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broker := w.command("fastbind", "broker")
	broker.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if out, err := w.output(w.command("fastbind", "stop", "--all")); err != nil {
			t.Error(out, err)
		}
		_ = broker.Wait()
	}()
	w.eventually("it is held", func() bool { return w.memoryStatus("large").HeldBy == broker.Process.Pid })

	grow := func(name, mib string) error {
		conn, err := net.Dial("unix", filepath.Join(w.service(name), "sock"))
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(deadline))
		if _, err := io.WriteString(conn, mib+"\n"); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && line != mib+"\n" {
			err = fmt.Errorf("answered %q", line)
		}
		return err
	}
	for _, name := range []string{"neighbour", "large"} {
		if err := grow(name, "1"); err != nil {
			t.Fatalf("%s within its limit: %v\n%s", name, err, w.logs())
		}
	}
	neighbour, before := w.living("neighbour")[0].Record.PID, w.memoryStatus("large")
	limits := strings.Join(before.Limits, "\n")
	t.Logf("status says:\n%s", limits)
	if !strings.Contains(limits, "memory 128M") || !strings.Contains(limits, "open_files 300") || len(before.NotInForce) > 0 {
		t.Errorf("status says of limits %q, and of what is not in force %q", before.Limits, before.NotInForce)
	}

	if err := grow("large", "512"); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("beyond its limit: %v", err)
	}
	w.eventually("the reason is on record", func() bool { return w.memoryStatus("large").LastFailure.Message != "" })
	f := w.memoryStatus("large").LastFailure
	t.Logf("it died: %s; its last words: %q", f.Message, f.LogTail)
	if before.inCgroup() {
		if !strings.Contains(f.Message, "reached its memory limit of 128M") && !strings.Contains(f.Message, "want of memory") {
			t.Errorf("the reason is %q", f.Message)
		}
	} else if !strings.Contains(f.Message, "exit status 5") || !slices.Contains(f.LogTail, "plaind: memory: cannot allocate memory") {
		t.Errorf("the reason is %q, and its last words are %q", f.Message, f.LogTail)
	}
	if err := grow("large", "1"); err != nil {
		t.Errorf("the next one: %v\n%s", err, w.logs())
	}
	w.eventually("the next one runs", func() bool {
		g := w.living("large")
		return len(g) == 1 && g[0].Record.PID != before.PID
	})
	if err := grow("neighbour", "1"); err != nil || w.living("neighbour")[0].Record.PID != neighbour {
		t.Errorf("the neighbour: %v", err)
	}
	if s := w.memoryStatus("large"); s.HeldBy != broker.Process.Pid {
		t.Errorf("held by %d, want %d", s.HeldBy, broker.Process.Pid)
	}
}

// A memoryStatus is what status says of a service with limits.
type memoryStatus struct {
	PID         int
	HeldBy      int `json:"held_by"`
	Limits      []string
	NotInForce  []string `json:"not_in_force"`
	LastFailure struct {
		Message string
		LogTail []string `json:"log_tail"`
	} `json:"last_failure"`
}

// inCgroup reports whether the memory limit is the kernel's of a cgroup.
func (s memoryStatus) inCgroup() bool {
	for _, l := range s.Limits {
		if strings.HasPrefix(l, "memory ") {
			return !strings.Contains(l, "rlimit")
		}
	}
	return false
}

func (w *world) memoryStatus(name string) memoryStatus {
	w.t.Helper()
	out, err := w.output(w.command("fastbind", "status", name, "--json"))
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) { // one that does not run has a status of its own
		w.t.Fatal(err)
	}
	var reply struct{ Services []memoryStatus }
	if err := json.Unmarshal([]byte(out), &reply); err != nil || len(reply.Services) != 1 {
		return memoryStatus{}
	}
	return reply.Services[0]
}
