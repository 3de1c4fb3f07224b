package record

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/reexec"
)

// writerHelper is in the middle of an append, and stays there.
var writerHelper = reexec.Helper("writer", func(args []string) {
	f, err := openFile(args[0], os.O_RDWR|os.O_APPEND)
	reexec.Check(err)
	alone(f)
	fmt.Println("alone")
	_, _ = os.Stdin.Read(make([]byte, 1))
})

// TestWriterStays: one who never comes to the end of an append keeps nobody's words back,
// and when it is terminated the next one is alone again.
func TestWriterStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(t, writerHelper, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	f, err := openFile(path, os.O_RDWR|os.O_APPEND)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := func() error {
		return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
			&windows.Overlapped{OffsetHigh: writeLock >> 32})
	}
	if err := lock(); err != windows.ERROR_LOCK_VIOLATION {
		t.Errorf("the other is not alone: %v", err)
	}
	if err := Append(path, Line{"note", "kept back"}); err != nil {
		t.Error(err)
	}
	if r, err := Read(path); err != nil || len(r.Unknown) != 1 {
		t.Errorf("%q, %v", r.Unknown, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := lock(); err != nil {
		t.Errorf("of one that was terminated: %v", err)
	}
}
