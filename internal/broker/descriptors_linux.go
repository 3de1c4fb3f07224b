package broker

import "golang.org/x/sys/unix"

// The table doubles when it is full. In a process with threads, whoever opens something
// then waits until every processor has passed a point of rest (synchronize_rcu in
// expand_fdtable, fs/file.c): 5 to 30 ms, four times on the way to a thousand services,
// which took as long as a third of what binding them did.
func widenTable(n int) {
	lowest, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(lowest) }()
	if high, err := unix.FcntlInt(uintptr(lowest), unix.F_DUPFD_CLOEXEC, lowest+n); err == nil {
		_ = unix.Close(high)
	}
}
