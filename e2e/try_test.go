//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tryCommand is fastbind try of the shipped command, in a temporary directory of
// its own, to which all it starts can be traced.
func tryCommand(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	if tmp, err = os.MkdirTemp("/tmp", "fbt"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	cmd = exec.CommandContext(t.Context(), filepath.Join(bin, "built-fastbind"), append([]string{"try"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	return cmd, tmp
}

// leftBehind lists what is still there: files, and processes whose environment
// names the directory.
func leftBehind(t *testing.T, tmp string) (left []string) {
	t.Helper()
	files, err := filepath.Glob(tmp + "/*")
	if err != nil {
		t.Fatal(err)
	}
	left = append(left, files...)
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(environs) == 0 {
		t.Fatal("no processes are to be seen", err)
	}
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err == nil && bytes.Contains(env, []byte("="+tmp+"/")) {
			cmdline, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
			left = append(left, filepath.Dir(path)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return left
}

// TestTry: the demonstration holds what it shows, says so in JSON, and leaves
// nothing.
func TestTry(t *testing.T) {
	t.Parallel()
	cmd, tmp := tryCommand(t, "--json", "--clients", "30", "--load", "400ms")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var got struct {
		Schema  int  `json:"schema"`
		OK      bool `json:"ok"`
		Figures map[string]*float64
		Checks  []struct {
			OK   bool   `json:"ok"`
			What string `json:"what"`
			Seen string `json:"seen"`
		}
		Timeline, Spans []any
		Error           any
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.Schema != 1 || !got.OK || len(got.Checks) != 7 || len(got.Timeline) < 8 || len(got.Spans) < 6 || got.Error != nil {
		t.Errorf("%s", out)
	}
	for _, name := range []string{"connected_slowest_ms", "answered_slowest_ms", "connected_after_kill_ms", "builds_cold_ms", "builds_again_ms", "hits"} {
		if v := got.Figures[name]; v == nil || *v <= 0 {
			t.Errorf("no figure %s: %s", name, out)
		}
	}
	for _, c := range got.Checks {
		if !c.OK || c.What == "" || c.Seen == "" {
			t.Errorf("check %+v", c)
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr: %s", stderr.String())
	}
	if left := leftBehind(t, tmp); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestTryInterrupted: whatever ends it, its daemon, clients and builds end too,
// and its files go.
func TestTryInterrupted(t *testing.T) {
	for _, tt := range []struct {
		sig   syscall.Signal
		after string // part of the line after which the signal comes
	}{
		{syscall.SIGINT, "come at once"},
		{syscall.SIGINT, "kill -9 of the daemon"},
		{syscall.SIGTERM, "the daemon is ready"},
	} {
		t.Run(tt.sig.String()+" after "+tt.after, func(t *testing.T) {
			t.Parallel()
			cmd, tmp := tryCommand(t, "--clients", "20", "--load", "200ms")
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stdout)
			said := ""
			for lines.Scan() {
				said += lines.Text() + "\n"
				if strings.Contains(lines.Text(), tt.after) {
					break
				}
			}
			if err := cmd.Process.Signal(tt.sig); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			rest, _ := io.ReadAll(stdout)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit status %d\n%s%s", code, said, rest)
			}
			// A killed process is in /proc until its parent, by now init, has
			// waited for it.
			end := time.Now().Add(deadline)
			for len(leftBehind(t, tmp)) > 0 && time.Now().Before(end) {
				time.Sleep(5 * time.Millisecond)
			}
			if left := leftBehind(t, tmp); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestTryRefuses: what it cannot do without is named, with what to do.
func TestTryRefuses(t *testing.T) {
	t.Parallel()
	old := t.TempDir()
	if err := os.WriteFile(old+"/go", []byte("#!/bin/sh\necho '{\"GOROOT\":\"/old\",\"GOVERSION\":\"go1.21.3\"}'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path   string
		args   []string
		status int
		text   string
	}{
		{path: "/nonexistent", status: 1, text: "fastbind: there is no go command in PATH\nhint: install Go 1.24"},
		{path: old + ":/bin:/usr/bin", status: 1, text: "fastbind: " + old + "/go is go1.21.3, and GOCACHEPROG came with go1.24\nhint: "},
		{path: old, args: []string{"--clients", "0"}, status: 2, text: "fastbind: --clients must be 1 to 1000\n"},
		{path: old, args: []string{"--load", "2h"}, status: 2, text: "fastbind: --load must be 0s to 1m\n"},
	} {
		cmd, tmp := tryCommand(t, tt.args...)
		cmd.Env = append(cmd.Env, "PATH="+tt.path)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tt.status || !strings.HasPrefix(string(out), tt.text) {
			t.Errorf("exit status %d, want %d, and %q\n%s", code, tt.status, tt.text, out)
		}
		if left := leftBehind(t, tmp); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}
