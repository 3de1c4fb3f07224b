//go:build unix

package journal

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

// TestTailOfFIFO: a log that an operator has put a FIFO in place of is no reason
// to wait for its writer.
func TestTailOfFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Tail(path, 0, 10, 100); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a FIFO: %v", err)
	}
}
