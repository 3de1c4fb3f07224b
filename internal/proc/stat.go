package proc

import (
	"bytes"
	"errors"
	"strconv"
)

var errStat = errors.New("not the format of proc_pid_stat(5)")

// parseStat returns pid and start time from /proc/PID/stat. Field 2, the
// command's name in parentheses, is the process's own choice: it may hold
// spaces, parentheses, newlines and whole forged fields. What follows it is
// numbers, so the last parenthesis ends it.
//
// Field 22 must be followed by another, as it is in every kernel: the last
// field of a text that was cut off could be half a number.
func parseStat(b []byte) (pid int, start uint64, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open || b[open-1] != ' ' {
		return 0, 0, errStat
	}
	n, err := strconv.ParseUint(string(b[:open-1]), 10, 31)
	if err != nil {
		return 0, 0, errStat
	}
	rest, ok := bytes.CutPrefix(b[end+1:], []byte(" "))
	for range 22 - 3 {
		if ok {
			_, rest, ok = bytes.Cut(rest, []byte(" "))
		}
	}
	if !ok {
		return 0, 0, errStat
	}
	field, _, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return 0, 0, errStat
	}
	start, err = strconv.ParseUint(string(field), 10, 64)
	if err != nil {
		return 0, 0, errStat
	}
	return int(n), start, nil
}
