package jsonlite

import (
	"strconv"
	"unicode/utf8"
)

// Append appends v to dst without any white space. The text holds no control
// character, so it may be framed by a newline or a NUL byte.
func (v Value) Append(dst []byte) []byte {
	switch v.kind {
	case KindNull:
		return append(dst, "null"...)
	case KindBool, KindNumber:
		return append(dst, v.text...)
	case KindString:
		return AppendString(dst, v.text)
	case KindArray:
		dst = append(dst, '[')
		for i, e := range v.elems {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.Value.Append(dst)
		}
		return append(dst, ']')
	default:
		dst = append(dst, '{')
		for _, m := range v.elems {
			dst = m.Value.Append(AppendName(dst, m.Name))
		}
		return append(dst, '}')
	}
}

// AppendName appends a member's name and its colon to dst, which ends inside an
// object: after its opening brace or after a complete member. The comma
// between members is AppendName's; a complete member never ends in '{'.
func AppendName(dst []byte, name string) []byte {
	if n := len(dst); n == 0 || dst[n-1] != '{' {
		dst = append(dst, ',')
	}
	return append(AppendString(dst, name), ':')
}

// AppendString appends s as a JSON string. It escapes what RFC 8259 section 7
// demands: the quote, the backslash and the control characters below 0x20; no
// reader of ours puts the text into HTML or JavaScript. Each byte that is not
// part of valid UTF-8 becomes U+FFFD, so the result is always readable by
// Parse.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	clean := 0 // s[clean:i] needs no change
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[clean:i]...), "\uFFFD"...)
				clean = i + 1
			}
			i += size
			continue
		}
		if c < 0x20 || c == '"' || c == '\\' {
			dst = appendEscape(append(dst, s[clean:i]...), c)
			clean = i + 1
		}
		i++
	}
	return append(append(dst, s[clean:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\t':
		return append(dst, `\t`...)
	case '\n':
		return append(dst, `\n`...)
	case '\f':
		return append(dst, `\f`...)
	case '\r':
		return append(dst, `\r`...)
	}
	dst = append(dst, `\u00`...)
	if c < 0x10 {
		dst = append(dst, '0')
	}
	return strconv.AppendUint(dst, uint64(c), 16)
}
