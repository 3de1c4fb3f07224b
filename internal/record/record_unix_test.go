//go:build unix

package record

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestShellWrites: the trampoline's lines are as good as ours.
func TestShellWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/bin/sh", "-c", `printf 'pid %s\nstart %s\n%s' $$ 77 "$1" >>"$2"`, "sh",
		string(Encode(PhaseLines(Bound, time.Second))), path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := Read(path)
	if err != nil || r.PID == 0 || r.Start != 77 || r.Phase != Bound || r.PhaseAt != time.Second {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600 (R34)", fi.Mode())
	}
}
