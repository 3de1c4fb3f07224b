package control

import (
	"errors"
	"math"
	"slices"
	"strconv"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// fields takes an object apart by the names this release knows and remembers
// the first field that is not as the interface says. Absent and null are the
// same; without an …OrNull the field is mandatory.
type fields struct {
	object jsonlite.Value
	within string   // the object's own name and a dot, for messages
	known  []string // the names asked for so far
	err    error
}

func (f *fields) get(name string) jsonlite.Value {
	f.known = append(f.known, name)
	return f.object.Get(name)
}

func (f *fields) check(ok bool, name, want string) {
	if !ok && f.err == nil {
		f.err = errors.New("field " + strconv.Quote(f.within+name) + " is not " + want)
	}
}

func (f *fields) text(name string) string {
	s, ok := f.get(name).Text()
	f.check(ok, name, "a string")
	return s
}

func (f *fields) textOrNull(name string) string {
	v := f.get(name)
	s, ok := v.Text()
	f.check(ok || v.Kind() == jsonlite.KindNull, name, "a string")
	return s
}

// flag takes null for false.
func (f *fields) flag(name string) bool {
	v := f.get(name)
	b, ok := v.Bool()
	f.check(ok || v.Kind() == jsonlite.KindNull, name, "a boolean")
	return b
}

func (f *fields) integer(name string, low, high int64) int64 {
	i, ok := f.get(name).Int()
	f.check(ok && low <= i && i <= high, name,
		"an integer from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
	return i
}

// bits takes an unsigned number whose bits were written as an int.
func (f *fields) bits(name string) uint64 {
	return uint64(f.integer(name, math.MinInt64, math.MaxInt64))
}

func (f *fields) integerOr(name string, null int64) int64 {
	v := f.get(name)
	if v.Kind() == jsonlite.KindNull {
		return null
	}
	i, ok := v.Int()
	f.check(ok, name, "an integer")
	return i
}

func (f *fields) floatOr(name string, null float64) float64 {
	v := f.get(name)
	if v.Kind() == jsonlite.KindNull {
		return null
	}
	x, ok := v.Float()
	f.check(ok, name, "a float")
	return x
}

func (f *fields) objectOrNull(name string) jsonlite.Value {
	v := f.get(name)
	f.check(v.Kind() == jsonlite.KindObject || v.Kind() == jsonlite.KindNull, name, "an object")
	return v
}

// inner returns the fields of the object called name.
func (f *fields) inner(name string) *fields {
	v := f.get(name)
	f.check(v.Kind() == jsonlite.KindObject, name, "an object")
	return &fields{object: v, within: f.within + name + "."}
}

// unknown returns the members that nobody asked for, in their order.
func (f *fields) unknown() []jsonlite.Member {
	var rest []jsonlite.Member
	for name, v := range f.object.All() {
		if !slices.Contains(f.known, name) {
			rest = append(rest, jsonlite.Member{Name: name, Value: v})
		}
	}
	return rest
}
