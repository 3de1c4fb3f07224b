package lock

import (
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLocks bounds what is read of /proc/locks: ten thousand locks and more.
const maxLocks = 1 << 20

// holder looks into /proc/locks, whose lines are like this (proc_locks(5)):
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:12411527 0 EOF
func holder(path string) int {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer f.Close()
	locks, err := io.ReadAll(io.LimitReader(f, maxLocks))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) != 8 || f[1] != "FLOCK" || f[3] != "WRITE" {
			continue
		}
		at := strings.Split(f[5], ":")
		if len(at) == 3 && number(at[0], 16) == uint64(unix.Major(st.Dev)) && number(at[1], 16) == uint64(unix.Minor(st.Dev)) && number(at[2], 10) == st.Ino {
			return max(0, int(number(f[4], 10))) // one of another pid namespace is 0 or -1
		}
	}
	return 0
}

func number(s string, base int) uint64 {
	n, err := strconv.ParseUint(s, base, 64)
	if err != nil {
		return 0
	}
	return n
}
