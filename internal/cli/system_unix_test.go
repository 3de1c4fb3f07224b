//go:build !windows

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// srv is a working directory.
const srv = "/srv"

// noProgram is the exit status of a start of what is not there.
const noProgram = exitLaunch

// R33, R34: a runtime directory that was asked for and cannot be used is
// refused by every verb, never passed over.
func TestUnusableRuntimeDir(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"FASTBIND_RUNTIME_DIR=" + open}
	for _, args := range [][]string{
		{"status"}, {"status", "x"}, {"list"}, {"why", "x"}, {"stop", "x"}, {"stop", "--all"}, {"reset", "x"}, {"logs", "x"},
		{"purge"}, {"purge", "x"}, {"start", "x"}, {"start", "x", "--", "/bin/true"}, {"dial", "x", "--", "/bin/true"}, {"restart", "x"},
	} {
		status, out, errs := command(t, env, args...)
		if status != exitRefused || out != "" || !strings.Contains(errs, "its mode is 0755, not 0700") || !strings.Contains(errs, "hint: chmod 700 "+open) {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", args, status, out, errs)
		}
	}
	if status, out, _ := command(t, env, "doctor"); status != exitOther || !strings.Contains(out, "finding\t") {
		t.Errorf("doctor: exit status %d, %q", status, out)
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
	look := func(dirMode, fileMode os.FileMode, uid int) error {
		t.Helper()
		if err := os.Chmod(dir, dirMode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, fileMode); err != nil {
			t.Fatal(err)
		}
		a := testApp(t, "FASTBIND_CONFIG_DIR="+dir)
		a.uid = uid
		_, err := a.file("web")
		return err
	}
	own := os.Geteuid()
	for _, tt := range []struct {
		dir, file os.FileMode
		want      string
	}{
		{0o755, 0o644, ""},
		{0o700, 0o600, ""},
		{0o755, 0o664, path + ": others can write to it (mode 0664)"},
		{0o755, 0o646, path + ": others can write to it (mode 0646)"},
		{0o775, 0o644, dir + ": others can write to it (mode 0775)"},
	} {
		err := look(tt.dir, tt.file, own)
		got := ""
		if err != nil {
			got = err.Error()
			if status := exitStatus(t.Context(), err); status != exitRefused {
				t.Errorf("exit status %d", status)
			}
		}
		if got != tt.want {
			t.Errorf("modes %o, %o: %q, want %q", tt.dir, tt.file, got, tt.want)
		}
	}
	if own != 0 {
		if err := look(0o755, 0o644, own+1); err == nil {
			t.Error("another user's file was taken")
		}
		return
	}
	if err := look(0o755, 0o644, 1); err != nil {
		t.Errorf("root's file was refused: %v", err)
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if err := look(0o755, 0o644, 0); err == nil || !strings.Contains(err.Error(), "it belongs to uid 12345, not to uid 0") {
		t.Errorf("another user's file: %v", err)
	}
}
