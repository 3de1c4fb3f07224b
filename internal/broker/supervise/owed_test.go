package supervise

import (
	"testing"
	"time"
)

// TestOwed: a launch is owed while it is being made, and after a backoff that the
// restart policy has begun; not for clients, who wait in the queue for all to see.
func TestOwed(t *testing.T) {
	at := Moment{At: time.Hour}
	m := New(Policy{Restart: RestartAlways}.Complete())
	step := func(owed bool, state State, e Event) {
		t.Helper()
		at.At += time.Second
		if m, _ = m.Next(at, e); m.State != state || m.Owed() != owed {
			t.Errorf("after %T: %s, owed %t; want %s, %t", e, m.State, m.Owed(), state, owed)
		}
	}
	step(false, Binding, Requested{Verb: VerbEnable})
	step(false, Held, Bound{})
	step(true, Launching, Readable{})
	step(false, Starting, Launched{Number: 1})
	step(false, Ready, Served{Number: 1})
	step(true, Backoff, Exited{Number: 1, End: EndKilled})
	step(true, Launching, Timer{})
}
