package supervise

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// A Quota is what a user's daemons may have together (R30). 0 is no limit.
type Quota struct {
	Daemons int
	Memory  uint64 // bytes
}

// A Usage is what one daemon has.
type Usage struct {
	Service string
	Used    time.Duration // boot-time clock: when it last had a connection
	Memory  uint64        // bytes, of it and its children; 0 if not known
	Limit   uint64        // bytes that its own definition allows; 0: no limit
	Busy    bool          // it has connections or leases, or loads
	Leaving bool          // it drains already
}

// A Dismissal is a daemon that is asked to drain, and why.
type Dismissal struct {
	Service string
	Reason  string
}

// An Excess is by how much a quota is exceeded still when everybody has left who was
// asked to. The zero value is not at all.
type Excess struct {
	Daemons int
	Memory  uint64 // bytes
}

// Dismiss says who is asked to drain so that the quota is kept: first who has more
// memory than its own limit, then who was not used for the longest time. A busy daemon
// is asked only for its own excess: it serves whom it has, and the next one starts
// small. For the user's sake none is taken from whom it serves; what the idle ones
// cannot give back is the excess, to be shown. Who drains already has left.
//
// It changes nothing in list. Of several that were last used at the same time the
// larger goes first, then the first by name, so that the answer depends on nothing else.
func (q Quota) Dismiss(list []Usage) ([]Dismissal, Excess) {
	var gone []Dismissal
	var idle []Usage
	daemons, memory := 0, uint64(0)
	for _, u := range list {
		switch {
		case u.Leaving:
		case u.Limit > 0 && u.Memory > u.Limit:
			gone = append(gone, Dismissal{u.Service, "it has " + megabytes(u.Memory) + " of memory, more than its " + megabytes(u.Limit)})
		default:
			daemons++
			memory += u.Memory
			if !u.Busy {
				idle = append(idle, u)
			}
		}
	}
	slices.SortFunc(gone, func(a, b Dismissal) int { return cmp.Compare(a.Service, b.Service) })
	slices.SortFunc(idle, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(a.Used, b.Used), cmp.Compare(b.Memory, a.Memory), cmp.Compare(a.Service, b.Service))
	})
	for _, u := range idle {
		many := q.Daemons > 0 && daemons > q.Daemons
		large := q.Memory > 0 && memory > q.Memory
		switch {
		case many:
			gone = append(gone, Dismissal{u.Service, "more than " + strconv.Itoa(q.Daemons) + " daemons run, and it was not used for the longest time"})
		case large && u.Memory > 0: // else it would leave for nothing
			gone = append(gone, Dismissal{u.Service, "the daemons have more than " + megabytes(q.Memory) + " of memory, and it was not used for the longest time"})
		default:
			continue
		}
		daemons--
		memory -= u.Memory
	}
	var over Excess
	if q.Daemons > 0 {
		over.Daemons = max(daemons-q.Daemons, 0)
	}
	if q.Memory > 0 && memory > q.Memory {
		over.Memory = memory - q.Memory
	}
	return gone, over
}

func megabytes(bytes uint64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', 1, 64) + " MiB"
}
