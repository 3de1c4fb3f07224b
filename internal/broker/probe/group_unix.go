//go:build unix

package probe

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the command into a process group of its own, all of which is
// killed at the end of its time. The command is not reaped by then, so the number is
// still its group's.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
