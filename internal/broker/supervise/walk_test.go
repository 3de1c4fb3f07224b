package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"pgregory.net/rapid"
)

// real is the machine itself.
func real(m Machine, now Moment, e Event) (Machine, []Effect) { return m.Next(now, e) }

// walks takes random actions, then lets everything go well: nothing may be broken,
// and in the end somebody serves and every request was answered.
func walks(t *rapid.T, n next) (trace []string, broken string) {
	p := coarse(rapid.SampledFrom([]Restart{RestartOnDemand, RestartOnFailure, RestartAlways}).Draw(t, "restart"))
	if rapid.Bool().Draw(t, "watchdog") {
		p.Watchdog = 10 * time.Second
	}
	if rapid.Bool().Draw(t, "patient") {
		p.ReadyWithin = 0
	}
	if rapid.IntRange(0, 3).Draw(t, "report") == 0 {
		p.OnHang = definition.HangReport
	}
	w := newWorld(p, supplies{200, 200, 200, 50, 2})
	w.deliver(n, Requested{Verb: VerbEnable})
	for range rapid.IntRange(1, 80).Draw(t, "steps") {
		list := w.actions()
		if len(list) == 0 {
			break
		}
		a := list[rapid.IntRange(0, len(list)-1).Draw(t, "action")]
		trace = append(trace, a.name)
		a.do(&w, n)
		if w.broken != "" {
			return trace, w.broken
		}
	}
	trace = append(trace, "--- from here on all goes well")
	calm, ok := w.calm(n)
	trace = append(trace, calm...)
	if w.broken == "" && !ok {
		w.broken = "somebody waits for ever, or a request does"
	}
	return trace, w.broken
}

func TestWalks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if trace, broken := walks(t, real); broken != "" {
			t.Fatalf("%s:\n  %s", broken, strings.Join(trace, "\n  "))
		}
	})
}
