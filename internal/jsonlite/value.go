package jsonlite

import (
	"iter"
	"strconv"
	"strings"
)

// Kind is the JSON type of a Value.
type Kind uint8

// The kinds. A Value is Null until it is made something else.
const (
	KindNull Kind = iota
	KindBool
	KindNumber
	KindString
	KindArray
	KindObject
)

// Value is one JSON value; the zero Value is null. A Value never changes once
// made, so it may be copied and shared between goroutines.
type Value struct {
	kind Kind
	// text is "true" or "false", a number as it was written, or a string
	// without its quotes and escapes.
	text string
	// elems are an object's members or an array's elements, the latter without
	// names: one slice for both keeps a Value at 48 bytes.
	elems []Member
}

// Member is a named value of an object.
type Member struct {
	Name  string
	Value Value
}

// Bool returns true or false.
func Bool(b bool) Value { return Value{kind: KindBool, text: strconv.FormatBool(b)} }

// Int returns a number.
func Int(i int64) Value { return Value{kind: KindNumber, text: strconv.FormatInt(i, 10)} }

// String returns a string. Bytes that are not UTF-8 are written as U+FFFD.
func String(s string) Value { return Value{kind: KindString, text: s} }

// Object returns an object of members and keeps the slice. The names must
// differ from each other, or Parse will refuse what Append writes.
func Object(members ...Member) Value { return Value{kind: KindObject, elems: members} }

// Array returns an array of elements.
func Array(elements ...Value) Value {
	v := Value{kind: KindArray, elems: make([]Member, len(elements))}
	for i, e := range elements {
		v.elems[i].Value = e
	}
	return v
}

// Kind returns v's type.
func (v Value) Kind() Kind { return v.kind }

// Bool returns v's truth; ok is false if v is neither true nor false.
func (v Value) Bool() (b, ok bool) { return v.text == "true", v.kind == KindBool }

// Text returns v's characters; ok is false if v is not a string.
func (v Value) Text() (s string, ok bool) {
	if v.kind != KindString {
		return "", false
	}
	return v.text, true
}

// Int returns v's value; ok is false if v is not a number, is written with a
// fraction or an exponent, or does not fit. Rounding would be silent.
func (v Value) Int() (i int64, ok bool) {
	if v.kind != KindNumber {
		return 0, false
	}
	i, err := strconv.ParseInt(v.text, 10, 64)
	return i, err == nil
}

// maxFloat is what Float's numbers are smaller than.
const maxFloat = 1e300

// Float returns v's value, exact to 14 digits; ok is false if v is not a number, or
// one of 1e300 and more. It is not strconv.ParseFloat, which knows the nearest float64
// of every number and adds 23 KB to a client.
func (v Value) Float() (f float64, ok bool) {
	if v.kind != KindNumber {
		return 0, false
	}
	digits, exponent := v.text, 0
	if e := strings.IndexAny(digits, "eE"); e >= 0 {
		exponent, _ = strconv.Atoi(digits[e+1:]) // its nearest int if it fits none
		exponent = min(max(exponent, -1<<30), 1<<30)
		digits = digits[:e]
	}
	digits, negative := strings.CutPrefix(digits, "-")
	var mantissa uint64
	fraction := false
	for _, c := range []byte(digits) {
		switch {
		case c == '.':
			fraction = true
		case mantissa < 1e17:
			mantissa = mantissa*10 + uint64(c-'0')
			if fraction {
				exponent--
			}
		case !fraction:
			exponent++
		}
	}
	f = float64(mantissa)
	for exponent != 0 && 0 < f && f < maxFloat {
		step := min(max(exponent, -22), 22) // 1e22 is the last power that a float64 holds exactly
		power := 1.0
		for range max(step, -step) {
			power *= 10
		}
		if step < 0 {
			f /= power
		} else {
			f *= power
		}
		exponent -= step
	}
	if f >= maxFloat {
		return 0, false
	}
	if negative {
		f = -f
	}
	return f, true
}

// Get returns the member called name. It is null if v has no such member or is
// not an object: for an optional field, absent and null mean the same.
func (v Value) Get(name string) Value {
	for _, m := range v.elems {
		if v.kind == KindObject && m.Name == name {
			return m.Value
		}
	}
	return Value{}
}

// All ranges over an object's members in their order, or over an array's
// elements, whose names are empty. Other kinds have none.
func (v Value) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, m := range v.elems {
			if !yield(m.Name, m.Value) {
				return
			}
		}
	}
}
