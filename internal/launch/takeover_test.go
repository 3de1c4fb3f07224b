package launch

import (
	"fmt"
	"strings"
	"testing"
)

// TestTakingTable: every way through a takeover, by the outcome that leaves the
// straight one. The lock is given back if it was taken, and nobody serves who has
// not seen the old generation stop.
func TestTakingTable(t *testing.T) {
	run := func(at TakeStep, o Outcome) string {
		var tk Taking
		var told []string
		locked, ordered := false, false
		for n := 0; tk.Step != TakeDone; n++ {
			if n > 2*int(numTakeSteps) {
				t.Fatalf("%v at %v: it does not end: %v", o, at, told)
			}
			told = append(told, tk.Step.String())
			out := OK
			if tk.Step == at && (o != Held || n == 0) {
				out = o
			}
			switch {
			case tk.Step == TakeLock && out == OK:
				locked = true
			case tk.Step == TakeOrder && out == OK:
				ordered = true
			case tk.Step == TakeUnlock && !locked:
				t.Errorf("%v at %v: it unlocks what it has not locked", o, at)
			case tk.Step == TakeUnlock:
				locked = false
			}
			tk = tk.Next(out)
		}
		if locked || tk.Taken && !ordered || tk.Next(OK) != tk {
			t.Errorf("%v at %v ends locked=%v, ordered=%v, %+v", o, at, locked, ordered, tk)
		}
		return fmt.Sprintf("%s: taken=%v stranded=%v", strings.Join(told, ", "), tk.Taken, tk.Stranded)
	}
	const straight = "lock, look for a name, order, accept, move current, unlock, done"
	for _, c := range []struct {
		at   TakeStep
		o    Outcome
		want string
	}{
		{TakeLock, OK, "lock, look for a name, order, accept, move current, unlock: taken=true stranded=false"},
		{TakeLock, Held, "lock, lock, look for a name, order, accept, move current, unlock: taken=true stranded=false"},
		{TakeLock, Absent, "lock, order, accept: taken=true stranded=true"},
		{TakeLock, Failed, "lock: taken=false stranded=false"},
		{TakeNamed, Absent, "lock, look for a name, order, accept, unlock: taken=true stranded=true"},
		{TakeNamed, Failed, "lock, look for a name, unlock: taken=false stranded=false"},
		{TakeOrder, Failed, "lock, look for a name, order, unlock: taken=false stranded=false"},
		{TakeAccept, Failed, "lock, look for a name, order, accept, unlock: taken=false stranded=false"},
		{TakeCurrent, Absent, "lock, look for a name, order, accept, move current, unlock: taken=true stranded=true"},
		{TakeCurrent, Failed, "lock, look for a name, order, accept, move current, unlock: taken=false stranded=false"},
	} {
		if got := run(c.at, c.o); got != c.want {
			t.Errorf("%v at %v:\n%s\nwant\n%s", c.o, c.at, got, c.want)
		}
	}
	var names []string
	for s := range numTakeSteps {
		names = append(names, s.String())
	}
	if got := strings.Join(names, ", "); got != straight || numTakeSteps.String() != fmt.Sprintf("step %d", numTakeSteps) {
		t.Errorf("the steps are called %s", got)
	}
}
