// Package limit bounds what a service may use, gives it a cgroup that is not its
// caller's, and says which of that is in force.
//
// Three mechanisms can do it, and the first that is there places the daemon:
//
//   - a scope, which a systemd manager makes and which is nobody else's:
//     StartTransientUnit of org.freedesktop.systemd1(5);
//   - a cgroup v2 directory of our own, where this process may make one
//     (cgroups(7), "Delegation");
//   - resource limits (setrlimit(2)), which bind each process of the service by
//     itself and not the service.
//
// Guaranteed: for every limit that is wanted there is an [Entry] that says
// whether it is in force, by what, how far, and if not, why not (R30). What it
// says of a cgroup was read back from the kernel, not assumed from what a
// manager accepted. Where [Enforcement.Gated] no instruction of the daemon runs
// before that: its fork waits at a gate before exec, is put in place from
// outside, and only then let through. If the launcher dies in between, the fork
// ends and the daemon never runs.
//
// Not guaranteed: that a limit is in force. A launch never fails for want of
// one, it says so. Outside Linux there are resource limits at most, set by the
// fork itself; on Windows nothing.
//
// Usual calls:
//
//	found := limit.Claim(ctx, limit.Managers(uid, runtimeDir)) // once
//	e, err := limit.Prepare(name, wanted, found)               // before the fork
//	path, argv = e.Wrap(path, argv)                            // e.Stdin() is its stdin, e.Into() its cgroup
//	report, err := e.Admit(ctx, pid)                           // after the fork
//	reason := e.Reason(ctx)                                    // after its death
//	err = e.Remove(ctx)
//
// [Adopt] is Prepare and Admit for a daemon that another broker has launched.
package limit

import (
	"math"
	"strconv"
	"strings"

	"github.com/fastbind/fastbind/internal/definition"
)

// Kind is something that can be limited. Its value is the definition's key.
type Kind string

// The kinds, in the order of reports.
const (
	Own       Kind = "own_scope"  // a cgroup of its own, which ends with nobody else
	Memory    Kind = "memory"     // bytes
	Tasks     Kind = "tasks"      // processes and threads
	CPUWeight Kind = "cpu_weight" // share of a busy processor, 100 being usual
	OpenFiles Kind = "open_files" // descriptors of each process
)

// Wanted is what a definition asks for. 0 is no limit.
type Wanted struct {
	// Own asks for a cgroup of its own though nothing else needs one, so that the
	// daemon does not end with its caller's session, unit or job (R21).
	Own bool

	Memory    int64 // bytes, of the whole service, swap included
	Tasks     int64 // of the whole service
	CPUWeight int64 // of the whole service
	OpenFiles int64 // of each process
}

// Bounds of what can be wanted. Below MinMemory nothing can be executed; the
// upper bounds are the kernel's own (PID_MAX_LIMIT, sysctl fs.nr_open and
// cpu.weight).
const (
	MinMemory    = 1 << 20
	MaxTasks     = 1 << 22
	MinOpenFiles = 16
	MaxOpenFiles = 1 << 30
	MaxCPUWeight = 10000
)

// placed says whether w needs a cgroup.
func (w Wanted) placed() bool { return w.Own || w.Memory > 0 || w.Tasks > 0 || w.CPUWeight > 0 }

// value returns what is wanted of a kind, 0 for nothing.
func (w Wanted) value(k Kind) int64 {
	switch k {
	case Memory:
		return w.Memory
	case Tasks:
		return w.Tasks
	case CPUWeight:
		return w.CPUWeight
	case OpenFiles:
		return w.OpenFiles
	}
	if w.Own {
		return 1
	}
	return 0
}

// Check reports the first field that cannot be wanted, as a
// *[definition.Invalid].
func (w Wanted) Check() error {
	for _, c := range []struct {
		kind     Kind
		value    int64
		min, max int64
	}{
		{Memory, w.Memory, MinMemory, math.MaxInt64},
		{Tasks, w.Tasks, 1, MaxTasks},
		{CPUWeight, w.CPUWeight, 1, MaxCPUWeight},
		{OpenFiles, w.OpenFiles, MinOpenFiles, MaxOpenFiles},
	} {
		if c.value == 0 || c.min <= c.value && c.value <= c.max {
			continue
		}
		reason := "it must be at least " + format(c.kind, c.min)
		if c.value > c.max {
			reason = "it must be at most " + format(c.kind, c.max)
		}
		return &definition.Invalid{Field: string(c.kind), Value: format(c.kind, c.value), Reason: reason}
	}
	return nil
}

// Parse reads a value of a kind as a definition has it: a whole number, of bytes
// also with the suffix K, M, G or T for powers of 1024, as systemd has them. The
// error is a *[definition.Invalid].
func Parse(k Kind, s string) (int64, error) {
	invalid := func(reason string) (int64, error) {
		return 0, &definition.Invalid{Field: string(k), Value: s, Reason: reason}
	}
	want := "give a whole number"
	digits, unit := s, int64(1)
	if k == Memory {
		want = "give a whole number of bytes, or one with K, M, G or T"
		if i := strings.IndexByte(suffixes, lastByte(s)); i >= 0 {
			digits, unit = s[:len(s)-1], 1<<(10*(i+1))
		}
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return invalid(want)
		}
	}
	if digits == "" {
		return invalid(want)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return invalid("it is too large")
	}
	if n == 0 {
		return invalid("it must not be 0: leave it out for no limit")
	}
	n *= unit
	return n, only(k, n).Check()
}

func only(k Kind, n int64) Wanted {
	switch k {
	case Memory:
		return Wanted{Memory: n}
	case Tasks:
		return Wanted{Tasks: n}
	case CPUWeight:
		return Wanted{CPUWeight: n}
	}
	return Wanted{OpenFiles: n}
}

const suffixes = "KMGT"

// lastByte is that of s, or a byte that is no suffix.
func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// format is the reverse of Parse, with the largest suffix that is exact.
func format(k Kind, n int64) string {
	suffix := ""
	if k == Memory && n > 0 {
		for i := 0; i < len(suffixes) && n%1024 == 0; i++ {
			n, suffix = n/1024, suffixes[i:i+1]
		}
	}
	return strconv.FormatInt(n, 10) + suffix
}
