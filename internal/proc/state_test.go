//go:build linux

package proc

import (
	"bufio"
	"errors"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestState: a process that was stopped is told from one that sleeps, and what
// the kernel tells of it can be written down; a dead one has neither.
func TestState(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "echo up; read line")
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
	defer cmd.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()

	if st, err := h.State(); err != nil || st.Stopped || st.Tracer != 0 {
		t.Errorf("a sleeping process is %+v, %v", st, err)
	}
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("it did not stop: %v %v", ws, err)
	}
	if st, err := h.State(); err != nil || !st.Stopped {
		t.Errorf("a stopped process is %+v, %v", st, err)
	}
	text := strings.Join(h.Evidence(), "\n")
	for _, want := range []string{"process " + strconv.Itoa(cmd.Process.Pid), "State T", "descriptors ", "thread ", "state T"} {
		if !strings.Contains(text, want) {
			t.Errorf("the evidence lacks %q:\n%s", want, text)
		}
	}

	if err := h.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := h.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := h.State(); !errors.Is(err, ErrGone) || st.Stopped {
		t.Errorf("a dead process is %+v, %v", st, err)
	}
	if lines := h.Evidence(); lines != nil {
		t.Errorf("evidence of a dead process: %q", lines)
	}
}

// TestEvidenceIsBounded: a process with very many threads is described in few
// lines.
func TestEvidenceIsBounded(t *testing.T) {
	id, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	const threads = evidenceThreads + 20
	stop := make(chan struct{})
	var begun, ended sync.WaitGroup
	begun.Add(threads)
	for range threads {
		ended.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			begun.Done()
			<-stop
		})
	}
	begun.Wait()
	lines := h.Evidence()
	close(stop)
	ended.Wait()
	described := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "thread ") {
			described++
		}
	}
	if described != evidenceThreads || !strings.HasSuffix(lines[len(lines)-1], "more threads") {
		t.Errorf("%d threads described, then %q", described, lines[len(lines)-1])
	}
}

// FuzzStatusField: the kernel's lines are found whatever the process calls itself;
// it escapes a name's newlines (proc_pid_status(5)).
func FuzzStatusField(f *testing.F) {
	f.Add("sh", "TracerPid:\t7")
	f.Add("x TracerPid:\t9", "State:\tT (stopped)\nTracerPid:\t0\nTracerPid:\t5")
	f.Add("TracerPid:", "")
	f.Fuzz(func(t *testing.T, name, rest string) {
		name = strings.ReplaceAll(name, "\n", `\n`)
		want := ""
		for _, line := range strings.Split(rest, "\n") {
			if v, ok := strings.CutPrefix(line, "TracerPid:"); ok {
				want = strings.TrimSpace(v)
				break
			}
		}
		status := []byte("Name:\t" + name + "\n" + rest)
		if got := statusField(status, "TracerPid"); got != want {
			t.Fatalf("%q in %q, want %q", got, status, want)
		}
		if got := statusField(status, "Name"); got != strings.TrimSpace(name) {
			t.Fatalf("the name is %q, want %q", got, name)
		}
		if oneLine(status) != strings.TrimSpace(oneLine(status)) || strings.Contains(oneLine(status), "\n") {
			t.Fatalf("no line: %q", oneLine(status))
		}
	})
}
