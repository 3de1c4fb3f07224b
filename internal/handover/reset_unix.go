//go:build unix

package handover

import "golang.org/x/sys/unix"

// Umask is the umask of every daemon that is launched.
const Umask = 0o022

// softLimits are the soft resource limits of every daemon that is launched,
// as far as its hard limits allow: those the kernel gives to the first process
// (INIT_RLIMITS), for what a caller's shell commonly lowers. RLIMIT_NOFILE is
// left alone: the Go runtime of a backend raises it, and 1024 is its default.
var softLimits = []struct {
	resource int
	soft     uint64
}{
	{unix.RLIMIT_CPU, unix.RLIM_INFINITY},
	{unix.RLIMIT_FSIZE, unix.RLIM_INFINITY},
	{unix.RLIMIT_DATA, unix.RLIM_INFINITY},
	{unix.RLIMIT_STACK, 8 << 20},
	{unix.RLIMIT_CORE, 0},
	{unix.RLIMIT_AS, unix.RLIM_INFINITY},
}

func closeOnExec(fd int) { unix.CloseOnExec(fd) }

// resetProcess undoes what the launching client's shell left on this process.
func resetProcess() {
	unix.Umask(Umask)
	for _, l := range softLimits {
		resetLimit(0, l.resource, l.soft)
	}
}

// ResetLimits does to the foreign daemon with this pid, a child of ours, what
// a backend does to itself, as far as the system lets a parent. RLIMIT_NOFILE
// is set as well: a shell's low limit is no business of a daemon's.
func ResetLimits(pid int) {
	for _, l := range softLimits {
		resetLimit(pid, l.resource, l.soft)
	}
	resetLimit(pid, unix.RLIMIT_NOFILE, 1024)
}
