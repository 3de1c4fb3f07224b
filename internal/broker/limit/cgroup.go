package limit

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// files are the interface files of a cgroup v2 directory by what they limit
// (Documentation/admin-guide/cgroup-v2.rst). The controller's name is the part
// before the dot.
var files = []struct {
	kind Kind
	name string
}{
	{Memory, "memory.max"},
	{Tasks, "pids.max"},
	{CPUWeight, "cpu.weight"},
}

func controllerOf(file string) string {
	name, _, _ := strings.Cut(file, ".")
	return name
}

// maxText bounds what is read of a file in /proc or a cgroup, in bytes: of
// mountinfo and cgroup.procs that may not be all, and the rest is not looked at.
const maxText = 1 << 20

// events is what the kernel has counted of a cgroup.
type events struct {
	limitHit  int64 // memory.events oom: an allocation failed at this cgroup's own limit
	killed    int64 // memory.events oom_kill: processes that the kernel killed for memory, whoever's limit it was
	groups    int64 // memory.events oom_group_kill: times that it killed the whole cgroup
	forksLost int64 // pids.events max: forks refused at the limit of tasks
}

// max joins two readings: counters only grow, and a later reading may find the
// cgroup gone.
func (e events) max(f events) events {
	return events{max(e.limitHit, f.limitHit), max(e.killed, f.killed), max(e.groups, f.groups), max(e.forksLost, f.forksLost)}
}

// parseEvents adds the counters of memory.events or pids.events to e. Lines that
// it does not know are passed over: kernels add some.
func parseEvents(e events, file, text string) events {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch file + " " + key {
		case "memory.events oom":
			e.limitHit = n
		case "memory.events oom_kill":
			e.killed = n
		case "memory.events oom_group_kill":
			e.groups = n
		case "pids.events max":
			e.forksLost = n
		}
	}
	return e
}

// explain says in words what the limits have to do with a daemon's death; "" if
// nothing. byManager is the scope's Result, "" if unknown or none.
func explain(r Report, e events, byManager string) string {
	var parts []string
	// A resource limit is none that the kernel would have counted.
	memory, tasks := r.Of(Memory), r.Of(Tasks)
	own := memory.By == Scope || memory.By == Cgroup
	switch {
	case e.killed > 0 && e.limitHit > 0 && own:
		parts = append(parts, fmt.Sprintf("the service reached its memory limit of %s, and the kernel killed %s of it",
			format(Memory, memory.Actual), e.victims()))
	case e.killed > 0:
		parts = append(parts, fmt.Sprintf("the machine, or a cgroup around the service's, ran out of memory, and the kernel killed %s of it", e.victims()))
	case byManager == "oom-kill":
		parts = append(parts, "systemd says that it was killed for want of memory (Result=oom-kill)")
	case e.limitHit > 0 && own:
		parts = append(parts, fmt.Sprintf("the service reached its memory limit of %s", format(Memory, memory.Actual)))
	}
	if e.forksLost > 0 && tasks.By != None {
		times := "once"
		if e.forksLost > 1 {
			times = fmt.Sprintf("%d times", e.forksLost)
		}
		parts = append(parts, fmt.Sprintf("it was refused a process or thread %s at its limit of %d tasks", times, tasks.Actual))
	}
	return strings.Join(parts, "; ")
}

// victims says how much was killed. With the whole cgroup killed, the kernel counts
// the process that it chose first twice.
func (e events) victims() string {
	switch {
	case e.groups > 0:
		return "all"
	case e.killed == 1:
		return "a process"
	}
	return fmt.Sprintf("%d processes", e.killed)
}

// parseOwn returns the cgroup v2 path of a process from its /proc/PID/cgroup.
// Paths that the reader's cgroup namespace does not show begin with /.. there.
func parseOwn(text string) (string, error) {
	for line := range strings.Lines(text) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			p = strings.TrimSuffix(p, " (deleted)")
			if !path.IsAbs(p) || p == "/.." || strings.HasPrefix(p, "/../") {
				return "", fmt.Errorf("its cgroup %q is outside of what this process can see", p)
			}
			return p, nil
		}
	}
	return "", errors.New("it is in no cgroup of version 2")
}

// A mount is where the cgroup v2 hierarchy, or a part of it, can be reached.
type mount struct {
	point string // directory
	root  string // cgroup path that is seen there
}

// dir returns the directory of a cgroup, "" if the mount does not show it.
func (m mount) dir(cgroup string) string {
	if !below(cgroup, m.root) {
		return ""
	}
	return path.Join(m.point, strings.TrimPrefix(cgroup, m.root))
}

// cgroup is the reverse of dir.
func (m mount) cgroup(dir string) string {
	return path.Join(m.root, strings.TrimPrefix(dir, m.point))
}

// parseMounts returns the last cgroup2 mount of a /proc/self/mountinfo (proc(5)):
// later ones cover earlier ones.
func parseMounts(text string) (mount, error) {
	var m mount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		for i := 6; i+1 < len(f); i++ { // optional fields end with a hyphen
			if f[i] == "-" {
				if f[i+1] == "cgroup2" {
					m = mount{point: unescape(f[4]), root: unescape(f[3])}
				}
				break
			}
		}
	}
	if m.point == "" || !path.IsAbs(m.point) || !path.IsAbs(m.root) {
		return mount{}, errors.New("no cgroup v2 hierarchy is mounted")
	}
	return m, nil
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// parseMax reads a limit: "max" is none.
func parseMax(text string) (n int64, limited bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}
