package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	acl "github.com/fastbind/fastbind/internal/owner"
)

// srv is a working directory.
const srv = `C:\srv`

// noProgram is the exit status of a start of what is not there: it is refused before
// anybody looks, since it would be a foreign daemon.
const noProgram = exitRefused

// share lets everybody do all with a file or directory.
func share(t *testing.T, path string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
}

// unshare makes it the user's own again.
func unshare(t *testing.T, path string) {
	t.Helper()
	sd, err := acl.Only(false)
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
}

// R33, R34: a runtime directory that was asked for and cannot be used is
// refused by every verb, never passed over.
func TestUnusableRuntimeDir(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	share(t, open)
	env := []string{"FASTBIND_RUNTIME_DIR=" + open}
	for _, args := range [][]string{
		{"status"}, {"status", "x"}, {"list"}, {"why", "x"}, {"stop", "x"}, {"stop", "--all"}, {"reset", "x"}, {"logs", "x"},
		{"purge"}, {"purge", "x"}, {"start", "x"}, {"dial", "x", "--", "x"}, {"restart", "x"},
	} {
		status, out, errs := command(t, env, args...)
		if status != exitRefused || out != "" || !strings.Contains(errs, "its access list lets S-1-1-0 in") || !strings.Contains(errs, "hint: ") {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", args, status, out, errs)
		}
	}
	if status, out, _ := command(t, env, "doctor"); status != exitOther || !strings.Contains(out, "finding\t") {
		t.Errorf("doctor: exit status %d, %q", status, out)
	}
}

// TestNoServiceManager: a broker runs here, but nothing starts it with the session.
func TestNoServiceManager(t *testing.T) {
	for _, args := range [][]string{{"broker", "install"}, {"broker", "install", "--dry-run"}, {"broker", "uninstall"}} {
		status, out, errs := command(t, nil, args...)
		if status != exitOther || out != "" || !strings.Contains(errs, "no service manager that can start the broker is known on this system") {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", args, status, out, errs)
		}
	}
}

// Files and directories that others can change name programs that run as us.
func TestFileTrust(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config")
	path := filepath.Join(dir, "web.toml")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "command = [\"x\"]\n")
	look := func() error {
		_, err := testApp(t, "FASTBIND_CONFIG_DIR="+dir).file("web")
		return err
	}
	unshare(t, dir)
	unshare(t, path)
	if err := look(); err != nil {
		t.Errorf("our own: %v", err)
	}
	for _, p := range []string{path, dir} {
		share(t, p)
		err := look()
		if err == nil || !strings.HasPrefix(err.Error(), p+": its access list lets S-1-1-0 ") {
			t.Errorf("%s is everybody's: %v", p, err)
		} else if status := exitStatus(t.Context(), err); status != exitRefused {
			t.Errorf("exit status %d", status)
		}
		unshare(t, p)
	}
}
