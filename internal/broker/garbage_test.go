package broker

import (
	"runtime/debug"
	"testing"
)

// TestGarbage: the collector is as it was when the last of several sets is bound.
func TestGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(70))
	var g garbage
	now := func() int { p := debug.SetGCPercent(70); debug.SetGCPercent(p); return p }
	for range 2 {
		g.leave()
		g.leave()
		g.collect()
		if p := now(); p != leaveWhileBinding {
			t.Errorf("%d with a set under way", p)
		}
		g.collect()
		if p := now(); p != 70 {
			t.Errorf("%d with none", p)
		}
	}
}
