package probe

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/definition"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want string }{ // want "": as in
		{"notify", ""},
		{"accept", ""},
		{"http /", ""},
		{"http /healthz?full=1", ""},
		{"http /a%20b/", ""},
		{"output listening on .*:[0-9]+$", ""},
		{"output  two spaces", ""},
		{"delay 1ms", ""},
		{"delay 1.5s", ""},
		{"delay 60m", "delay 1h0m0s"},
		{"command redis-cli -s {socket} ping", ""},
		{"command  /bin/sh\t-c 'exit 0' ", "command /bin/sh -c 'exit 0'"},
		{`command a "" 'b c' "d\"e\\\f" g\ h i"j"'k'`, `command a '' 'b c' 'd"e\\f' 'g h' ijk`},
		{`command a "it's"`, `command a 'it'\''s'`},
	} {
		s, err := Parse(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		want := c.want
		if want == "" {
			want = c.in
		}
		if got := s.String(); got != want {
			t.Errorf("%q: %q, want %q", c.in, got, want)
		}
	}
}

// TestParseInvalid holds the whole text of each refusal: it is what a user
// reads.
func TestParseInvalid(t *testing.T) {
	const usage = `use "notify", "accept", "http PATH", "output REGEXP", "command PROGRAM ARG…" or "delay DURATION"`
	const usePath = "use http PATH, with a path such as /healthz, escaped where it has to be"
	for in, want := range map[string]string{
		"":                             `invalid ready: ` + usage,
		"ready":                        `invalid ready "ready": ` + usage,
		"Notify":                       `invalid ready "Notify": ` + usage,
		"notify ":                      `invalid ready "notify ": "notify" stands alone`,
		"accept /":                     `invalid ready "accept /": "accept" stands alone`,
		"http":                         `invalid ready "http": ` + usePath,
		"http healthz":                 `invalid ready "http healthz": ` + usePath,
		"http http://localhost/":       `invalid ready "http http://localhost/": ` + usePath,
		"http /a b":                    `invalid ready "http /a b": ` + usePath,
		"http /a?b c":                  `invalid ready "http /a?b c": ` + usePath,
		"http /a#b":                    `invalid ready "http /a#b": ` + usePath,
		"http /é":                      `invalid ready "http /é": ` + usePath,
		"http /%zz":                    `invalid ready "http /%zz": ` + usePath,
		"output":                       `invalid ready "output": use output REGEXP, with an expression that does not match an empty line`,
		"output .*":                    `invalid ready "output .*": use output REGEXP, with an expression that does not match an empty line`,
		"output (":                     "invalid ready \"output (\": error parsing regexp: missing closing ): `(`",
		"command":                      `invalid ready "command": use command PROGRAM ARG…`,
		"command ''":                   `invalid ready "command ''": use command PROGRAM ARG…`,
		"command ./ping":               `invalid ready "command ./ping": use a program's absolute path, or its name in PATH`,
		"command a 'b":                 `invalid ready "command a 'b": a ' is not closed`,
		`command a "b\"`:               `invalid ready "command a \"b\\\"": a " is not closed`,
		`command a \`:                  `invalid ready "command a \\": nothing follows the last \`,
		"delay":                        `invalid ready "delay": use delay DURATION, of 1ms to 1h`,
		"delay 5":                      `invalid ready "delay 5": use delay DURATION, of 1ms to 1h`,
		"delay 1us":                    `invalid ready "delay 1us": use delay DURATION, of 1ms to 1h`,
		"delay 61m":                    `invalid ready "delay 61m": use delay DURATION, of 1ms to 1h`,
		"output a\nb":                  `invalid ready "output a\nb": use one line, without NUL bytes`,
		strings.Repeat("x", maxSign+1): `invalid ready "` + strings.Repeat("x", 64) + `…": longer than 4096 bytes`,
	} {
		s, err := Parse(in)
		var invalid *definition.Invalid
		if !errors.As(err, &invalid) || err.Error() != want || s.Kind != "" {
			t.Errorf("%.70q: %v\nwant %s", in, err, want)
		}
	}
}

// FuzzParse: what is read is written so that it is read as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"notify", "http /a?b", "output ^x+$", `command a "b\\" 'c' d\e`, "delay 3s", "command \xff", "http /\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := Parse(in)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil && len(s.String()) > maxSign {
			return // the quotes made it longer
		}
		if err != nil || again.String() != s.String() || !slices.Equal(again.Command, s.Command) || again.Path != s.Path || again.Delay != s.Delay {
			t.Fatalf("%q is %q, which is %+v, %v", in, s.String(), again, err)
		}
		if s.Kind == Command && len(s.Command) == 0 || s.Kind == HTTP && strings.ContainsAny(s.Path, " \r\n\x00") {
			t.Fatalf("%+v", s)
		}
	})
}
