package jsonlite

import (
	"iter"
	"strconv"
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

// Float returns the nearest float64; ok is false if v is not a number or its
// magnitude does not fit.
func (v Value) Float() (f float64, ok bool) {
	if v.kind != KindNumber {
		return 0, false
	}
	f, err := strconv.ParseFloat(v.text, 64)
	return f, err == nil
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
