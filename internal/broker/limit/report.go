package limit

import "strings"

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
