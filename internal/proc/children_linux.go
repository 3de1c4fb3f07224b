package proc

import (
	"bytes"
	"os"
	"strconv"
)

// children looks at every process: /proc/PID/task/TID/children is not in every kernel
// (CONFIG_PROC_CHILDREN), and may leave some out while others end (proc_tid_children(5)).
func children() ([]ID, error) {
	names, err := names("/proc", -1)
	if err != nil {
		return nil, err
	}
	var list []ID
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := readSmall(statPath(pid), 2048) // as in startOf
		if err != nil || parentIn(b) != os.Getpid() {
			continue
		}
		if id, err := of(pid); err == nil {
			list = append(list, id)
		}
	}
	return list, nil
}

// parentIn is the fourth field of /proc/PID/stat, 0 if it is not there. The name
// before it may hold anything, so the last parenthesis ends it, as in parseStat.
func parentIn(b []byte) int {
	_, rest, _ := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" "))
	_, rest, _ = bytes.Cut(rest, []byte(" ")) // the state
	field, _, _ := bytes.Cut(rest, []byte(" "))
	n, _ := strconv.Atoi(string(field))
	return n
}
