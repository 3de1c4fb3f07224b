package version

import "time"

// The flap budget: two builds that replaced each other more often than
// flapLimit within FlapWindow do it for ever if nobody stops them.
const (
	flapLimit  = 3
	FlapWindow = time.Minute // what is longer ago does not count
)

// MaxReplacements is how many of the newest replacements Flapping looks at.
const MaxReplacements = 32

// A Replacement is one handover from a build to another.
type Replacement struct {
	At       time.Duration // boot-time clock
	From, To string        // a key of each build's identity, "" if not known
}

// A Flap is two builds that replace each other.
type Flap struct {
	From, To string        // of the newest of the counted replacements
	Until    time.Duration // when the oldest of them is a minute ago; boot-time clock
}

// Flapping reports whether two builds have replaced each other more than three
// times in the minute before now, in both directions, and until when that holds
// if none follows. A sequence of upgrades, each to yet another build, is none,
// nor are three builds in a ring: no two of those replace each other. The list
// is in the order of time; of several flaps the one that ends last counts.
func Flapping(list []Replacement, now time.Duration) (Flap, bool) {
	list = list[max(0, len(list)-MaxReplacements):]
	var last Flap
	found := false
	for i, r := range list {
		if r.From == "" || r.To == "" || r.From == r.To || r.At > now { // the clock of another boot
			continue
		}
		count, back := 0, false
		for j := i; j >= 0 && count <= flapLimit && list[j].At > now-FlapWindow; j-- {
			s := list[j]
			reverse := s.From == r.To && s.To == r.From
			if s.At > now || !reverse && (s.From != r.From || s.To != r.To) {
				continue
			}
			count, back = count+1, back || reverse
			if until := s.At + FlapWindow; count > flapLimit && back && until >= last.Until {
				last, found = Flap{From: r.From, To: r.To, Until: until}, true
			}
		}
	}
	return last, found
}
