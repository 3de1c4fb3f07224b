package notify

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

// kin is what /proc/PID/stat says of a process's relations.
type kin struct{ parent, session int }

var errStat = errors.New("not the format of proc_pid_stat(5)")

// kinOf blocks for a read of /proc.
func kinOf(pid int) (kin, error) {
	b, err := readProc(pid, "stat", 2048)
	if err != nil {
		return kin{}, err
	}
	return parseKin(b)
}

// parseKin reads fields 4 and 6. The second, the command's name, may hold
// anything, parentheses included: what follows the last of these is numbers.
func parseKin(b []byte) (k kin, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 6 || bytes.IndexByte(b, ')') < 0 {
		return kin{}, errStat
	}
	for _, f := range []struct {
		at int
		to *int
	}{{1, &k.parent}, {3, &k.session}} {
		if *f.to, err = strconv.Atoi(string(fields[f.at])); err != nil {
			return kin{}, errStat
		}
	}
	return k, nil
}

// uidOf returns the effective uid of a process.
func uidOf(pid int) (int, error) {
	b, err := readProc(pid, "status", 8<<10)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 5 && f[0] == "Uid:" {
			return strconv.Atoi(f[2])
		}
	}
	return 0, errors.New("not the format of proc_pid_status(5)")
}

// cgroupOf returns a process's cgroup in the unified hierarchy (cgroups(7)), ""
// if it is in none or has ended.
func cgroupOf(pid int) string {
	b, err := readProc(pid, "cgroup", 16<<10)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path
		}
	}
	return ""
}

func readProc(pid int, name string, max int64) ([]byte, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max))
}
