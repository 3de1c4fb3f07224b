package fastbindtest

import (
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func again() (*exec.Cmd, error) {
	cmd := exec.Command("/proc/self/exe") // also if the file was replaced or deleted
	cmd.Args[0] = "fastbindtest"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

func standAlone() {
	// Who called may be killed, and everything is ended then too: writing to it must
	// not end us before. Caught, not ignored: that would be inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	syscall.Umask(0o022) // as systems have it: the caller's decides nothing
}

func servable(Target) error { return nil }

func (Case) lacking(Mode) string { return "" }

func sameVariable(a, b string) bool { return a == b }

func tempDir(env []string) (string, error) { return os.MkdirTemp(base(env), "fbt") }

// base is where temporary directories go: a short path, for socket addresses are
// short, and the caller's choice if that is one.
func base(env []string) string {
	if dir := lookup(env, "TMPDIR"); filepath.IsAbs(dir) && len(dir) < 32 {
		return dir
	}
	if fi, err := os.Stat("/tmp"); err == nil && fi.IsDir() {
		return "/tmp"
	}
	return os.TempDir()
}
