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
//	path, argv = e.Wrap(path, argv)                            // e.Stdin() is its stdin
//	report, err := e.Admit(ctx, pid)                           // after the fork
//	reason := e.Reason(ctx)                                    // after its death
//	err = e.Remove(ctx)
//
// [Adopt] is Prepare and Admit for a daemon that another broker has launched.
package limit

import (
	"cmp"
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

// Mechanism is what keeps a limit.
type Mechanism string

// The mechanisms. Scope and Cgroup also are places.
const (
	None   Mechanism = ""
	Scope  Mechanism = "scope"  // a systemd scope
	Cgroup Mechanism = "cgroup" // a cgroup directory of our own
	Rlimit Mechanism = "rlimit" // a resource limit of each process
)

// Force is how far a limit is in force.
type Force int

// The degrees of force.
const (
	Not     Force = iota
	Partly        // by less than was wanted, as Entry.Reason says
	InForce       // as wanted
)

func (f Force) String() string {
	return [...]string{"not in force", "partly in force", "in force"}[f]
}

// An Entry says of one limit that was wanted what became of it. Plain value.
type Entry struct {
	Kind   Kind
	Wanted int64
	Actual int64 // what is in force, as the kernel has it; 0 if nothing is
	By     Mechanism
	Force  Force
	Reason string // if it is not in force as wanted, why
}

// String is one line for people: "memory 64M: in force, scope".
func (e Entry) String() string {
	s := string(e.Kind)
	if e.Kind != Own {
		s += " " + format(e.Kind, e.Wanted)
	}
	s += ": " + e.Force.String()
	if e.By != None {
		s += ", " + string(e.By)
	}
	if e.Actual != e.Wanted && e.Actual != 0 {
		s += " of " + format(e.Kind, e.Actual)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Report is what became of each limit that was wanted, in the order of the kinds.
type Report []Entry

// Of returns the entry of a kind; its zero value if that was not wanted.
func (r Report) Of(k Kind) Entry {
	for _, e := range r {
		if e.Kind == k {
			return e
		}
	}
	return Entry{}
}

// Complete says whether everything that was wanted is in force as wanted.
func (r Report) Complete() bool {
	for _, e := range r {
		if e.Force != InForce {
			return false
		}
	}
	return true
}

func (r Report) String() string {
	lines := make([]string, len(r))
	for i, e := range r {
		lines[i] = e.String()
	}
	return strings.Join(lines, "\n")
}

// A Facility is one of the two places, as far as it is known to work.
type Facility struct {
	Why   string          // why it cannot be used at all; "" if it can
	Lacks map[Kind]string // what it cannot limit, and why
}

// Available is what this process may limit others with. Plain value, made by
// Claim; the maps are only read.
type Available struct {
	Manager Manager  // whom to ask for a scope
	Scope   Facility // of that
	Version int      // of the manager; 0 if it did not say

	Dir    string   // where our own cgroups are made, absolute
	Cgroup Facility // of that

	Files int64 // descriptors that a process may be given; math.MaxInt64: any number
	NoRes string
	// Data says that RLIMIT_DATA counts what a process maps writable for itself
	// alone, as on Linux since 4.7, and not only what it gets by brk(2).
	Data bool
}

// Plan is what to do for a daemon.
type Plan struct {
	Place  Mechanism // Scope, Cgroup or None
	Report Report    // as it will be if all of it succeeds
	Files  int64     // RLIMIT_NOFILE to set; 0: leave it
	Data   int64     // RLIMIT_DATA to set, in bytes; 0: leave it
}

// Why the resource limits that there are do not stand in for a limit of the
// whole service.
const (
	whyNoNPROC  = "RLIMIT_NPROC counts all processes of the user, so it is not used instead"
	whyOnlyData = "each process by itself may map that much (RLIMIT_DATA): allocations beyond it fail, shared memory and the page cache are not counted"
	whyNoData   = "this system has no resource limit that would count what a process maps"
)

// Decide says how what is wanted is had with what is available. It is a pure
// function: when the place turns out not to work, or to lack something, Decide
// is asked again with that noted in a.
func Decide(w Wanted, a Available) Plan {
	var p Plan
	var place Facility
	if w.placed() {
		switch {
		case a.Scope.Why == "":
			p.Place, place = Scope, a.Scope
		case a.Cgroup.Why == "":
			p.Place, place = Cgroup, a.Cgroup
		default:
			place.Why = a.Scope.Why + "; " + a.Cgroup.Why
		}
	}
	for _, k := range []Kind{Own, Memory, Tasks, CPUWeight} {
		n := w.value(k)
		if n == 0 {
			continue
		}
		e := Entry{Kind: k, Wanted: n, Reason: cmp.Or(place.Why, place.Lacks[k])}
		switch {
		case e.Reason == "":
			e.Force, e.By, e.Actual = InForce, p.Place, n
		case k == Memory && a.Data:
			e.Force, e.By, e.Actual = Partly, Rlimit, n
			e.Reason = whyOnlyData + "; " + e.Reason
			p.Data = n
		case k == Memory:
			e.Reason += "; " + whyNoData
		case k == Tasks:
			e.Reason += "; " + whyNoNPROC
		}
		p.Report = append(p.Report, e)
	}
	if n := w.OpenFiles; n > 0 {
		e := Entry{Kind: OpenFiles, Wanted: n, Actual: n, By: Rlimit, Force: InForce}
		switch {
		case a.NoRes != "":
			e.Actual, e.By, e.Force, e.Reason = 0, None, Not, a.NoRes
		case n > a.Files:
			e.Actual, e.Force = a.Files, Partly
			e.Reason = "the hard limit of this process is lower, and it may not raise it"
		}
		p.Files = e.Actual
		p.Report = append(p.Report, e)
	}
	return p
}

func (a Available) place(m Mechanism) Facility {
	if m == Scope {
		return a.Scope
	}
	return a.Cgroup
}

// without returns a with one place marked as not working.
func (a Available) without(place Mechanism, why string) Available {
	if place == Scope {
		a.Scope.Why = why
	} else {
		a.Cgroup.Why = why
	}
	return a
}

// lacking returns a with one place marked as not limiting some kinds.
func (a Available) lacking(place Mechanism, lacks map[Kind]string) Available {
	if place == Scope {
		a.Scope.Lacks = lacks
	} else {
		a.Cgroup.Lacks = lacks
	}
	return a
}
