package jsonlite

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how many arrays and objects may lie in each other. The deepest
// message of fastbind needs 4; the rest is room for fields of later releases.
const MaxDepth = 32

// A SyntaxError says what Parse refused and where.
type SyntaxError struct {
	Offset int    // in bytes, from the start of the text
	Reason string // lower case, without quoting the text
}

func (e *SyntaxError) Error() string {
	return "byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// Parse reads the one JSON text that data holds, white space around it allowed.
// The Value shares no memory with data and takes less than 256 bytes for each
// byte of it. The error is a *SyntaxError.
func Parse(data []byte) (Value, error) {
	p := parser{data: data}
	p.space()
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.pos < len(data) {
		return Value{}, p.fail("data after the value")
	}
	return v, nil
}

type parser struct {
	data []byte
	pos  int
}

// fail makes the error. Inlined, it is 4 kB of code in every client.
//
//go:noinline
func (p *parser) fail(reason string) error {
	if p.pos >= len(p.data) {
		reason = "unexpected end"
	}
	return &SyntaxError{Offset: p.pos, Reason: reason}
}

// peek returns the next byte, or 0, which starts nothing in JSON, at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

// take consumes c if it comes next. Inlined, it is 2 kB of code in every client.
//
//go:noinline
func (p *parser) take(c byte) bool {
	if p.pos < len(p.data) && p.data[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) space() {
	for p.take(' ') || p.take('\n') || p.take('\r') || p.take('\t') {
	}
}

// value reads a value that lies in depth arrays and objects.
func (p *parser) value(depth int) (Value, error) {
	switch c := p.peek(); {
	case c == '{' || c == '[':
		if depth == MaxDepth {
			return Value{}, p.fail("nested too deep")
		}
		p.pos++
		if c == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	case c == '"':
		s, err := p.string()
		return Value{kind: KindString, text: s}, err
	case c == '-' || isDigit(c):
		return p.number()
	case c == 't':
		return p.literal("true", KindBool)
	case c == 'f':
		return p.literal("false", KindBool)
	case c == 'n':
		return p.literal("null", KindNull)
	}
	return Value{}, p.fail("expected a value")
}

func (p *parser) literal(word string, kind Kind) (Value, error) {
	for i := range len(word) {
		if !p.take(word[i]) {
			return Value{}, p.fail("expected " + word)
		}
	}
	if kind == KindNull {
		word = "" // so that null is the zero Value, however it came to be
	}
	return Value{kind: kind, text: word}, nil
}

func (p *parser) array(depth int) (Value, error) {
	v := Value{kind: KindArray}
	p.space()
	if p.take(']') {
		return v, nil
	}
	for {
		p.space()
		elem, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.elems = append(v.elems, Member{Value: elem})
		p.space()
		if p.take(']') {
			return v, nil
		}
		if !p.take(',') {
			return Value{}, p.fail("expected ',' or ']'")
		}
	}
}

func (p *parser) object(depth int) (Value, error) {
	v := Value{kind: KindObject}
	p.space()
	if p.take('}') {
		return v, nil
	}
	var names nameSet
	for {
		p.space()
		start := p.pos
		if p.peek() != '"' {
			return Value{}, p.fail("expected a name")
		}
		name, err := p.string()
		if err != nil {
			return Value{}, err
		}
		if !names.add(name, v.elems) {
			return Value{}, &SyntaxError{Offset: start, Reason: "name appears twice"}
		}
		p.space()
		if !p.take(':') {
			return Value{}, p.fail("expected ':'")
		}
		p.space()
		elem, err := p.value(depth)
		if err != nil {
			return Value{}, err
		}
		v.elems = append(v.elems, Member{name, elem})
		p.space()
		if p.take('}') {
			return v, nil
		}
		if !p.take(',') {
			return Value{}, p.fail("expected ',' or '}'")
		}
	}
}

// A nameSet tells whether a name is new to its object. Objects of our wires are
// small, so it looks through the members; only from scanMax members on does it
// pay for a map, without which a large object would cost quadratic time.
type nameSet map[string]struct{}

const scanMax = 32

func (s *nameSet) add(name string, members []Member) bool {
	if len(members) < scanMax {
		for _, m := range members {
			if m.Name == name {
				return false
			}
		}
		return true
	}
	if *s == nil {
		*s = make(nameSet)
		for _, m := range members {
			(*s)[m.Name] = struct{}{}
		}
	}
	_, known := (*s)[name]
	(*s)[name] = struct{}{}
	return !known
}

// number reads the grammar of RFC 8259 section 6 and keeps the text.
func (p *parser) number() (Value, error) {
	start := p.pos
	p.take('-')
	if !p.take('0') && !p.digits() { // no digit may follow a leading 0
		return Value{}, p.fail("expected a digit")
	}
	if p.take('.') && !p.digits() {
		return Value{}, p.fail("expected a digit")
	}
	if p.take('e') || p.take('E') {
		_ = p.take('+') || p.take('-')
		if !p.digits() {
			return Value{}, p.fail("expected a digit")
		}
	}
	return Value{kind: KindNumber, text: string(p.data[start:p.pos])}, nil
}

func (p *parser) digits() bool {
	start := p.pos
	for isDigit(p.peek()) {
		p.pos++
	}
	return p.pos > start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// string reads a string whose opening quote comes next.
func (p *parser) string() (string, error) {
	p.pos++
	start := p.pos // of the piece that needs no change
	var out []byte // the pieces before it
	for p.pos < len(p.data) {
		switch c := p.data[p.pos]; {
		case c == '"':
			piece := p.data[start:p.pos]
			p.pos++
			if out == nil {
				return string(piece), nil
			}
			return string(append(out, piece...)), nil
		case c == '\\':
			out = append(out, p.data[start:p.pos]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			start = p.pos
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c < utf8.RuneSelf:
			p.pos++
		default:
			r, size := utf8.DecodeRune(p.data[p.pos:])
			if r == utf8.RuneError && size == 1 {
				return "", p.fail("invalid UTF-8")
			}
			p.pos += size
		}
	}
	return "", p.fail("unexpected end")
}

// escape reads an escape sequence whose backslash comes next.
func (p *parser) escape() (rune, error) {
	start := p.pos
	p.pos++
	c := p.peek()
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return p.unicode(start)
	default:
		return 0, p.fail("unknown escape")
	}
	p.pos++
	return rune(c), nil
}

// unicode reads the rest of the escape that began at start: \uXXXX, or the two
// of them that make a surrogate pair.
func (p *parser) unicode(start int) (rune, error) {
	r, err := p.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if p.take('\\') && p.peek() == 'u' {
		low, err := p.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, &SyntaxError{Offset: start, Reason: "half a surrogate pair"}
}

// hex4 reads u and four hexadecimal digits.
func (p *parser) hex4() (r rune, err error) {
	p.pos++
	for range 4 {
		c := p.peek()
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, p.fail("expected a hexadecimal digit")
		}
		r = r<<4 | rune(c)
		p.pos++
	}
	return r, nil
}
