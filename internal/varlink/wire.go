package varlink

import (
	"errors"
	"unicode/utf8"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// A Call is a Varlink request; see https://varlink.org/Method-Call.
type Call struct {
	Method     string
	Parameters jsonlite.Value // an object, or null
	Oneway     bool           // no reply is wanted, not even an error
	More       bool           // several replies are welcome
	Upgrade    bool           // the caller wants another protocol afterwards
}

// ParseCall takes a frame apart.
func ParseCall(frame []byte) (Call, error) {
	v, err := parseObject(frame)
	if err != nil {
		return Call{}, err
	}
	f := FieldsOf(v)
	c := Call{
		Method:     f.Text("method"),
		Parameters: f.ObjectOrNull("parameters"),
		Oneway:     f.Flag("oneway"),
		More:       f.Flag("more"),
		Upgrade:    f.Flag("upgrade"),
	}
	return c, f.Err
}

// AppendFrame appends c and its NUL byte.
func (c Call) AppendFrame(dst []byte) []byte {
	dst = append(dst, '{')
	dst = jsonlite.AppendString(jsonlite.AppendName(dst, "method"), c.Method)
	if c.Parameters.Kind() != jsonlite.KindNull {
		dst = c.Parameters.Append(jsonlite.AppendName(dst, "parameters"))
	}
	dst = appendFlag(dst, "oneway", c.Oneway)
	dst = appendFlag(dst, "more", c.More)
	dst = appendFlag(dst, "upgrade", c.Upgrade)
	return append(dst, '}', 0)
}

// A Reply is a Varlink reply as its reader has it.
type Reply struct {
	Parameters jsonlite.Value // an object, or null
	Continues  bool           // more replies to the same call follow
	Err        string         // the name of the error, or empty
}

// ParseReply takes a frame apart.
func ParseReply(frame []byte) (Reply, error) {
	v, err := parseObject(frame)
	if err != nil {
		return Reply{}, err
	}
	f := FieldsOf(v)
	r := Reply{
		Parameters: f.ObjectOrNull("parameters"),
		Continues:  f.Flag("continues"),
		Err:        f.TextOrNull("error"),
	}
	return r, f.Err
}

// AppendReply appends a reply and its NUL byte; parameters appends the object
// of its parameters.
func AppendReply(dst []byte, continues bool, err string, parameters func([]byte) []byte) []byte {
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

// Cut returns the longest prefix of s that has at most n bytes and does not end
// within a character.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
