//go:build linux

package launch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
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

// TestLostBesideLaunch: who waited for a daemon that is gone, and whose service's
// directory was deleted, is told so, though another is being launched in the new
// directory and has not said yet that it is a backend.
func TestLostBesideLaunch(t *testing.T) {
	root := filepath.Join(t.TempDir(), "run")
	def := definition.Definition{Service: "t", Command: []string{"/bin/false"}}.Complete()
	b := NewBroker(runtimedir.Env{RuntimeDir: root, EUID: os.Geteuid()}, def, func() []string { return nil })
	gone := exec.Command("/bin/sh", "-c", "exit 0")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "default", "t", "1.a.b.c")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	life, err := CreateLife(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer life.Close()
	for _, definition := range []definition.Definition{def, {Service: "t", Command: def.Command, Foreign: true}} {
		if err := os.RemoveAll(filepath.Join(dir, record.FileName)); err != nil {
			t.Fatal(err)
		}
		if err := record.Create(filepath.Join(dir, record.FileName), record.LaunchLines(record.Record{Generation: 1, Definition: definition,
			Launcher: os.Getpid(), Launched: time.Now(), LaunchedBoot: proc.BootTime(), BootID: proc.BootID()})); err != nil {
			t.Fatal(err)
		}
		f := b.Verdict(Lost{Since: proc.BootTime(), Peer: gone.Process.Pid, Reset: true})
		// It may have been a child of a foreign one that listened.
		if told := f != nil && errors.Is(f.Err, errRecordDeleted); told == definition.Foreign {
			t.Errorf("foreign %v: the verdict is %v", definition.Foreign, f)
		}
	}
}

// TestLostToHeir: who waited in the queue of a daemon that has drained, which a broker
// holds, and was accepted by the next daemon is told of that one's death, though nobody
// has seen it. The kernel names the one before as its peer.
func TestLostToHeir(t *testing.T) {
	const drained = 1 << 30 // no process
	one := record.Inode{Dev: 1, Ino: 2}
	for name, c := range map[string]struct {
		inode record.Inode
		alive bool
		phase record.Phase
		want  uint64
	}{
		"killed":                {one, false, record.Ready, 4},
		"lives":                 {one, true, record.Ready, 3},
		"has drained, too":      {one, false, record.Gone, 3},
		"of another listener":   {record.Inode{Dev: 1, Ino: 3}, false, record.Ready, 3},
		"has not said of which": {record.Inode{}, false, record.Launching, 3},
	} {
		entries := []Entry{
			{Number: 4, Alive: c.alive, Record: record.Record{PID: os.Getpid(), Backend: true, Phase: c.phase, Drained: c.phase == record.Gone, Inode: c.inode}},
			{Number: 3, Record: record.Record{PID: drained, Backend: true, Phase: record.Gone, Drained: true, Inode: one}},
		}
		if e := (Lost{Since: proc.BootTime(), Peer: drained}).generation(entries); e == nil || e.Number != c.want {
			t.Errorf("%s: it was lost to %+v, want generation %d", name, e, c.want)
		}
	}
}
