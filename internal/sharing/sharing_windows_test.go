package sharing

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

// TestRename: a file is replaced while it is open, and who has it open keeps it, by
// either way that there is.
func TestRename(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{"Rename": Rename, "renameAside": renameAside} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
			for path, content := range map[string]string{from: "new", to: "old"} {
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := Open(to, windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := rename(from, to); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(to); string(b) != "new" {
				t.Errorf("at the name is %q, %v", b, err)
			}
			if b, err := io.ReadAll(f); string(b) != "old" {
				t.Errorf("who had it open reads %q, %v", b, err)
			}
			if _, err := os.Lstat(from); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the old name: %v", err)
			}
			if err := rename(from, to); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("of nothing: %v", err)
			}
		})
	}
}
