package supervise

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"pgregory.net/rapid"
)

// real is the machine itself.
func real(m Machine, now Moment, e Event) (Machine, []Effect) { return m.Next(now, e) }

// walk takes random actions, then lets everything go well: nothing may be broken, and
// in the end somebody serves and every request was answered. draw returns a number
// from 0 to n-1.
func walk(n next, draw func(what string, n int) int) (trace []string, broken string) {
	p := coarse([]Restart{RestartOnDemand, RestartOnFailure, RestartAlways}[draw("restart", 3)])
	if draw("watchdog", 2) == 1 {
		p.Watchdog = 10 * time.Second
	}
	if draw("patient", 2) == 1 {
		p.ReadyWithin = 0
	}
	if draw("report", 4) == 3 {
		p.OnHang = definition.HangReport
	}
	w := newWorld(p, supplies{200, 200, 200, 50, 2, 200})
	w.jitter = []float64{0, 0.5, 0.999}[draw("jitter", 3)]
	w.deliver(n, Requested{Verb: VerbEnable})
	mood := draw("mood", len(moods))
	for range draw("steps", 80) {
		list := w.actions()
		if len(list) == 0 || w.broken != "" {
			break
		}
		if mood > 0 && draw("likely", 4) > 0 {
			likely := slices.DeleteFunc(slices.Clone(list), func(a action) bool {
				return !slices.ContainsFunc(moods[mood], func(s string) bool { return strings.HasPrefix(a.name, s) })
			})
			if len(likely) > 0 {
				list = likely
			}
		}
		a := list[draw("action", len(list))]
		trace = append(trace, a.name)
		a.do(&w, n)
	}
	if w.broken != "" {
		return trace, w.broken
	}
	calm, ok := w.calm(n)
	trace = append(append(trace, "--- from here on all goes well"), calm...)
	if w.broken == "" && !ok {
		w.broken = stalled
	}
	return trace, w.broken
}

// moods are what a walk likes to see: of all that may happen, that which leads deep into
// trouble is little.
var moods = [][]string{
	{},
	{"client", "bound", "readable", "launched, backend", "crashes"},
	{"client", "bound", "readable", "launched, backend", "ready", "leaves", "crashes"},
	{"client", "bound", "readable", "launched, backend", "crashes", "disable", "enable"},
	{"client", "bound", "readable", "launched, backend", "ready", "restart", "stop", "timer"},
	{"client", "bound", "readable", "launched, backend", "ready", "hangs", "unaccepted", "captured", "timer"},
}

const stalled = "somebody waits for ever, or a request does"

func TestWalks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace, broken := walk(real, func(what string, n int) int { return rapid.IntRange(0, n-1).Draw(t, what) })
		if broken != "" {
			t.Fatalf("%s:\n  %s", broken, strings.Join(trace, "\n  "))
		}
	})
}

// TestManyWalks takes more of them than can be made small again.
func TestManyWalks(t *testing.T) {
	spoilt(t)
	walks, seed := 5_000, uint64(1)
	if os.Getenv("FASTBIND_LONG") == "1" {
		walks, seed = 1_000_000, uint64(time.Now().UnixNano())
	}
	r := rand.New(rand.NewPCG(seed, 0))
	steps := 0
	for range walks {
		trace, broken := walk(real, func(_ string, n int) int { return r.IntN(n) })
		steps += len(trace)
		if broken != "" {
			t.Fatalf("%s, with seed %d:\n  %s", broken, seed, strings.Join(trace, "\n  "))
		}
	}
	t.Logf("%d walks, %d steps, seed %d", walks, steps, seed)
}
