package try

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	got := tally([]pong{
		{PID: 7, Phase: "loading", ConnectedMS: 3, AnsweredMS: 30},
		{PID: 7, Phase: "ready", ConnectedMS: 1, AnsweredMS: 10},
		{err: errors.New("no")},
		{PID: 9, Phase: "loading", ConnectedMS: 2, AnsweredMS: 20},
	})
	if got.served != 3 || got.loading != 2 || got.pids() != "7, 9" || got.failure == nil ||
		got.connectedHalf != 2*time.Millisecond || got.connectedLast != 3*time.Millisecond ||
		got.answeredHalf != 20*time.Millisecond || got.answeredLast != 30*time.Millisecond {
		t.Errorf("%+v", got)
	}
	if none := tally(nil); none.served != 0 || none.pids() != "" {
		t.Errorf("of nobody: %+v", none)
	}
}

// TestQuoted: cmd/go itself reads the word back.
func TestQuoted(t *testing.T) {
	for _, path := range []string{"/nowhere/plain", "/nowhere/a dir/it's", `/nowhere/a "b"/c`} {
		cmd := exec.Command("go", "build", "unsafe")
		cmd.Env = append(cmd.Environ(), "GOCACHEPROG="+quoted(path)+" x")
		text, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(text), "fork/exec "+path+":") {
			t.Errorf("%s: %v, %s", path, err, text)
		}
	}
}

// TestEnv: nothing of the caller's go settings reaches the builds, and nothing
// of them is written outside.
func TestEnv(t *testing.T) {
	w := &world{root: "/r", cfg: Config{Self: "/bin/x", LoadFor: time.Second,
		Env: []string{"PATH=/bin", "GOFLAGS=-mod=vendor", "HOME=/home/u", "CGO_ENABLED=1", "XDG_CACHE_HOME=/c", "FASTBIND_RUNTIME_DIR=/f", "GOCACHEPROG=other"}}}
	got := strings.Join(w.plainEnv(), "\n")
	for _, bad := range []string{"-mod=vendor", "/home/u", "CGO_ENABLED=1", "/c", "=/f", "GOCACHEPROG"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q in\n%s", bad, got)
		}
	}
	for _, want := range []string{"PATH=/bin", "HOME=/r/home", "GOCACHE=/r/plain", "FASTBIND_RUNTIME_DIR=/r/run"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := strings.Join(w.cacheEnv(), "\n"); !strings.Contains(got, "GOCACHEPROG=/bin/x __gocache") || strings.Contains(got, "GOCACHE=") {
		t.Error(got)
	}
}

func TestReportOK(t *testing.T) {
	if (Report{}).OK() || (Report{Checks: []Check{{OK: true}, {}}}).OK() || !(Report{Checks: []Check{{OK: true}}}).OK() {
		t.Error("a report is OK if it has checks and all hold")
	}
}
