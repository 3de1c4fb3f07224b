package cli

import (
	"testing"

	"github.com/fastbind/fastbind/internal/broker/supervise"
)

func TestParseSettings(t *testing.T) {
	for _, c := range []struct {
		text string
		want supervise.Quota
		err  string
	}{
		{"", supervise.Quota{}, ""},
		{"max_daemons = 3\nmax_memory = \"2G\"", supervise.Quota{Daemons: 3, Memory: 2 << 30}, ""},
		{"max_memory = 4194304", supervise.Quota{Memory: 4 << 20}, ""},
		{"max_daemons = 0", supervise.Quota{}, "f:1: max_daemons: it must be at least 1; leave it out for no limit"},
		{"max_daemons = -1", supervise.Quota{}, "f:1: max_daemons: it must be at least 1; leave it out for no limit"},
		{"max_daemons = 4294967297", supervise.Quota{}, "f:1: max_daemons: it is too large"},
		{"max_daemons = \"3\"", supervise.Quota{}, "f:1: max_daemons: it must be a whole number, not a string"},
		{"#\nmax_memory = 1", supervise.Quota{}, `f:2: max_memory: "1": it must be at least 1M`},
		{"max_memory = \"2GiB\"", supervise.Quota{}, `f:1: max_memory: "2GiB": give a whole number of bytes, or one with K, M, G or T`},
		{"max_memory = true", supervise.Quota{}, `f:1: max_memory: it must be a number or a string such as "4G", not a boolean`},
		{"max_daemons = 3\n\nmax_demons = 4", supervise.Quota{}, "f:3: max_demons: unknown field; did you mean max_daemons?"},
		{"command = [\"x\"]", supervise.Quota{}, "f:1: command: a definition has this field, but that name is the standing broker's own; give the service another one"},
		{"max_daemons =", supervise.Quota{}, "f:1: expected value, not end of input"},
	} {
		q, err := parseSettings("f", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if q != c.want || got != c.err {
			t.Errorf("%q: %+v, %q, want %+v, %q", c.text, q, got, c.want, c.err)
		}
	}
}
