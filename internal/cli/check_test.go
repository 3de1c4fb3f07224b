package cli

import (
	"testing"

	"github.com/fastbind/fastbind/fastbindtest"
)

// TestCheckRequest: a request is text with Go's escapes, and with whatever else a
// shell may hand over.
func TestCheckRequest(t *testing.T) {
	limits := fastbindtest.Limits{Crowd: 2, Rounds: 1, BoundWithin: 1, Patience: 1, HangWithin: 1, Case: 1, Total: 1}
	for request, want := range map[string]string{
		`hello\n`: "hello\n", "hello\n": "hello\n", "a\r\n\"b\"": "a\r\n\"b\"", `\x00é\\`: "\x00é\\",
	} {
		f := checkFlags{request: request, limits: limits}
		target, err := f.target([]string{"daemon"})
		if err != nil || target.Request != want {
			t.Errorf("%q: %q, %v", request, target.Request, err)
		}
	}
	f := checkFlags{request: `\q`, limits: limits}
	if _, err := f.target([]string{"daemon"}); err == nil {
		t.Error("an escape that is none passes")
	}
}
