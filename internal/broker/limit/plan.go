package limit

import "cmp"

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

	Files    int64  // descriptors that a process may be given; math.MaxInt64: any number
	NoRlimit string // why there are no resource limits; "" if there are

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
		case a.NoRlimit != "":
			e.Actual, e.By, e.Force, e.Reason = 0, None, Not, a.NoRlimit
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
