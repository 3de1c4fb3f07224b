package analysis

import (
	"fmt"
	"strings"
)

// A Summary is what is known of a function: what it does, of itself and by what
// it calls. It is a fact, so it goes along with the package's types.
type Summary struct {
	Effects []Effect
	Returns []Effect // of what it returns, when that is called
	Holes   []Hole   // what it calls of what it is given

	Removes, Dials, Listens []Path // paths that it removes, dials and listens on

	Runs  string // the function by which it becomes the daemon, or ""
	Locks bool   // it takes a lock that other processes see
	Ready bool   // it, or what it refers to, mentions Instance.Ready

	Unused []int // parameters, counted with the receiver, of a context's or listener's type that nothing looks at
	Ends   []int // those that are listeners it accepts on until that fails
}

// AFact makes it a fact.
func (*Summary) AFact() {}

func (s *Summary) String() string {
	var b strings.Builder
	for _, e := range s.Effects {
		fmt.Fprintf(&b, "%s by %s; ", e.Kind, e.chain())
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// An Effect is something that a function does, and how it comes to do it.
type Effect struct {
	Kind  Kind
	For   audience
	Steps []Step // the calls that lead to it, the last one is what does it
}

// An audience is the checks that an effect matters to: one that a comment
// allows at its origin matters to fewer.
type audience uint8

const (
	forBind audience = 1 << iota
	forBefore
)

// A Step is one call of a chain.
type Step struct {
	What string // the function that is called, or what is done
	At   string // where, "file.go:12"
}

// chain writes an effect's steps. Where the first is, is where the message is.
func (e Effect) chain() string {
	var b strings.Builder
	for i, s := range e.Steps {
		if i > 0 {
			b.WriteString(" → ")
		}
		b.WriteString(s.What)
		if i > 0 && s.At != "" {
			fmt.Fprintf(&b, " (%s)", s.At)
		}
	}
	return b.String()
}

// maxSteps bounds a chain: the middle of a longer one is left out.
const maxSteps = 8

// after is the effect as the caller has it who makes the call s.
func (e Effect) after(s Step) Effect {
	steps := append([]Step{s}, e.Steps...)
	if len(steps) > maxSteps {
		steps = append(append(steps[:maxSteps-2:maxSteps-2], Step{What: "…"}), steps[len(steps)-1])
	}
	e.Steps = steps
	return e
}

// addEffect adds an effect unless one of its kind that matters to as many is
// there. It reports whether it was added.
func addEffect(list *[]Effect, e Effect) bool {
	if e.For == 0 {
		return false
	}
	for _, old := range *list {
		if old.Kind == e.Kind && old.For&e.For == e.For {
			return false
		}
	}
	*list = append(*list, e)
	return true
}

// A Hole is a call of something that a function is given: of its parameter
// Param, counted with the receiver, or of a value of its type parameter
// TypeParam; of the method Method, or of the function that it is.
type Hole struct {
	Param, TypeParam int // -1: not that
	Method           string
}

// A Path is a path by where it comes from, see keys.go, and where it is used.
type Path struct {
	Key   string
	Steps []Step
}

// maxPaths bounds a summary's paths.
const maxPaths = 16

// addPath adds a path unless it is there.
func addPath(list *[]Path, p Path) bool {
	if len(*list) >= maxPaths {
		return false
	}
	for _, old := range *list {
		if old.Key == p.Key {
			return false
		}
	}
	*list = append(*list, p)
	return true
}

// A Variable is the fact that a package variable changes while the program
// runs, and how that is known.
type Variable struct{ Why string }

// AFact makes it a fact.
func (*Variable) AFact() {}

func (v *Variable) String() string { return v.Why }

// A Holder is the fact that a package variable holds functions, and what those
// do when they are called.
type Holder struct{ Effects []Effect }

// AFact makes it a fact.
func (*Holder) AFact() {}

func (h *Holder) String() string { return (&Summary{Effects: h.Effects}).String() }

// An Initialisation is the fact that a package does work when it is
// initialised.
type Initialisation struct{ Effects []Effect }

// AFact makes it a fact.
func (*Initialisation) AFact() {}

func (i *Initialisation) String() string { return (&Summary{Effects: i.Effects}).String() }
