package varlink

import (
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// Fields takes an object apart by the names this release knows and remembers
// the first field that is not as the interface says. Absent and null are the
// same; without an …Or or …OrNull the field is mandatory. It is
// not safe for concurrent use.
type Fields struct {
	Err error // the first mistake

	object jsonlite.Value
	within string   // the object's own name and a dot, for messages
	known  []string // the names asked for so far
}

// FieldsOf returns the fields of an object, or of null, which has none.
func FieldsOf(object jsonlite.Value) *Fields { return &Fields{object: object} }

func (f *Fields) get(name string) jsonlite.Value {
	f.known = append(f.known, name)
	return f.object.Get(name)
}

func (f *Fields) check(ok bool, name, want string) {
	if !ok && f.Err == nil {
		f.Err = errors.New("field " + strconv.Quote(f.within+name) + " is not " + want)
	}
}

// Text takes a string.
func (f *Fields) Text(name string) string {
	s, ok := f.get(name).Text()
	f.check(ok, name, "a string")
	return s
}

// TextOrNull takes a string, "" for null.
func (f *Fields) TextOrNull(name string) string {
	v := f.get(name)
	s, ok := v.Text()
	f.check(ok || v.Kind() == jsonlite.KindNull, name, "a string")
	return s
}

// Flag takes a boolean, false for null.
func (f *Fields) Flag(name string) bool {
	v := f.get(name)
	b, ok := v.Bool()
	f.check(ok || v.Kind() == jsonlite.KindNull, name, "a boolean")
	return b
}

// Integer takes a whole number within the bounds.
func (f *Fields) Integer(name string, low, high int64) int64 {
	i, ok := f.get(name).Int()
	f.check(ok && low <= i && i <= high, name,
		"an integer from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
	return i
}

// Bits takes an unsigned number whose bits were written as an int.
func (f *Fields) Bits(name string) uint64 {
	return uint64(f.Integer(name, math.MinInt64, math.MaxInt64))
}

// IntegerOr takes a whole number, null for null.
func (f *Fields) IntegerOr(name string, null int64) int64 {
	v := f.get(name)
	if v.Kind() == jsonlite.KindNull {
		return null
	}
	i, ok := v.Int()
	f.check(ok, name, "an integer")
	return i
}

// FloatOr takes a number, null for null.
func (f *Fields) FloatOr(name string, null float64) float64 {
	v := f.get(name)
	if v.Kind() == jsonlite.KindNull {
		return null
	}
	x, ok := v.Float()
	f.check(ok, name, "a float")
	return x
}

// ObjectOrNull takes an object or null.
func (f *Fields) ObjectOrNull(name string) jsonlite.Value {
	v := f.get(name)
	f.check(v.Kind() == jsonlite.KindObject || v.Kind() == jsonlite.KindNull, name, "an object")
	return v
}

// Inner returns the fields of the object called name.
func (f *Fields) Inner(name string) *Fields {
	v := f.get(name)
	f.check(v.Kind() == jsonlite.KindObject, name, "an object")
	return &Fields{object: v, within: f.within + name + "."}
}

// Unknown returns the members that nobody asked for, in their order.
func (f *Fields) Unknown() []jsonlite.Member {
	var rest []jsonlite.Member
	for name, v := range f.object.All() {
		if !slices.Contains(f.known, name) {
			rest = append(rest, jsonlite.Member{Name: name, Value: v})
		}
	}
	return rest
}

// TextsOrNull takes an array of strings, nil for null.
func (f *Fields) TextsOrNull(name string) []string {
	v := f.get(name)
	f.check(v.Kind() == jsonlite.KindArray || v.Kind() == jsonlite.KindNull, name, "an array of strings")
	var texts []string
	if v.Kind() == jsonlite.KindArray {
		for _, e := range v.All() {
			s, ok := e.Text()
			f.check(ok, name, "an array of strings")
			texts = append(texts, s)
		}
	}
	return texts
}
