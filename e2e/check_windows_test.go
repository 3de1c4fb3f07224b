package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// programs are those that the tests of the command run. Where there is no go command,
// internal/wine/test.sh builds them before.
func programs(t *testing.T) (fastbind, greeter, broken string) {
	t.Helper()
	dir, err := filepath.Abs(os.Getenv("FASTBINDTEST_BUILT"))
	if os.Getenv("FASTBINDTEST_BUILT") == "" {
		dir = t.TempDir()
		err = exec.Command("go", "build", "-o", dir, "../cmd/fastbind", "../examples/greeter", "../fastbindtest/internal/broken").Run()
	}
	if err != nil {
		t.Skipf("the programs cannot be built here (%v), and FASTBINDTEST_BUILT names none: internal/wine/test.sh builds them", err)
	}
	return filepath.Join(dir, "fastbind.exe"), filepath.Join(dir, "greeter.exe"), filepath.Join(dir, "broken.exe")
}

// TestCheck: the command judges a daemon of the SDK, one that claims its pipe itself and a
// tool with its daemon, and passes them; it fails one that breaks a rule, and says which.
func TestCheck(t *testing.T) {
	fastbind, greeter, broken := programs(t)
	small := []string{"check", "--crowd", "4", "--rounds", "1", "--bound-within", "2s"}
	hello := []string{"--request", `hello\n`, "--expect", `^pid \d+: hello`}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string // lines that begin so
	}{
		{"inherits", []string{"--request", `kit\n`, "--expect", "kit! I am the daemon", "--", greeter, "--daemon"}, 0,
			[]string{"ok    contract  announced", "ok    R9        kill9", "ok    contract  graceful-stop", "ok    R34       others",
				"n/a   keeps-name: the name of a pipe", "inherit: 10 hold, 0 broken"}},
		{"binds", slices.Concat(hello, []string{"--", broken, "socket", "{socket}"}), 0,
			[]string{"ok    contract  listens-first", "ok    R7        starters", "n/a   stop-start, graceful-stop", "socket: 7 hold, 0 broken"}},
		{"client", []string{"--skip", "hang-ends,hang-replaced", "--expect", "I am the daemon", "--client", `"` + greeter + `"`}, 0,
			[]string{"ok    R1        crowd", "ok    R4        strays", "ok    R17       project", "ok    R19       session", "client: 11 hold, 0 broken"}},
		{"broken", slices.Concat(hello, []string{"--only", "starts,cloexec,crowd", "--", broken, "-defect", "cloexec", "inherit"}), 1,
			[]string{"FAIL  R38       cloexec", "n/a   crowd: whoever launches", "inherit: 1 hold, 1 broken, 1 not applicable"}},
		{"descriptor", []string{"--", greeter, "{fd}"}, 2, nil},
		{"arguments", []string{"--only", "nosuch", "--", greeter}, 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command(fastbind, append(slices.Clone(small), tt.args...)...)
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, _ := cmd.Output()
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status %d, want %d", got, tt.status)
			}
			lines := strings.Split(string(out), "\n")
			for _, want := range tt.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
					t.Errorf("no line begins with %q", want)
				}
			}
			if (len(tt.want) > 0) != (errs.Len() == 0) {
				t.Errorf("it complains %q", errs.String())
			}
			if t.Failed() {
				t.Logf("%s%s", out, &errs)
			}
		})
	}
}

// TestCheckJSON: what a program reads says the same.
func TestCheckJSON(t *testing.T) {
	fastbind, _, broken := programs(t)
	cmd := exec.Command(fastbind, "check", "--json", "--only", "starts,kill9,keeps-name", "--", broken, "-defect", "kill9", "inherit")
	out, _ := cmd.Output()
	if got := cmd.ProcessState.ExitCode(); got != 1 {
		t.Errorf("exit status %d, want 1", got)
	}
	var got struct {
		OK     bool
		Mode   string
		Holds  int
		Broken int
		Cases  []struct{ Name, Outcome, Reason string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.OK || got.Mode != "inherit" || got.Holds != 1 || got.Broken != 1 || len(got.Cases) != 3 {
		t.Fatalf("%+v", got)
	}
	if c := got.Cases[1]; c.Outcome != "broken" || !strings.HasPrefix(c.Reason, "after TerminateProcess of pid ") {
		t.Errorf("%+v", c)
	}
	if c := got.Cases[2]; c.Outcome != "not applicable" || !strings.Contains(c.Reason, "pipe") {
		t.Errorf("%+v", c)
	}
}

// TestCheckKilled: of a check that is ended by TerminateProcess nothing is left, neither
// processes nor files, though a daemon was suspended and its client waits.
func TestCheckKilled(t *testing.T) {
	fastbind, _, broken := programs(t)
	tmp := t.TempDir()
	cmd := exec.Command(fastbind, "check", "-v", "--only", "starts,hang-ends", "--expect", "^pid", "--client", `"`+broken+`" -defect hang-ends ping`)
	cmd.Env = append(os.Environ(), "TEMP="+tmp, "TMP="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ok    contract  starts") {
		t.Errorf("it said %q", lines.Text())
	}
	// A daemon and the client that waits for it.
	eventually(t, "a client waits", func() bool { return len(named(t, "broken.exe")) == 2 && named(t, "fastbind.exe") != nil })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "all processes are gone", func() bool { return named(t, "broken.exe") == nil && named(t, "fastbind.exe") == nil })
	eventually(t, "all files are gone", func() bool {
		left, err := os.ReadDir(tmp)
		return err == nil && len(left) == 0
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// named are the processes that run a program of that name.
func named(t *testing.T, name string) (pids []uint32) {
	t.Helper()
	s, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(s)
	e := windows.ProcessEntry32{}
	e.Size = uint32(unsafe.Sizeof(e))
	for err = windows.Process32First(s, &e); err == nil; err = windows.Process32Next(s, &e) {
		if strings.EqualFold(windows.UTF16ToString(e.ExeFile[:]), name) {
			pids = append(pids, e.ProcessID)
		}
	}
	return pids
}
