package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/journal"
)

// TestLogTurn: a log that is too large is copied aside and emptied, and who writes to it
// goes on there.
func TestLogTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := journal.Open(path, os.O_WRONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stderr := os.Stderr
	os.Stderr = f
	defer func() { os.Stderr = stderr }()
	l := &boundedLog{path: path}
	if l.here(); !l.ours() {
		t.Fatal("the output does not lead to the log")
	}
	write := func(s string) {
		t.Helper()
		if _, err := f.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	write("small\n")
	if !l.turn() {
		t.Error("another file is at the path")
	}
	large := strings.Repeat("x", journal.MaxSize)
	write(large)
	if !l.turn() {
		t.Error("another file is at the path")
	}
	write("after\n")
	for path, want := range map[string]string{path: "after\n", path + ".1": "small\n" + large} {
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s has %d bytes, %v; want %d", filepath.Base(path), len(b), err, len(want))
		}
	}
	// Another generation's launcher has moved it: it is ours no more.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if l.turn() {
		t.Error("no file is at the path")
	}
}
