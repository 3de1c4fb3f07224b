//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVarlinkClient: the control endpoint, driven by Python's varlink package,
// which learns the interface from the daemon itself.
func TestVarlinkClient(t *testing.T) {
	if os.Getenv("FASTBIND_E2E_VARLINK") != "1" {
		t.Skip("installs Python's varlink package; FASTBIND_E2E_VARLINK=1 asks for it")
	}
	venv := filepath.Join(t.TempDir(), "venv")
	for _, args := range [][]string{{"python3", "-m", "venv", venv}, {venv + "/bin/pip", "install", "-q", "varlink"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	w := newWorld(t)
	w.dial()
	e := w.living("t")[0]
	dir := filepath.Join(w.dir, "worktree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := w.output(exec.Command(venv+"/bin/python", "varlink/drive.py", filepath.Join(e.Dir, "ctl"), dir))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := `interfaces ['io.fastbind.Daemon', 'org.varlink.service']
identify n0nce t ready True
watch ['ready']
refused io.fastbind.Daemon.LeaseRefused lstat /nowhere: no such file or directory
leases 1
stacks True
refused io.fastbind.Daemon.NoHandover
drained`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(out, "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Log("\n" + out)
	w.gone("t")
}
