// Package version says whether a running generation will do for a client:
// semantic versions and what may be wanted of them, the version policy, and the
// flap detector.
//
// It decides and does nothing else: no clock, no file, no process. Every type is
// a plain value, safe for concurrent use. Every input is bounded. On the warm
// path nothing allocates: Parse of a valid version, Want.Allows, Flapping, and
// Decide where it finds no fault.
//
//	want, err := version.ParseWant(">=1.2, <2")          // once
//	action, why := version.Decide(policy, have, ours, version.Limits{Want: want})
//	flap, is := version.Flapping(replacements, now)      // before replacing
package version

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// MaxLength is the length of the longest version, in bytes, and maxWant that of
// the longest want.
const (
	MaxLength = 128
	maxWant   = 512
)

// A Malformed error names what cannot be read and the place, counted from 1 in
// bytes.
type Malformed struct {
	What, Value, Reason string // Value is "" if it is empty or too long to show
}

func (e *Malformed) Error() string {
	s := "malformed " + e.What
	if e.Value != "" {
		s += " " + strconv.Quote(e.Value)
	}
	return s + ": " + e.Reason
}

// A Version is a semantic version as of semver.org 2.0.0. The zero Version is
// none, and precedes all. Versions are compared with Compare, not with ==, which
// sees build metadata.
type Version struct {
	text string    // as written, without "v"
	core [3]string // major, minor, patch; digits without leading zeros
	pre  string    // the pre-release's identifiers, with the dots between
}

// String returns the version as it was written, without a leading "v".
func (v Version) String() string { return v.text }

// Parse reads a version: semver.org sections 2, 9 and 10, after an optional "v",
// which Go's versions have. The numbers may be of any size within MaxLength. The
// error is a *Malformed.
func Parse(s string) (Version, error) {
	v, _, at, reason := parse(s, 3)
	if reason == "" {
		return v, nil
	}
	e := &Malformed{What: "version", Value: s, Reason: reason}
	switch {
	case len(s) > MaxLength:
		e.Value = ""
	case s != "":
		e.Reason = "character " + strconv.Itoa(at+1) + ": " + reason
	}
	return Version{}, e
}

// parse reads a version of which at least the first least numbers are stated, n
// of them. If it cannot, there is a constant reason, and s[at:] is the place.
func parse(s string, least int) (v Version, n, at int, reason string) {
	switch {
	case s == "":
		return v, 0, 0, "it is empty"
	case len(s) > MaxLength:
		return v, 0, MaxLength, "longer than 128 bytes"
	case s[0] == 'v':
		at = 1
	}
	v.text = s[at:]
	for {
		end := at
		for end < len(s) && isDigit(s[end]) {
			end++
		}
		switch {
		case end == at:
			return v, n, at, "expected a number"
		case s[at] == '0' && end > at+1:
			return v, n, at, "a number begins with 0"
		}
		v.core[n] = s[at:end]
		n, at = n+1, end
		if n == 3 || at == len(s) || s[at] != '.' {
			break
		}
		at++
	}
	switch {
	case n < least, n < 3 && at < len(s):
		return v, n, at, "expected . and a number"
	case at == len(s):
		return v, n, at, ""
	}
	if s[at] == '-' {
		begin := at + 1
		if at, reason = identifiers(s, begin, true); reason != "" {
			return v, n, at, reason
		}
		v.pre = s[begin:at]
	}
	if at < len(s) && s[at] == '+' {
		if at, reason = identifiers(s, at+1, false); reason != "" {
			return v, n, at, reason
		}
	}
	if at < len(s) {
		reason = "unexpected character"
	}
	return v, n, at, reason
}

// identifiers passes over the identifiers that begin at s[at:]. Those of a
// pre-release have no leading zeros in numbers (semver.org 9); build metadata
// may (10).
func identifiers(s string, at int, preRelease bool) (end int, reason string) {
	for {
		end = at
		for end < len(s) && (isDigit(s[end]) || isLetter(s[end]) || s[end] == '-') {
			end++
		}
		switch {
		case end == at:
			return at, "expected a letter, a digit or -"
		case preRelease && s[at] == '0' && end > at+1 && isNumber(s[at:end]):
			return at, "a number begins with 0"
		case end == len(s) || s[end] != '.':
			return end, ""
		}
		at = end + 1
	}
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isNumber(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// Compare returns -1, 0 or 1 as v's precedence is lower than w's, the same or
// higher: semver.org 11. Build metadata does not count (10).
func (v Version) Compare(w Version) int {
	for i := range v.core {
		if c := compareNumbers(v.core[i], w.core[i]); c != 0 {
			return c
		}
	}
	a, b := v.pre, w.pre
	switch {
	case a == b:
		return 0
	case a == "": // 11.3: a release is above its pre-releases
		return 1
	case b == "":
		return -1
	}
	for a != "" && b != "" { // 11.4, identifier by identifier
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if x == y {
			continue
		}
		switch xn, yn := isNumber(x), isNumber(y); {
		case xn && yn: // 11.4.1
			return compareNumbers(x, y)
		case xn: // 11.4.3: numbers are below names
			return -1
		case yn:
			return 1
		}
		return strings.Compare(x, y) // 11.4.2: in ASCII order
	}
	return cmp.Compare(len(a), len(b)) // 11.4.4: one has ended and is the lower
}

// compareNumbers compares digits without leading zeros: no number overflows.
func compareNumbers(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// A Want says which versions will do. The zero Want is none: all will.
type Want struct {
	text  string
	terms []term // all must hold; none: only the very text will do
}

// A term is one part of a want. With n < 3 an exact one leaves numbers open.
type term struct {
	op byte
	n  int
	v  Version
}

const (
	exact = '='
	floor = '>'
	below = '<'
)

// ParseWant reads a want, parts with commas between, all of which must hold:
//
//	1.4.2    that version, whatever its build metadata
//	1.4, 1   a version that begins so, and no pre-release
//	>=1.2    1.2.0 or higher, as Version.Compare has it
//	<2       lower than 2.0.0, and none of its pre-releases either: whoever
//	         excludes 2 hardly means 2.0.0-rc.1. But <2.0.0-rc.1 is literal.
//
// A want of one part that is no version, such as (devel) or build-77, stands for
// that text: it begins neither with a digit, or v and a digit, nor with an
// operator. The error is a *Malformed that names the part and the place.
func ParseWant(s string) (Want, error) {
	w := Want{text: strings.Trim(s, " ")}
	switch {
	case w.text == "":
		return Want{}, &Malformed{What: "want", Reason: "it is empty"}
	case len(s) > maxWant:
		return Want{}, &Malformed{What: "want", Reason: "longer than 512 bytes"}
	}
	malformed := func(at int, reason string) (Want, error) {
		part := strconv.Itoa(1 + strings.Count(s[:at], ","))
		return Want{}, &Malformed{What: "want", Value: s, Reason: "part " + part + ", character " + strconv.Itoa(at+1) + ": " + reason}
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return malformed(i, "it is not printable")
	}
	if isText(w.text) {
		return w, nil
	}
	for begin, more := 0, true; more; {
		var part string
		part, _, more = strings.Cut(s[begin:], ",")
		t, at, reason := parseTerm(part)
		if reason != "" {
			return malformed(begin+at, reason)
		}
		w.terms = append(w.terms, t)
		begin += len(part) + 1
	}
	return w, nil
}

const operators = "<>=!~^*"

// isText reports whether a want stands for its very text.
func isText(s string) bool {
	number := strings.TrimPrefix(s, "v")
	return len(s) <= MaxLength && (number == "" || !isDigit(number[0])) &&
		strings.IndexByte(operators, s[0]) < 0 && strings.IndexByte(s, ',') < 0
}

func parseTerm(part string) (t term, at int, reason string) {
	skip := func() {
		for at < len(part) && part[at] == ' ' {
			at++
		}
	}
	skip()
	t.op = exact
	switch s := part[at:]; {
	case strings.HasPrefix(s, ">="):
		t.op, at = floor, at+2
	case strings.HasPrefix(s, "<") && !strings.HasPrefix(s, "<="):
		t.op, at = below, at+1
	case s != "" && strings.IndexByte(operators, s[0]) >= 0:
		return t, at, "of operators there are >= and <"
	}
	skip()
	var within int
	t.v, t.n, within, reason = parse(strings.TrimRight(part[at:], " "), 1)
	if t.op != exact {
		for i := t.n; i < len(t.v.core); i++ {
			t.v.core[i] = "0"
		}
	}
	if t.op == below && t.v.pre == "" {
		t.v.pre = "0" // the lowest there is
	}
	return t, at + within, reason
}

// String returns the want as it was written, "" if it is none.
func (w Want) String() string { return w.text }

// Allows reports whether the version will do. One that is not known, or is not a
// semantic version, can meet only the want of its very text: a want asks for
// proof.
func (w Want) Allows(version string) bool {
	if w.text == "" || w.text == version {
		return true
	}
	v, _, _, reason := parse(version, 3)
	if reason != "" {
		return false
	}
	for _, t := range w.terms {
		if !t.allows(v) {
			return false
		}
	}
	return len(w.terms) > 0
}

func (t term) allows(v Version) bool {
	switch {
	case t.op == floor:
		return v.Compare(t.v) >= 0
	case t.op == below:
		return v.Compare(t.v) < 0
	case t.n == 3:
		return v.Compare(t.v) == 0
	}
	return v.pre == "" && slices.Equal(v.core[:t.n], t.v.core[:t.n])
}
