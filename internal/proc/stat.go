package proc

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

var errStat = errors.New("not the format of proc_pid_stat(5)")

// parseStat returns pid and start time from /proc/PID/stat. Field 2, the
// command's name in parentheses, is the process's own choice: it may hold
// spaces, parentheses, newlines and whole forged fields. What follows it is
// numbers, so the last parenthesis ends it.
//
// Field 22 is followed by another in every kernel.
func parseStat(b []byte) (pid int, start uint64, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open || b[open-1] != ' ' {
		return 0, 0, errStat
	}
	n, err := strconv.ParseUint(string(b[:open-1]), 10, 31)
	if err != nil {
		return 0, 0, errStat
	}
	start, err = strconv.ParseUint(statField(b, 22), 10, 64)
	if err != nil {
		return 0, 0, errStat
	}
	return int(n), start, nil
}

// statField returns field n of /proc/PID/stat, from the third on. It is "" if it is not
// there, and if it is the last: of a text that was cut off that could be half a number.
func statField(b []byte, n int) string {
	rest, ok := strings.CutPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	for range n - 3 {
		if ok {
			_, rest, ok = strings.Cut(rest, " ")
		}
	}
	field, _, more := strings.Cut(rest, " ")
	if !ok || !more {
		return ""
	}
	return field
}
