package fastbind

import (
	"errors"
	"strings"
	"testing"
)

// TestNewEndpoint: an endpoint is the full name of a pipe.
func TestNewEndpoint(t *testing.T) {
	longest := `\\.\pipe\` + strings.Repeat("x", maxEndpoint-len(`\\.\pipe\`))
	for _, name := range []string{`\\.\pipe\x`, longest} {
		if ep, err := NewEndpoint(name); err != nil || ep.Path() != name {
			t.Errorf("%q: %q, %v", name, ep, err)
		}
	}
	for name, want := range map[string]string{
		"": "it is empty", `C:\x`: "begins with", `\\.\pipe\`: "begins with", `\\other\pipe\x`: "begins with",
		`\\.\pipe\a\b`: "no further backslash", longest + "x": "longer than 256", "\\\\.\\pipe\\a\n": "control characters",
	} {
		if _, err := NewEndpoint(name); !errors.Is(err, ErrInvalidEndpoint) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
