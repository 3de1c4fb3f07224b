package proc

import (
	"os"
	"testing"
)

// TestExiting: a living process is not exiting; one that has ended is, whether
// anybody still has a handle of it or not.
func TestExiting(t *testing.T) {
	if Exiting(os.Getpid()) {
		t.Error("this process is said to be exiting")
	}
	for _, code := range []uint32{0, 3, stillActive} {
		c := startChild(t, code)
		h := mustOpen(t, mustID(t, c.pid))
		if Exiting(c.pid) {
			t.Error("a living child is said to be exiting")
		}
		c.end()
		mustWait(t, h)
		if !Exiting(c.pid) {
			t.Errorf("a dead process with exit code %d is not said to be exiting", code)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if !Exiting(c.pid) {
			t.Errorf("a process that is gone, with exit code %d, is not said to be exiting", code)
		}
	}
}
