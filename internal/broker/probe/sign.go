package probe

import (
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

// A Kind is a way in which a daemon shows that it is ready.
type Kind string

// The kinds, which are the first word of a definition's ready.
const (
	Notify  Kind = "notify"  // it says so: READY=1
	Accept  Kind = "accept"  // it accepts a connection
	HTTP    Kind = "http"    // a path answers
	Output  Kind = "output"  // a line of its output matches
	Command Kind = "command" // a command succeeds
	Delay   Kind = "delay"   // so much time has passed
)

// A Sign is what shows that a daemon is ready, as its definition says.
type Sign struct {
	Kind    Kind
	Path    string         // HTTP: what is asked for
	Pattern *regexp.Regexp // Output
	Command []string       // Command: program and arguments; {socket} is the endpoint
	Delay   time.Duration  // Delay
}

// Bounds of a definition's ready.
const (
	maxSign  = 4096
	minDelay = time.Millisecond
	maxDelay = time.Hour
)

// Parse reads a definition's ready:
//
//	notify
//	accept
//	http PATH
//	output REGEXP
//	command PROGRAM ARG…
//	delay DURATION
//
// What follows the first word and one space is taken as it is, but for the words
// of a command: these are separated by blanks, and quoted by '…', "…" or \ as in
// sh(1), which expands nothing here. The expression is one of package regexp. Errors
// are *definition.Invalid.
func Parse(s string) (Sign, error) {
	invalid := func(reason string) (Sign, error) {
		return Sign{}, &definition.Invalid{Field: "ready", Value: s, Reason: reason}
	}
	if len(s) > maxSign {
		s = s[:64] + "…"
		return invalid("longer than 4096 bytes")
	}
	if strings.ContainsAny(s, "\x00\r\n") {
		return invalid("use one line, without NUL bytes")
	}
	kind, rest, more := strings.Cut(s, " ")
	sign := Sign{Kind: Kind(kind)}
	var reason string
	switch sign.Kind {
	case Notify, Accept:
		if more {
			reason = `"` + kind + `" stands alone`
		}
	case HTTP:
		sign.Path = rest
		_, err := url.ParseRequestURI(rest)
		if err != nil || rest[0] != '/' || strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == '#' || r >= 0x7f }) {
			reason = "use http PATH, with a path such as /healthz, escaped where it has to be"
		}
	case Output:
		var err error
		if sign.Pattern, err = regexp.Compile(rest); err != nil {
			reason = err.Error()
		} else if sign.Pattern.MatchString("") {
			reason = "use output REGEXP, with an expression that does not match an empty line"
		}
	case Command:
		sign.Command, reason = words(rest)
		switch {
		case reason != "":
		case len(sign.Command) == 0 || sign.Command[0] == "":
			reason = "use command PROGRAM ARG…"
		case strings.Contains(sign.Command[0], "/") && !strings.HasPrefix(sign.Command[0], "/"):
			reason = "use a program's absolute path, or its name in PATH"
		}
	case Delay:
		var err error
		sign.Delay, err = time.ParseDuration(rest)
		if err != nil || sign.Delay < minDelay || sign.Delay > maxDelay {
			reason = "use delay DURATION, of 1ms to 1h"
		}
	default:
		reason = `use "notify", "accept", "http PATH", "output REGEXP", "command PROGRAM ARG…" or "delay DURATION"`
	}
	if reason != "" {
		return invalid(reason)
	}
	return sign, nil
}

// String returns what Parse reads.
func (s Sign) String() string {
	switch s.Kind {
	case HTTP:
		return string(s.Kind) + " " + s.Path
	case Output:
		return string(s.Kind) + " " + s.Pattern.String()
	case Command:
		quoted := make([]string, len(s.Command))
		for i, w := range s.Command {
			quoted[i] = quote(w)
		}
		return string(s.Kind) + " " + strings.Join(quoted, " ")
	case Delay:
		return string(s.Kind) + " " + s.Delay.String()
	}
	return string(s.Kind)
}

// words splits a command as sh(1) would that expands nothing.
func words(s string) (list []string, reason string) {
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == ' ' || c == '\t':
			if inWord {
				list = append(list, word.String())
				word.Reset()
				inWord = false
			}
			continue
		case c == '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, "a ' is not closed"
			}
			word.WriteString(s[i+1 : i+1+end])
			i += 1 + end
		case c == '"':
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\\\"$`", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
			if i == len(s) {
				return nil, `a " is not closed`
			}
		case c == '\\':
			if i+1 == len(s) {
				return nil, `nothing follows the last \`
			}
			i++
			word.WriteByte(s[i])
		default:
			word.WriteByte(c)
		}
		inWord = true
	}
	if inWord {
		list = append(list, word.String())
	}
	return list, ""
}

// quote writes a word so that words reads it again, and sh(1) does.
func quote(w string) string {
	if w != "" && !strings.ContainsFunc(w, func(r rune) bool {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !plain && !strings.ContainsRune("_-./:,=+@%{}", r)
	}) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
