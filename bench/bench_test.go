//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestPairs: by turns, without the warm-up, the ratio is that of the medians.
func TestPairs(t *testing.T) {
	var turns strings.Builder
	side := func(name byte, times ...time.Duration) sample {
		return func() (time.Duration, error) {
			turns.WriteByte(name)
			d := times[0]
			times = times[1:]
			return d * time.Millisecond, nil
		}
	}
	r, err := pairs(4, side('a', 900, 3, 1, 4, 2), side('b', 900, 1, 1, 2, 2))
	if err != nil {
		t.Fatal(err)
	}
	if turns.String() != "baabbaabba"[:10] {
		t.Errorf("the turns were %s", turns.String())
	}
	if r.Value != 1.5 || r.Ours != "3.00 ms" || r.Theirs != "2.00 ms" || r.Low != 1 || r.High != 3 {
		t.Errorf("%+v", r)
	}
	broken := errors.New("broken")
	if _, err := pairs(1, side('a', 1, 1), func() (time.Duration, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestLine(t *testing.T) {
	for want, r := range map[string]result{
		"| a | b | 2 ms | 1 ms | 2.00 | 1.50–2.50 | 1.1 | miss |  |":  {Row: "a", Against: "b", Ours: "2 ms", Theirs: "1 ms", Value: 2, Low: 1.5, High: 2.5, Target: 1.1},
		"| a | b | 3 | 3 | 0 wake-ups more |  | 0 | pass | in 60 s |": {Row: "a", Against: "b", Ours: "3", Theirs: "3", Unit: "wake-ups more", Pass: true, Counts: "in 60 s"},
		"| a | b | 4 MB | 3 MB | 1.25 MB more |  | 1.5 | pass |  |":   {Row: "a", Against: "b", Ours: "4 MB", Theirs: "3 MB", Value: 1.25, Unit: "MB more", Target: 1.5, Pass: true},
		"| a | b | 2 | 1 | 2.00 | 1.00–3.00 | 1 | miss | 2 execs |":   {Row: "a", Against: "b", Ours: "2", Theirs: "1", Value: 2, Low: 1, High: 3, Target: 1, Counts: "2 execs"},
		"| a | b | 9 ms | 9 ms | 1.00 | 0.90–1.10 | 1.15 | pass |  |": {Row: "a", Against: "b", Ours: "9 ms", Theirs: "9 ms", Value: 1, Low: 0.9, High: 1.1, Target: 1.15, Pass: true},
	} {
		if got := r.line(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestCommand: what needs no measuring.
func TestCommand(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		err    string
		out    string
	}{
		{[]string{"-list", "-rows", "^warm Dial, in"}, 0, "", "warm Dial, in process"},
		{[]string{"-rows", "("}, 2, "missing closing", ""},
		{[]string{"-rows", "no such row"}, 2, "no row matches", ""},
		{[]string{"stray"}, 2, "takes no arguments", ""},
	} {
		var out bytes.Buffer
		status, err := run(context.Background(), c.args, &out)
		if status != c.status || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.Contains(out.String(), c.out) {
			t.Errorf("%q: status %d, error %v, %q", c.args, status, err, out.String())
		}
	}
}
