//go:build linux

package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestCheckEnds: however a check ends, with Ctrl-C or a kill -9 of the command,
// the daemons and clients that it started are gone, and its files.
func TestCheckEnds(t *testing.T) {
	for name, c := range map[string]struct {
		sig    syscall.Signal
		status int
	}{
		"Ctrl-C":  {syscall.SIGINT, 130},
		"SIGTERM": {syscall.SIGTERM, 130},
		"kill -9": {syscall.SIGKILL, -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tmp := filepath.Join(w.dir, "tmp") // short enough for sockets, so it is used
			if err := os.Mkdir(tmp, 0o700); err != nil {
				t.Fatal(err)
			}
			mark := "MARK=" + w.dir
			// The stopped daemon of testprog keeps its client for a minute.
			cmd := w.command("fastbind", "check", "--only", "starts,hang-ends", "--env", mark,
				"--client", filepath.Join(w.bin, "testprog")+" dial -env=MARK")
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || !strings.HasPrefix(lines.Text(), "ok    contract  starts") {
				t.Errorf("it said %q", lines.Text())
			}
			w.eventually("a daemon is stopped", func() bool {
				return slices.ContainsFunc(marked(mark), func(pid string) bool {
					b, _ := os.ReadFile("/proc/" + pid + "/stat")
					return strings.Contains(string(b), ") T ")
				})
			})
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("exit status %d, want %d", got, c.status)
			}
			if c.sig != syscall.SIGKILL { // everything is gone before it ends
				if left := marked(mark); len(left) > 0 {
					t.Errorf("processes %v are left", left)
				}
			}
			w.eventually("all processes are gone", func() bool { return len(marked(mark)) == 0 })
			w.eventually("all files are gone", func() bool {
				left, err := os.ReadDir(tmp)
				return err == nil && len(left) == 0
			})
		})
	}
}

// marked are the processes that have a variable in their environment.
func marked(variable string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if slices.Contains(strings.Split(string(b), "\x00"), variable) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}
