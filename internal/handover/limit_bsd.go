//go:build unix && !linux

package handover

import "golang.org/x/sys/unix"

// resetLimit sets a soft limit of this process; another's cannot be set here.
func resetLimit(pid, resource int, soft uint64) {
	var have unix.Rlimit
	if pid != 0 || unix.Getrlimit(resource, &have) != nil {
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
