package fastbindtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// The supervisor works in an init, where Go lets no callback of the system's in: nothing
// of it may wait for one, as package waitable, a pipe's listener and signals do.

func again() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
	return cmd, nil
}

// standAlone: no signal comes of a pipe whose reader has ended.
func standAlone() {}

func servable(t Target) error {
	if t.contains("{fd}") {
		return errors.New("{fd}: no program inherits a descriptor on Windows; a daemon finds its handles in FASTBIND_HANDOVER")
	}
	return nil
}

const (
	pipeStays = "the name of a pipe cannot be removed: it is gone with the last process that serves it"
	noStop    = "Windows has no SIGTERM, and only a daemon that is handed its listener has a control endpoint at which to ask it to end"
)

func (c Case) lacking(m Mode) string {
	switch c.Name {
	case "deleted-socket", "keeps-name":
		return pipeStays
	case "graceful-stop", "connected", "exit-status", "stop-start":
		if m == Socket || m == Port {
			return noStop
		}
	}
	return ""
}

func sameVariable(a, b string) bool { return strings.EqualFold(a, b) }

// tempDir: a service's pipe is named after its directory, and TEMP may be a short name.
func tempDir([]string) (string, error) {
	dir, err := os.MkdirTemp("", "fbt")
	if err != nil {
		return "", err
	}
	long, err := filepath.EvalSymlinks(dir)
	if err != nil {
		_ = os.Remove(dir)
		return "", err
	}
	return long, nil
}
