//go:build !windows

package proc

import (
	"os"
	"os/exec"
	"testing"
)

// TestExiting: a living process is not exiting; one that has ended is, as a
// zombie and after it was reaped.
func TestExiting(t *testing.T) {
	if Exiting(os.Getpid()) {
		t.Error("this process is said to be exiting")
	}
	cmd := exec.Command("/bin/true")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no /bin/true here to run:", err)
	}
	// The end of its output is what a peer sees of its end.
	if _, err := out.Read(make([]byte, 1)); err == nil {
		t.Fatal("true wrote something")
	}
	if !Exiting(cmd.Process.Pid) {
		t.Error("a process whose descriptors are closed is not said to be exiting")
	}
	_ = cmd.Wait()
	if !Exiting(cmd.Process.Pid) {
		t.Error("a reaped process is not said to be exiting")
	}
}
