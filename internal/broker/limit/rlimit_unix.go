//go:build unix && !linux

package limit

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// script makes the fork set its own limit, hard and soft.
func script(p Plan) string {
	if p.Files == 0 {
		return ""
	}
	return fmt.Sprintf("ulimit -n %d || exit 126\n", p.Files)
}

func rlimits(a *Available) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		a.NoRlimit = "the limit of this process cannot be read: " + err.Error()
		return
	}
	a.Files = math.MaxInt64
	if uint64(l.Max) < math.MaxInt64 {
		a.Files = int64(l.Max)
	}
}
