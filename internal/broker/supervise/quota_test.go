package supervise

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const mib = 1 << 20

func TestDismiss(t *testing.T) {
	idle := func(name string, used int, memory uint64) Usage {
		return Usage{Service: name, Used: time.Duration(used) * time.Second, Memory: memory * mib}
	}
	busy := func(u Usage) Usage { u.Busy = true; return u }
	leaving := func(u Usage) Usage { u.Leaving = true; return u }
	limited := func(u Usage, limit uint64) Usage { u.Limit = limit * mib; return u }
	for name, c := range map[string]struct {
		quota Quota
		list  []Usage
		gone  string
		over  Excess
	}{
		"no quota":            {Quota{}, []Usage{idle("a", 1, 1000), idle("b", 2, 1000)}, "", Excess{}},
		"kept":                {Quota{2, 10 * mib}, []Usage{idle("a", 1, 5), idle("b", 2, 5)}, "", Excess{}},
		"one too many":        {Quota{Daemons: 2}, []Usage{idle("c", 3, 0), idle("a", 1, 0), idle("b", 2, 0)}, "a", Excess{}},
		"used at one time":    {Quota{Daemons: 1}, []Usage{idle("b", 1, 1), idle("a", 1, 1), idle("c", 1, 2)}, "c a", Excess{}},
		"too much memory":     {Quota{Memory: 10 * mib}, []Usage{idle("a", 1, 4), idle("b", 2, 4), idle("c", 3, 4)}, "a", Excess{}},
		"one without memory":  {Quota{Memory: 10 * mib}, []Usage{idle("a", 1, 0), idle("b", 2, 6), idle("c", 3, 6)}, "b", Excess{}},
		"both":                {Quota{2, 10 * mib}, []Usage{idle("a", 1, 0), idle("b", 2, 12), idle("c", 3, 2)}, "a b", Excess{}},
		"busy ones stay":      {Quota{Daemons: 1}, []Usage{busy(idle("a", 1, 0)), busy(idle("b", 2, 0)), idle("c", 3, 0)}, "c", Excess{Daemons: 1}},
		"what is over":        {Quota{Memory: 10 * mib}, []Usage{busy(idle("a", 1, 8)), busy(idle("b", 2, 5))}, "", Excess{Memory: 3 * mib}},
		"who leaves has left": {Quota{Daemons: 2}, []Usage{leaving(idle("a", 1, 0)), idle("b", 2, 0), idle("c", 3, 0)}, "", Excess{}},
		"its own limit":       {Quota{}, []Usage{limited(idle("a", 1, 8), 7), limited(idle("b", 2, 7), 7)}, "a", Excess{}},
		"a busy one's too":    {Quota{}, []Usage{limited(busy(idle("a", 1, 8)), 7)}, "a", Excess{}},
		"that is enough":      {Quota{Memory: 10 * mib}, []Usage{limited(idle("z", 9, 8), 7), idle("a", 1, 5), idle("b", 2, 5)}, "z", Excess{}},
		"nobody":              {Quota{1, 1}, nil, "", Excess{}},
	} {
		gone, over := c.quota.Dismiss(c.list)
		var names []string
		for _, d := range gone {
			names = append(names, d.Service)
			if d.Reason == "" {
				t.Errorf("%s: %s is dismissed without a reason", name, d.Service)
			}
		}
		if strings.Join(names, " ") != c.gone || over != c.over {
			t.Errorf("%s: dismissed %q, over by %+v; want %q, %+v", name, names, over, c.gone, c.over)
		}
	}
}

// TestDismissHolds: the quota is kept, or nobody idle is left who could help; nobody is
// asked in vain; and the order of the list does not matter.
func TestDismissHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Usage
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			list = append(list, Usage{
				Service: fmt.Sprintf("s%d", i), Used: time.Duration(rapid.IntRange(1, 4).Draw(t, "used")),
				Memory: uint64(rapid.IntRange(0, 4).Draw(t, "memory")), Limit: uint64(rapid.IntRange(0, 4).Draw(t, "limit")),
				Busy: rapid.Bool().Draw(t, "busy"), Leaving: rapid.IntRange(0, 3).Draw(t, "leaving") == 0,
			})
		}
		q := Quota{rapid.IntRange(0, 6).Draw(t, "daemons"), uint64(rapid.IntRange(0, 20).Draw(t, "bytes"))}
		gone, over := q.Dismiss(list)
		left, memory, helpful := 0, uint64(0), 0
		for _, u := range list {
			i := slices.IndexFunc(gone, func(d Dismissal) bool { return d.Service == u.Service })
			own := u.Limit > 0 && u.Memory > u.Limit
			switch {
			case u.Leaving && i >= 0, u.Busy && !own && i >= 0, own && !u.Leaving && i < 0:
				t.Fatalf("%+v: dismissed %v", u, i >= 0)
			case u.Leaving || i >= 0:
				continue
			case !u.Busy && (over.Daemons > 0 || u.Memory > 0 && over.Memory > 0):
				helpful++
			}
			left++
			memory += u.Memory
		}
		want := Excess{}
		if q.Daemons > 0 {
			want.Daemons = max(left-q.Daemons, 0)
		}
		if q.Memory > 0 && memory > q.Memory {
			want.Memory = memory - q.Memory
		}
		if over != want || helpful > 0 {
			t.Fatalf("%+v of %+v: over by %+v, want %+v; %d could still go", q, list, over, want, helpful)
		}
		// The last who went for the user's sake had to.
		if n := len(gone); n > 0 {
			u := list[slices.IndexFunc(list, func(u Usage) bool { return u.Service == gone[n-1].Service })]
			own := u.Limit > 0 && u.Memory > u.Limit
			if !own && !(q.Daemons > 0 && left+1 > q.Daemons || q.Memory > 0 && memory+u.Memory > q.Memory) {
				t.Fatalf("%+v of %+v: %v went in vain", q, list, gone[n-1])
			}
		}
		other := slices.Clone(list)
		slices.Reverse(other)
		if again, o := q.Dismiss(other); !slices.Equal(again, gone) || o != over {
			t.Fatalf("%v, but from the end %v", gone, again)
		}
	})
}
