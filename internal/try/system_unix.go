//go:build unix

package try

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the command, and so its children, into a process group, which is
// killed as a whole: a go command that is killed alone leaves its compilers
// running. A Ctrl-C in the terminal then reaches only who is to clean up.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
