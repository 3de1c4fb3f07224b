//go:build linux

package launch

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// TestLostToDying: a connection that the launcher's listener had, of which a dying
// daemon was the last to have a copy, is not taken for one to the next daemon of the
// same launcher, which lives already.
func TestLostToDying(t *testing.T) {
	dying := exec.Command("/bin/sh", "-c", "exit 0")
	if err := dying.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dying.Wait() }() // a zombie until then, with its flags
	for end := time.Now().Add(time.Minute); !proc.Exiting(dying.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child does not end")
		}
	}
	living := exec.Command("/bin/sh", "-c", "read -r _")
	in, err := living.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := living.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = living.Wait()
	}()
	entry := func(number uint64, pid int) Entry {
		return Entry{Number: number, Alive: true, Record: record.Record{Generation: number, PID: pid, Launcher: os.Getpid(), Backend: true}}
	}
	// The one being launched has no pid yet, and is not dying for that.
	entries := []Entry{entry(3, 0), entry(2, living.Process.Pid), entry(1, dying.Process.Pid)}
	e := Lost{Since: proc.BootTime(), Peer: os.Getpid()}.generation(entries)
	if e == nil || e.Number != 1 {
		t.Errorf("it was lost to %+v, want generation 1", e)
	}
}
