//go:build unix

package launch

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestExpander: every template becomes what strings.NewReplacer makes of it, also
// where a path looks like one.
func TestExpander(t *testing.T) {
	place := runtimedir.Place{Addr: "/run/{fd}/{socket:a}"}
	h := handover.Handover{Listen: 3, Further: []handover.Further{{Name: "a", FD: 4}, {Name: "b-c", FD: 5}}}
	pairs := []string{"{fd}", "3", "{socket}", place.Sock()}
	for _, f := range h.Further {
		pairs = append(pairs, "{fd:"+f.Name+"}", strconv.Itoa(f.FD), "{socket:"+f.Name+"}", place.Further(f.Name))
	}
	want, have := strings.NewReplacer(pairs...), expander(h, place)
	part := rapid.SampledFrom(append([]string{"{", "}", "fd", "socket", ":a", "{fd:d}", "x", "é", "{}"}, pairs...))
	rapid.Check(t, func(t *rapid.T) {
		template := strings.Join(rapid.SliceOf(part).Draw(t, "parts"), "")
		if got, want := have(template), want.Replace(template); got != want {
			t.Errorf("%q is %q, want %q", template, got, want)
		}
	})
}
