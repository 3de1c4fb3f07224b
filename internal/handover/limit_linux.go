package handover

import "golang.org/x/sys/unix"

// resetLimit sets a soft limit of a process, 0 for this one, as far as the hard
// limit allows (prlimit(2)). What the system refuses stays as it is: a limit is
// no reason for a daemon to fail.
func resetLimit(pid, resource int, soft uint64) {
	var have unix.Rlimit
	if unix.Prlimit(pid, resource, nil, &have) != nil {
		return
	}
	want := have
	want.Cur = min(soft, have.Max)
	if want != have {
		_ = unix.Prlimit(pid, resource, &want, nil)
	}
}
