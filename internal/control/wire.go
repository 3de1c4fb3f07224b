package control

import (
	"errors"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// A call is a Varlink request; see https://varlink.org/Method-Call.
type call struct {
	method     string
	parameters jsonlite.Value // an object, or null
	oneway     bool           // no reply is wanted, not even an error
	more       bool           // several replies are welcome
	upgrade    bool           // the caller wants another protocol afterwards
}

func parseCall(frame []byte) (call, error) {
	v, err := parseObject(frame)
	if err != nil {
		return call{}, err
	}
	f := fields{object: v}
	c := call{
		method:     f.text("method"),
		parameters: f.objectOrNull("parameters"),
		oneway:     f.flag("oneway"),
		more:       f.flag("more"),
		upgrade:    f.flag("upgrade"),
	}
	return c, f.err
}

// appendFrame appends c and its NUL byte.
func (c call) appendFrame(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonlite.AppendString(jsonlite.AppendName(dst, "method"), c.method)
	if c.parameters.Kind() != jsonlite.KindNull {
		dst = c.parameters.Append(jsonlite.AppendName(dst, "parameters"))
	}
	dst = appendFlag(dst, "oneway", c.oneway)
	dst = appendFlag(dst, "more", c.more)
	dst = appendFlag(dst, "upgrade", c.upgrade)
	return append(dst, '}', 0)
}

// A reply is a Varlink reply as its reader has it.
type reply struct {
	parameters jsonlite.Value // an object, or null
	continues  bool           // more replies to the same call follow
	err        string         // the name of the error, or empty
}

func parseReply(frame []byte) (reply, error) {
	v, err := parseObject(frame)
	if err != nil {
		return reply{}, err
	}
	f := fields{object: v}
	r := reply{
		parameters: f.objectOrNull("parameters"),
		continues:  f.flag("continues"),
		err:        f.textOrNull("error"),
	}
	return r, f.err
}

// appendReply appends a reply and its NUL byte; parameters appends the object
// of its parameters.
func appendReply(dst []byte, continues bool, err string, parameters func([]byte) []byte) []byte {
	dst = append(dst, '{')
	if err != "" {
		dst = jsonlite.AppendString(jsonlite.AppendName(dst, "error"), err)
	}
	dst = parameters(jsonlite.AppendName(dst, "parameters"))
	dst = appendFlag(dst, "continues", continues)
	return append(dst, '}', 0)
}

// appendFlag appends the member only if it is true: absent means false, and
// some readers take its mere presence for a wish.
func appendFlag(dst []byte, name string, b bool) []byte {
	if !b {
		return dst
	}
	return append(jsonlite.AppendName(dst, name), "true"...)
}

func parseObject(frame []byte) (jsonlite.Value, error) {
	v, err := jsonlite.Parse(frame)
	if err == nil && v.Kind() != jsonlite.KindObject {
		err = errors.New("not an object")
	}
	return v, err
}

// cut returns the longest prefix of s that has at most n bytes and does not end
// within a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
