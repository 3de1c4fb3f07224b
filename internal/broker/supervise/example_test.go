package supervise_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
)

// A daemon that dies at start, with a client that waits.
func Example() {
	m := supervise.New(supervise.Policy{}.Complete())
	now := time.Hour
	on := func(e supervise.Event) {
		var effects []supervise.Effect
		m, effects = m.Next(supervise.Moment{At: now}, e)
		fmt.Printf("%T: %v\n", e, m.State)
		for _, effect := range effects {
			if _, is := effect.(supervise.Note); !is {
				fmt.Printf("\t%T%+v\n", effect, effect)
			}
		}
	}
	on(supervise.Requested{ID: 1, Verb: supervise.VerbEnable})
	on(supervise.Bound{})
	on(supervise.Readable{})
	for n := range uint64(3) {
		on(supervise.Launched{Number: n + 1, Backend: true})
		on(supervise.Exited{Number: n + 1, End: supervise.EndStatus, Waiting: true, Reason: "no index"})
	}
	now += supervise.BudgetWindow
	on(supervise.Timer{})
	// Output:
	// supervise.Requested: binding
	// 	supervise.Bind{}
	// supervise.Bound: held
	// 	supervise.Answer{ID:1 Done:true Reason: Retry:0s}
	// 	supervise.Watch{On:true}
	// supervise.Readable: launching
	// 	supervise.Launch{Why:a client waits}
	// supervise.Launched: starting
	// supervise.Exited: launching
	// 	supervise.Launch{Why:a client waits}
	// supervise.Launched: starting
	// supervise.Exited: launching
	// 	supervise.Launch{Why:a client waits}
	// supervise.Launched: starting
	// supervise.Exited: refusing
	// 	supervise.Refuse{Reason:3 launches failed within 30 s; the last: no index Retry:1h0m30s}
	// 	supervise.SetTimer{At:1h0m30s}
	// supervise.Timer: binding
	// 	supervise.Bind{}
}

// TestMany drives many services by one schedule, as the broker does: those that nobody
// uses cost nothing, and those that die at start, of which a client never tires, cost a
// bounded number of wake-ups and starts.
func TestMany(t *testing.T) {
	const services, used, span = 1000, 100, 10 * time.Minute
	var schedule supervise.Schedule
	machines := map[string]supervise.Machine{}
	starts := map[string][]time.Duration{}
	now, wakeUps := time.Hour, 0

	// The world: a bind works, a launch makes a process that dies at once, and
	// somebody always waits.
	var on func(name string, e supervise.Event)
	on = func(name string, e supervise.Event) {
		m, effects := machines[name].Next(supervise.Moment{At: now, Jitter: 0.5}, e)
		machines[name] = m
		var then []supervise.Event
		for _, effect := range effects {
			switch effect := effect.(type) {
			case supervise.Bind:
				then = append(then, supervise.Bound{})
			case supervise.Watch:
				if effect.On && len(starts[name]) > 0 {
					then = append(then, supervise.Readable{})
				}
			case supervise.Launch:
				starts[name] = append(starts[name], now)
				n := uint64(len(starts[name]))
				then = append(then, supervise.Launched{Number: n, Backend: true},
					supervise.Exited{Number: n, End: supervise.EndStatus, Waiting: true})
			case supervise.SetTimer:
				schedule.Set(name, effect.At)
			}
		}
		for _, e := range then {
			on(name, e)
		}
	}
	for i := range services {
		name := fmt.Sprintf("s%03d", i)
		machines[name] = supervise.New(supervise.Policy{}.Complete())
		on(name, supervise.Requested{Verb: supervise.VerbEnable})
		if m := machines[name]; m.State != supervise.Held {
			t.Fatalf("%s is %v", name, m.State)
		}
	}
	if schedule.Len() != 0 {
		t.Errorf("%d of the services that nobody uses have a timer", schedule.Len())
	}
	for i := range used {
		on(fmt.Sprintf("s%03d", i), supervise.Readable{})
	}
	if schedule.Len() != used {
		t.Errorf("%d services have a timer, want %d", schedule.Len(), used)
	}
	for end := now + span; ; {
		next := schedule.Next()
		if next == 0 || next > end {
			break
		}
		if next < now {
			t.Fatalf("a timer of %v at %v", next, now)
		}
		now = next
		due := schedule.Due(now)
		if !slices.IsSorted(due) {
			t.Fatalf("not in order: %v", due)
		}
		for _, name := range due {
			wakeUps++
			on(name, supervise.Timer{})
		}
	}
	if len(starts) != used {
		t.Errorf("%d services were started, want %d", len(starts), used)
	}
	for name, times := range starts {
		for i, at := range times {
			if i >= supervise.BudgetFailures && at < times[i-supervise.BudgetFailures]+supervise.BudgetWindow {
				t.Fatalf("%s started at %v", name, times)
			}
		}
		if len(times) < int(span/supervise.BudgetWindow) {
			t.Errorf("%s was given up after %d starts", name, len(times))
		}
	}
	// One for each retry time, and one for each backoff.
	if limit := used * 4 * int(span/supervise.BudgetWindow); wakeUps > limit {
		t.Errorf("%d wake-ups, more than %d", wakeUps, limit)
	}
	t.Logf("%d services, %d of them dying at start: %d wake-ups and %d starts of each in %v", services, used, wakeUps/used, len(starts["s000"]), span)
}
