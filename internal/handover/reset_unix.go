//go:build unix

package handover

import "golang.org/x/sys/unix"

// Umask is the umask of every daemon that is launched.
const Umask = 0o022

// softLimits are the soft resource limits of every daemon that is launched,
// as far as its hard limits allow: those the kernel gives to the first process
// (INIT_RLIMITS), for what a caller's shell commonly lowers. RLIMIT_NOFILE is
// left alone: the Go runtime of a backend raises it, and 1024 is its default. The
// trampoline of foreign daemons (internal/launch) has the same.
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

// Reset makes umask and limits of this process those of a daemon that is launched. A
// process that is to become one calls it.
func Reset() { resetProcess() }

// inherits reports whether a broker would hand that descriptor over.
func inherits(fd int) bool { return fd >= FirstFD }

// resetProcess undoes what the launching client's shell left on this process.
func resetProcess() {
	unix.Umask(Umask)
	for _, l := range softLimits {
		resetLimit(l.resource, l.soft)
	}
}

// resetLimit sets a soft limit of this process as far as the hard limit allows.
// What the system refuses stays as it is: a limit is no reason for a daemon to
// fail.
func resetLimit(resource int, soft uint64) {
	var have unix.Rlimit
	if unix.Getrlimit(resource, &have) != nil {
		return
	}
	want := have
	want.Cur = clamp(have.Max, soft)
	if want != have {
		_ = unix.Setrlimit(resource, &want)
	}
}

// clamp is min for FreeBSD's signed rlim_t too.
func clamp[N ~int64 | ~uint64](n N, limit uint64) N {
	if uint64(n) > limit {
		return N(limit)
	}
	return n
}
