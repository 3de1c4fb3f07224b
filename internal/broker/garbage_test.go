package broker

import (
	"runtime/debug"
	"testing"
)

// TestGarbage: the collector is as it was when the last of several sets is bound, and
// leaves no less than GOGC has it leave, which may be all (-1).
func TestGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(70))
	now := func() int { p := debug.SetGCPercent(70); debug.SetGCPercent(p); return p }
	for _, gogc := range []int{70, 1000, -1, 70} {
		debug.SetGCPercent(gogc)
		var g garbage
		g.leave()
		g.leave()
		g.collect()
		want := max(gogc, leaveWhileBinding)
		if gogc < 0 {
			want = gogc
		}
		if p := now(); p != want {
			t.Errorf("%d with a set under way, of %d", p, gogc)
		}
		g.collect()
		if p := now(); p != gogc {
			t.Errorf("%d with none, of %d", p, gogc)
		}
	}
}
