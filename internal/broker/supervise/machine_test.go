package supervise

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/google/go-cmp/cmp"
)

// story tells what happens to a machine, and checks what it says. Notes are not
// compared, except by noted.
type story struct {
	t       *testing.T
	m       Machine
	now     time.Duration
	effects []Effect
	notes   []Note
}

// plain has times that are easy to read; jitter is 0, so that a backoff is its half.
func plain(change ...func(*Policy)) Policy {
	p := Policy{
		BackoffMin: 2 * time.Second, BackoffMax: 20 * time.Second, BackoffReset: time.Minute,
		HangAfter: 30 * time.Second, StopWithin: 9 * time.Second,
	}.Complete()
	for _, c := range change {
		c(&p)
	}
	return p
}

func begin(t *testing.T, change ...func(*Policy)) *story {
	t.Helper()
	return &story{t: t, m: New(plain(change...)), now: time.Hour}
}

// held is a service that is enabled and bound.
func held(t *testing.T, change ...func(*Policy)) *story {
	t.Helper()
	return begin(t, change...).
		on(Requested{ID: 1, Verb: VerbEnable}).says(Binding, Bind{}).
		on(Bound{}).says(Held, Answer{ID: 1, Done: true}, Watch{true})
}

// serving is one whose first generation is ready.
func serving(t *testing.T, backend bool, change ...func(*Policy)) *story {
	t.Helper()
	s := held(t, change...)
	s.on(Readable{}).says(Launching, Launch{ForClient})
	s.on(Launched{1, backend}).is(Starting)
	return s.on(Served{1}).is(Ready)
}

func (s *story) on(e Event) *story {
	s.t.Helper()
	before := s.m
	var all []Effect
	s.m, all = s.m.Next(Moment{At: s.now}, e)
	if again, effects := before.Next(Moment{At: s.now}, e); again != s.m || !slices.Equal(effects, all) {
		s.t.Errorf("%T decides differently a second time", e)
	}
	s.effects, s.notes = nil, nil
	for _, effect := range all {
		if n, ok := effect.(Note); ok {
			s.notes = append(s.notes, n)
		} else {
			s.effects = append(s.effects, effect)
		}
	}
	return s
}

func (s *story) after(d time.Duration) *story { s.now += d; return s }

// timer goes to the machine's deadline.
func (s *story) timer(d time.Duration) *story {
	s.t.Helper()
	if s.m.timer != s.now+d {
		s.t.Fatalf("the timer is in %v, want %v", s.m.timer-s.now, d)
	}
	return s.after(d).on(Timer{})
}

func (s *story) is(state State) *story {
	s.t.Helper()
	if s.m.State != state {
		s.t.Fatalf("it is %v, want %v; effects %v", s.m.State, state, s.effects)
	}
	return s
}

// says checks state and effects; timers are checked by timer.
func (s *story) says(state State, effects ...Effect) *story {
	s.t.Helper()
	s.is(state)
	got := slices.DeleteFunc(slices.Clone(s.effects), isTimer)
	if diff := cmp.Diff(show(effects), show(got)); diff != "" {
		s.t.Fatalf("-want +got:\n%s", diff)
	}
	return s
}

func (s *story) noted(kind Kind) *story {
	s.t.Helper()
	if !slices.ContainsFunc(s.notes, func(n Note) bool { return n.Kind == kind }) {
		s.t.Errorf("no note of kind %s: %v", kind, s.notes)
	}
	return s
}

func show(effects []Effect) (lines []string) {
	for _, e := range effects {
		lines = append(lines, fmt.Sprintf("%T%+v", e, e))
	}
	return lines
}

// TestActivation: nothing runs until somebody comes, and nothing afterwards.
func TestActivation(t *testing.T) {
	s := held(t)
	if s.m.timer != 0 {
		t.Error("a service that is held has a timer")
	}
	s.on(Readable{}).says(Launching, Launch{ForClient})
	s.on(Launched{1, true}).says(Starting)
	s.after(time.Hour).on(Served{1}).says(Ready)
	if s.m.timer != 0 {
		t.Error("a service that is ready has a timer")
	}
	s.after(time.Hour).on(Exited{Number: 1, End: EndClean}).says(Held, Watch{true})
	s.on(Readable{}).says(Launching, Launch{ForClient})
}

// TestBudget: three that were never ready are enough, and clients are told; when the
// time has come all begins anew.
func TestBudget(t *testing.T) {
	s := held(t)
	s.on(Readable{}).says(Launching, Launch{ForClient})
	for n := range uint64(2) {
		s.on(Launched{n + 1, true}).is(Starting)
		s.after(time.Second).on(Exited{Number: n + 1, End: EndStatus, Waiting: true}).says(Launching, Launch{ForClient})
	}
	s.on(Launched{3, true}).after(time.Second)
	retry := s.now - 2*time.Second + BudgetWindow
	const spent = "3 launches failed within 30 s; the last: no configuration"
	s.on(Exited{Number: 3, End: EndStatus, Waiting: true, Reason: "no configuration"}).says(Refusing, Refuse{spent, retry}).noted(NoteRefused)
	if s.m.RetryAt() != retry || s.m.Reason != spent {
		t.Errorf("refusing until %v, %q", s.m.RetryAt(), s.m.Reason)
	}
	s.on(Requested{ID: 7, Verb: VerbLaunch}).says(Refusing, Answer{ID: 7, Reason: spent, Retry: retry})
	s.on(Readable{}).says(Refusing) // the listener is shut
	s.timer(28*time.Second).says(Binding, Bind{})
	s.on(Bound{}).says(Held, Watch{true})
	// One has left the window: one more may fail.
	s.on(Readable{}).on(Launched{4, true}).on(Exited{Number: 4, End: EndSignal}).is(Refusing)
}

// TestBudgetIsForFailures: what spends nothing.
func TestBudgetIsForFailures(t *testing.T) {
	for name, e := range map[string]Exited{
		"killed by the user":    {End: EndKilled},
		"stopped by the user":   {End: EndStatus, Asked: true},
		"of which nobody knows": {End: EndUnknown},
	} {
		s := held(t)
		for n := range uint64(5) {
			s.after(time.Minute).on(Readable{}).on(Launched{n + 1, false})
			e.Number = n + 1
			if s.on(e); s.m.State != Held {
				t.Errorf("%s, %d times: %v", name, n+1, s.m.State)
			}
		}
	}
	s := serving(t, true)
	for n := range uint64(5) { // that served
		s.on(Exited{Number: n + 1, End: EndSignal}).is(Held)
		s.after(time.Minute).on(Readable{}).on(Launched{n + 2, true}).on(Served{n + 2}).is(Ready)
	}
}

// TestKilledUnderLoad: whoever waits is served by the next, at once.
func TestKilledUnderLoad(t *testing.T) {
	s := serving(t, false)
	s.on(Exited{Number: 1, End: EndKilled, Waiting: true}).says(Launching, Launch{ForClient})
}

// TestRestartPolicies: who is followed although nobody waits.
func TestRestartPolicies(t *testing.T) {
	for _, c := range []struct {
		restart Restart
		end     End
		asked   bool
		again   bool
	}{
		{RestartOnDemand, EndSignal, false, false},
		{RestartOnDemand, EndClean, false, false},
		{RestartOnFailure, EndSignal, false, true},
		{RestartOnFailure, EndKilled, false, true},
		{RestartOnFailure, EndMemory, false, true},
		{RestartOnFailure, EndUnknown, false, true},
		{RestartOnFailure, EndTerminated, false, false},
		{RestartOnFailure, EndClean, false, false},
		{RestartOnFailure, EndStatus, true, false},
		{RestartAlways, EndClean, false, true},
		{RestartAlways, EndTerminated, false, true},
		{RestartAlways, EndSignal, true, false},
	} {
		t.Run(fmt.Sprintf("%s, %v, asked %v", c.restart, c.end, c.asked), func(t *testing.T) {
			s := serving(t, true, func(p *Policy) { p.Restart = c.restart })
			s.on(Exited{Number: 1, End: c.end, Asked: c.asked})
			if !c.again {
				s.says(Held, Watch{true})
				return
			}
			s.says(Backoff, Watch{true}).noted(NoteBackoff).timer(time.Second).says(Launching, Launch{ForPolicy}, Watch{false})
		})
	}
}

func always(p *Policy) { p.Restart = RestartAlways }

// TestBackoffGrows: each bad end of a row doubles the wait; who has served begins a new one.
func TestBackoffGrows(t *testing.T) {
	s := serving(t, true, always)
	n := uint64(1)
	for _, seconds := range []int{1, 2, 4, 8, 10, 10} {
		s.on(Exited{Number: n, End: EndSignal}).is(Backoff).timer(time.Duration(seconds) * time.Second).is(Launching)
		n++
		s.on(Launched{n, true}).on(Served{n}).is(Ready)
	}
	s.after(time.Minute).on(Exited{Number: n, End: EndSignal}).is(Backoff).timer(time.Second).is(Launching)
}

// TestClientCutsBackoffShort: three times in a row, and then waits too.
func TestClientCutsBackoffShort(t *testing.T) {
	s := serving(t, true, always)
	for n := range uint64(FreeLaunches) {
		s.on(Exited{Number: n + 1, End: EndSignal}).is(Backoff)
		s.on(Readable{}).says(Launching, Launch{ForClient})
		s.on(Launched{n + 2, true}).on(Served{n + 2}).is(Ready)
	}
	s.on(Exited{Number: 4, End: EndSignal, Waiting: true}).says(Backoff)
	s.timer(time.Second).says(Launching, Launch{ForClient})
	s.on(Launched{5, true}).on(Served{5}).on(Exited{Number: 5, End: EndSignal}).says(Backoff, Watch{true})
	// The wait of the policy would be 8 s, that of a client is 2 s.
	s.on(Readable{}).is(Backoff).timer(2*time.Second).says(Launching, Launch{ForClient})
}

// TestPoisonedRequest: a client that comes again and again, and whose request ends the
// daemon, makes no busy loop, whatever the policy.
func TestPoisonedRequest(t *testing.T) {
	s := serving(t, true)
	launches := 1
	for n := uint64(1); s.now < time.Hour+time.Minute; n++ {
		s.on(Exited{Number: n, End: EndSignal}) // nobody is in the queue: it comes a moment later
		s.on(Readable{})
		if s.m.State == Backoff {
			s.timer(s.m.timer - s.now)
		}
		s.says(Launching, s.effects[:len(s.effects)]...)
		s.on(Launched{n + 1, true}).on(Served{n + 1})
		launches++
	}
	if launches > 15 {
		t.Errorf("%d launches in a minute", launches)
	}
}

// TestNotReadyInTime: evidence, then the kill; it counts.
func TestNotReadyInTime(t *testing.T) {
	s := held(t, func(p *Policy) { p.ReadyWithin = 5 * time.Second })
	s.on(Readable{}).is(Launching)
	for n := uint64(1); ; n++ {
		s.on(Launched{n, true}).is(Starting)
		s.timer(5*time.Second).says(Capturing, Capture{n, CauseUnready}).noted(NoteHung)
		s.on(Captured{Number: n}).says(Killing, Kill{n, CauseUnready})
		s.on(Exited{Number: n, End: EndKilled, Waiting: true})
		if n == BudgetFailures {
			break
		}
		s.says(Launching, Launch{ForClient})
	}
	s.is(Refusing)
}

// TestReadyInTheLastMoment: it is not killed after all.
func TestReadyInTheLastMoment(t *testing.T) {
	s := held(t, func(p *Policy) { p.ReadyWithin = 5 * time.Second })
	s.on(Readable{}).on(Launched{1, true}).timer(5 * time.Second).is(Capturing)
	s.on(Served{1}).says(Ready)
	s.on(Captured{Number: 1}).says(Ready)
}

// TestNoEvidence: what cannot be captured in time is done without.
func TestNoEvidence(t *testing.T) {
	s := serving(t, true)
	s.on(Despaired{1}).says(Capturing, Capture{1, CauseDespair})
	s.timer(captureWithin).says(Killing, Kill{1, CauseDespair})
}

// TestHung: who accepts nobody is replaced, unless he answers, loads, or is debugged.
func TestHung(t *testing.T) {
	silent := Unaccepted{Number: 1, For: 30 * time.Second}
	s := serving(t, false)
	s.on(Unaccepted{Number: 1, For: 29 * time.Second}).says(Ready)
	s.on(Unaccepted{Number: 1, For: time.Hour, Answers: true}).says(Ready)
	s.on(Unaccepted{Number: 2, For: time.Hour}).says(Ready)
	s.on(silent).says(Capturing, Capture{1, CauseUnaccepted})
	s.on(silent).says(Capturing) // once
	s.on(Captured{Number: 1, Debugged: true}).says(Ready)
	s.on(silent).says(Capturing, Capture{1, CauseUnaccepted})
	s.on(Captured{Number: 1}).says(Killing, Kill{1, CauseUnaccepted})
	s.on(Exited{Number: 1, End: EndKilled, Waiting: true}).says(Launching, Launch{ForClient})
	if s.m.failures != [BudgetFailures]time.Duration{} {
		t.Error("it spends the budget")
	}
	s.on(Launched{2, false})
	s.on(Unaccepted{Number: 2, For: time.Hour}).says(Starting) // it loads (R2)
}

// TestHungReport: evidence, at most once a minute, and nothing else.
func TestHungReport(t *testing.T) {
	s := serving(t, true, func(p *Policy) { p.OnHang = definition.HangReport })
	silent := Unaccepted{Number: 1, For: time.Hour}
	s.on(silent).says(Ready, Capture{1, CauseUnaccepted})
	s.on(Captured{Number: 1}).says(Ready)
	s.after(reportEvery - 1).on(silent).says(Ready)
	s.after(1).on(silent).says(Ready, Capture{1, CauseUnaccepted})
}

func TestWatchdog(t *testing.T) {
	watched := func(p *Policy) { p.Watchdog = 10 * time.Second }
	s := held(t, watched)
	s.on(Readable{}).on(Launched{1, false})
	if s.m.timer != 0 {
		t.Error("a sign of life is expected of one that loads")
	}
	s.on(Served{1}).after(9 * time.Second).on(Alive{Number: 1})
	s.timer(10*time.Second).says(Capturing, Capture{1, CauseWatchdog})

	s = serving(t, false, watched)
	s.on(Alive{Number: 1, Every: 3 * time.Second}).timer(3 * time.Second).is(Capturing)
	s = serving(t, false)
	s.on(Alive{Number: 1, Every: 1}).timer(minWatchdog).is(Capturing) // no busy loop
	s = serving(t, false)
	s.on(Alive{Number: 1, Every: 1000 * time.Hour}).timer(maxWatchdog).is(Capturing)

	// One that was found may be another's, which expects nothing.
	s = begin(t, watched).on(Requested{Verb: VerbEnable}).on(Adopted{Run{5, true, true}, true}).is(Ready)
	if s.m.timer != 0 {
		t.Error("a sign of life is expected of one that never gave any")
	}
	s.on(Alive{Number: 5}).timer(10 * time.Second).is(Capturing)
}

func TestStop(t *testing.T) {
	s := serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbStop}).says(Draining, Drain{1})
	s.on(Requested{ID: 3, Verb: VerbStop}).says(Draining)
	s.on(Exited{Number: 1, End: EndTerminated, Waiting: true}).says(Launching, Launch{ForClient}, Answer{ID: 2, Done: true}, Answer{ID: 3, Done: true})

	s = serving(t, true, always)
	s.on(Requested{ID: 2, Verb: VerbStop}).says(Draining, Drain{1}, Watch{true})
	s.timer(10*time.Second).says(Killing, Kill{1, CauseStop}, Watch{false})
	s.on(Exited{Number: 1, End: EndKilled}).says(Held, Answer{ID: 2, Done: true}, Watch{true}) // and is not restarted

	s.on(Requested{ID: 4, Verb: VerbStop}).says(Held, Answer{ID: 4, Reason: notRunning})
}

// TestStopWhileLaunching: it covers who is being launched, and no launch that is
// requested after it.
func TestStopWhileLaunching(t *testing.T) {
	s := held(t)
	s.on(Requested{ID: 2, Verb: VerbLaunch}).says(Launching, Launch{ForRequest}, Watch{false})
	s.on(Requested{ID: 3, Verb: VerbStop}).says(Launching, Answer{ID: 2, Reason: nowStopped})
	s.on(Requested{ID: 4, Verb: VerbLaunch}).says(Launching)
	s.on(Launched{1, false}).says(Draining, Drain{1})
	s.on(Exited{Number: 1, End: EndTerminated}).says(Launching, Launch{ForRequest}, Answer{ID: 3, Done: true})
	s.on(Launched{2, false}).says(Starting, Answer{ID: 4, Done: true})
}

// TestStuck: what the kernel does not end holds nobody up; two of them do.
func TestStuck(t *testing.T) {
	s := serving(t, true)
	n := uint64(1)
	for range MaxLeaving {
		s.on(Unaccepted{Number: n, For: time.Hour}).on(Captured{Number: n}).is(Killing)
		s.timer(killWithin).says(Held, Watch{true}).noted(NoteStuck)
		n++
		s.on(Readable{}).on(Launched{n, true}).on(Served{n}).is(Ready)
	}
	if got := s.m.Leaving(); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("on their way out are %v", got)
	}
	s.on(Requested{ID: 2, Verb: VerbStop}).says(Draining, Drain{3})
	s.timer(10 * time.Second).is(Killing)
	s.timer(killWithin).says(Killing, Refuse{stuckReason(3), s.now + BudgetWindow}, Answer{ID: 2, Reason: stuckReason(3)})
	s.on(Requested{ID: 3, Verb: VerbLaunch}).says(Killing, Answer{ID: 3, Reason: stuckReason(3)})
	if s.m.timer != 0 {
		t.Error("it goes on waiting for something")
	}
	s.on(Exited{Number: 3, End: EndKilled}).says(Binding, Bind{})
}

// TestRestart: a backend is succeeded, and serves meanwhile; anybody else ends first.
func TestRestart(t *testing.T) {
	s := serving(t, true)
	s.on(Requested{ID: 2, Verb: VerbRestart}).says(Ready, Succeed{1})
	s.on(Requested{ID: 3, Verb: VerbRestart}).says(Ready) // the same will do
	s.on(Succeeded{1, Run{2, true, true}}).says(Ready, Answer{ID: 2, Done: true}, Answer{ID: 3, Done: true})
	s.timer(10*time.Second).says(Ready, Kill{1, CauseStop})
	s.on(Exited{Number: 1, End: EndKilled}).says(Ready)

	s.on(Requested{ID: 4, Verb: VerbRestart}).says(Ready, Succeed{2})
	s.on(SuccessorFailed{2, "it does not load"}).says(Ready, Answer{ID: 4, Reason: "it does not load"})

	s = serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbRestart}).says(Draining, Drain{1})
	s.on(Exited{Number: 1, End: EndTerminated}).says(Launching, Launch{ForRequest})
	s.on(Launched{2, false}).says(Starting, Answer{ID: 2, Done: true})

	s = held(t)
	s.on(Requested{ID: 2, Verb: VerbRestart}).says(Launching, Launch{ForRequest}, Watch{false})
	s.on(LaunchFailed{Reason: "no such program"}).says(Refusing, Refuse{"no such program", s.now + time.Second},
		Answer{ID: 2, Reason: "no such program", Retry: s.now + time.Second})
}

// TestSuccessorOutlives: the old one dies while its successor loads, which has the
// listener: no other is launched.
func TestSuccessorOutlives(t *testing.T) {
	s := serving(t, true, func(p *Policy) { p.ReadyWithin = time.Minute })
	s.on(Requested{ID: 2, Verb: VerbRestart}).says(Ready, Succeed{1})
	s.on(Exited{Number: 1, End: EndSignal, Waiting: true}).says(Succeeding)
	before := s.m
	s.on(Succeeded{1, Run{2, true, true}}).says(Ready, Answer{ID: 2, Done: true})
	s.m = before
	s.on(SuccessorFailed{1, "it died too"}).says(Held, Answer{ID: 2, Reason: "it died too"}, Watch{true})
	s.m = before
	s.timer(time.Minute).says(Succeeding, CancelSuccessor{1})
}

// TestIdleExit: a backend that leaves has left its queue to the next one; a foreign
// daemon has to be gone.
func TestIdleExit(t *testing.T) {
	s := serving(t, true)
	s.on(Leaving{1}).says(Draining, Watch{true})
	s.on(Readable{}).says(Launching, Launch{ForClient})
	s.on(Launched{2, true}).says(Starting)
	s.on(Exited{Number: 1, End: EndClean, Waiting: true}).says(Starting)

	s = serving(t, false)
	s.on(Leaving{1}).says(Draining)
	s.on(Exited{Number: 1, End: EndClean, Waiting: true}).says(Launching, Launch{ForClient})
}

// TestFollowing: somebody else's daemon is watched, and held when it is gone.
func TestFollowing(t *testing.T) {
	s := begin(t).on(Requested{ID: 1, Verb: VerbEnable}).on(Adopted{Run{7, false, false}, false})
	s.says(Following, Answer{ID: 1, Done: true}).noted(NoteAdopted)
	s.on(Requested{ID: 2, Verb: VerbLaunch}).says(Following, Answer{ID: 2, Done: true})
	s.on(Exited{Number: 7, End: EndUnknown}).says(Binding, Bind{})
	s.on(Bound{}).says(Held, Watch{true})

	// Its definition is gone: it was launched by somebody who needs no broker.
	s = begin(t).on(Requested{Verb: VerbEnable}).on(Adopted{Run{7, false, false}, false}).is(Following)
	s.on(Requested{ID: 2, Verb: VerbDisable}).says(Disabled, Answer{ID: 2, Done: true})
}

// TestLostListener: a client has launched around us after both names were deleted.
func TestLostListener(t *testing.T) {
	s := held(t)
	s.on(Adopted{Run{9, true, true}, true}).says(Ready, Release{})

	s = serving(t, false)
	s.on(Adopted{Run{9, true, true}, false}).says(Following, Drain{1}, Release{}).noted(NoteStranded)
	s.timer(10*time.Second).says(Following, Kill{1, CauseStop})

	s = held(t)
	s.on(Stranded{}).says(Binding, Release{}, Bind{})
	s = serving(t, true)
	s.on(Stranded{}).says(Binding, Drain{1}, Release{}, Bind{}).noted(NoteStranded)
}

func TestDisable(t *testing.T) {
	s := serving(t, true)
	s.on(Requested{ID: 2, Verb: VerbDisable}).says(Draining, Drain{1})
	s.on(Requested{ID: 3, Verb: VerbLaunch}).says(Draining, Answer{ID: 3, Reason: nowDisabled})
	s.on(Exited{Number: 1, End: EndClean, Waiting: true}).says(Disabled, Release{}, Answer{ID: 2, Done: true})
	s.on(Requested{ID: 4, Verb: VerbLaunch}).says(Disabled, Answer{ID: 4, Reason: notEnabled})
	s.on(Requested{ID: 5, Verb: VerbDisable}).says(Disabled, Answer{ID: 5, Done: true})

	s = serving(t, true)
	s.on(Requested{ID: 2, Verb: VerbDisable}).is(Draining)
	s.on(Requested{ID: 3, Verb: VerbEnable}).says(Draining, Answer{ID: 2, Reason: nowEnabled}, Answer{ID: 3, Done: true}, Watch{true})
	s.on(Exited{Number: 1, End: EndClean}).says(Held)
}

func TestBindFails(t *testing.T) {
	s := begin(t).on(Requested{ID: 1, Verb: VerbEnable})
	s.on(BindFailed{"no space"}).says(Refusing, Answer{ID: 1, Reason: "no space", Retry: s.now + time.Second})
	// Who asks when that is known already is told so too.
	s.on(Requested{ID: 2, Verb: VerbEnable}).says(Refusing, Answer{ID: 2, Reason: "no space", Retry: s.now + time.Second})
	s.timer(time.Second).says(Binding, Bind{})
	s.on(BindFailed{"no space"}).timer(2 * time.Second).on(Bound{}).is(Held)

	// Nobody has used it: no policy starts it.
	begin(t, always).on(Requested{Verb: VerbEnable}).on(BindFailed{"no space"}).timer(time.Second).on(Bound{}).is(Held)
}

// TestLaunchFails: everybody who waits is told at once; whose clock is another's is not
// believed for long.
func TestLaunchFails(t *testing.T) {
	s := held(t)
	s.on(Readable{}).on(LaunchFailed{Reason: "spent", Retry: s.now + 7*time.Second}).says(Refusing, Refuse{"spent", s.now + 7*time.Second})
	s.timer(7 * time.Second).on(Bound{}).on(Readable{})
	s.on(LaunchFailed{Reason: "spent", Retry: 1000 * s.now}).says(Refusing, Refuse{"spent", s.now + BudgetWindow})
	s.timer(BudgetWindow).on(Bound{}).on(Readable{})
	s.on(LaunchFailed{Reason: "not listening", Died: true}).is(Refusing)
	if s.m.failures[0] != s.now {
		t.Error("one that died before it listened spends nothing")
	}
}

// TestChanged: another command may do better.
func TestChanged(t *testing.T) {
	s := held(t)
	s.on(Readable{}).on(LaunchFailed{Reason: "no such program"}).is(Refusing)
	s.on(Changed{Policy: plain(always)}).says(Refusing)
	s.on(Changed{Policy: plain(always), Launch: true}).says(Binding, Forget{}, Bind{})

	s = held(t)
	s.on(Readable{}).on(Launched{1, true}).after(time.Second)
	s.on(Changed{Policy: plain(func(p *Policy) { p.ReadyWithin = 3 * time.Second })}).timer(2 * time.Second).is(Capturing)
	s = serving(t, true)
	s.on(Changed{Policy: plain(func(p *Policy) { p.StopWithin = time.Millisecond })})
	s.on(Requested{ID: 2, Verb: VerbStop}).timer(10 * time.Second).is(Killing) // as it was launched
}

func TestReset(t *testing.T) {
	s := held(t)
	s.on(Readable{})
	for n := range uint64(BudgetFailures) {
		s.on(Launched{n + 1, true}).on(Exited{Number: n + 1, End: EndStatus, Waiting: true})
	}
	s.is(Refusing).on(Requested{ID: 2, Verb: VerbReset}).says(Binding, Forget{}, Bind{}, Answer{ID: 2, Done: true})
	s.on(Bound{}).on(Readable{}).says(Launching, Launch{ForClient})
}

func TestExtend(t *testing.T) {
	s := held(t, func(p *Policy) { p.ReadyWithin = 5 * time.Second })
	s.on(Readable{}).on(Launched{1, false}).after(4 * time.Second)
	s.on(Extended{1, 20 * time.Second}).on(Extended{1, time.Second}).on(Extended{1, -time.Hour}).on(Extended{2, time.Hour})
	s.timer(20 * time.Second).is(Capturing)
	s = serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbStop}).on(Extended{1, 1000 * time.Hour}).timer(MaxExtend).is(Killing)
	s = serving(t, true) // of one that drains beside another
	s.on(Leaving{1}).on(Readable{}).on(Extended{1, time.Minute}).on(Launched{2, true}).timer(time.Minute).says(Starting, Kill{1, CauseStop})
}

// TestBounds reaches the bound of each queue.
func TestBounds(t *testing.T) {
	s := held(t)
	s.on(Readable{})
	for id := range uint64(MaxRequests) {
		s.on(Requested{ID: 10 + id, Verb: VerbLaunch}).says(Launching)
	}
	s.on(Requested{ID: 99, Verb: VerbLaunch}).says(Launching, Answer{ID: 99, Reason: tooMany})
	s.on(Requested{Verb: VerbDisable}) // the broker's own wish always finds a place
	if s.on(Launched{1, true}); s.m.State != Draining {
		t.Errorf("a disable is lost: %v", s.m.State)
	}

	// More successors than may be on their way out: the first has the least time left.
	s = serving(t, true)
	for n := range uint64(MaxLeaving) {
		s.after(time.Second).on(Succeeded{n + 1, Run{n + 2, true, true}}).says(Ready)
	}
	s.after(time.Second).on(Succeeded{3, Run{4, true, true}}).says(Ready, Kill{1, CauseStop})
	if got := s.m.Leaving(); len(got) != MaxLeaving {
		t.Errorf("on their way out are %v", got)
	}
	// A next one is not launched beside them.
	s.on(Leaving{4}).says(Draining)
	s.on(Exited{Number: 2, End: EndClean}).says(Draining, Watch{true})

	// Who does not wait any longer makes room, and what was begun goes on.
	s = serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbDisable}).on(Withdrawn{2}).says(Draining)
	s.on(Exited{Number: 1, End: EndTerminated}).says(Disabled, Release{})
	s = serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbRestart}).on(Withdrawn{2}).says(Draining)
	s.on(Exited{Number: 1, End: EndTerminated}).says(Launching, Launch{ForRequest})
	s.on(Launched{2, false}).says(Starting)
	for id := range uint64(3 * MaxRequests) {
		s.on(Requested{ID: 10 + id, Verb: VerbReady}).says(Starting).on(Withdrawn{10 + id}).says(Starting)
	}

	for range 300 {
		s.bads()
	}
	if s.m.streak != 100 {
		t.Errorf("a row of %d", s.m.streak)
	}
}

func (s *story) bads() {
	step := step{Machine: s.m, at: s.now}
	step.bad()
	s.m = step.Machine
}

func TestDeparted(t *testing.T) {
	s := serving(t, false)
	s.on(Requested{ID: 2, Verb: VerbStop}).on(Departed{}).says(Ended, Answer{ID: 2, Reason: departed}, HandOn{})
	s.on(Requested{ID: 3, Verb: VerbLaunch}).says(Ended, Answer{ID: 3, Reason: departed})
	s.on(Exited{Number: 1, End: EndClean}).says(Ended)
	if s.m.timer != 0 || s.m.Busy() {
		t.Error("it has something to do still")
	}
}

// TestInherited: the next broker goes on where the former was.
func TestInherited(t *testing.T) {
	begin(t).on(Inherited{}).says(Held, Watch{true})
	s := begin(t).on(Inherited{Run{3, false, true}}).says(Ready)
	s.on(Exited{Number: 3, End: EndKilled, Waiting: true}).says(Launching, Launch{ForClient})
}

// TestBusy: what a broker that is about to execute a newer one waits for.
func TestBusy(t *testing.T) {
	busy := func(s *story, want bool) {
		t.Helper()
		if s.m.Busy() != want {
			t.Errorf("%v: busy %v", s.m.State, !want)
		}
	}
	busy(begin(t), false)
	busy(begin(t).on(Requested{Verb: VerbEnable}), true)
	busy(held(t), false)
	busy(held(t).on(Readable{}), true)
	busy(serving(t, true), false)
	busy(serving(t, true).on(Requested{ID: 2, Verb: VerbRestart}), true)
	busy(serving(t, true).on(Requested{ID: 2, Verb: VerbStop}), false)
	busy(serving(t, true).on(Despaired{1}), true)
}

// TestStrangers: events of a generation that is no more, and answers to no question,
// change nothing.
func TestStrangers(t *testing.T) {
	for _, s := range []*story{held(t), serving(t, true), serving(t, false).on(Leaving{1}), serving(t, true).on(Despaired{1})} {
		was := s.m
		for _, e := range []Event{Served{9}, Leaving{9}, Alive{Number: 9}, Extended{9, time.Hour}, Despaired{9}, Unaccepted{Number: 9, For: time.Hour},
			Captured{Number: 9}, Exited{Number: 9}, Succeeded{9, Run{10, true, true}}, SuccessorFailed{Number: 9}, Bound{}, BindFailed{},
			Launched{9, true}, LaunchFailed{}, Inherited{}, Exited{}, Served{}, Captured{}} {
			if s.on(e); s.m != was || len(s.effects) > 0 {
				t.Errorf("%v: %T%+v leads to %+v, %v", was.State, e, e, s.m, show(s.effects))
				s.m = was
			}
		}
	}
}

// TestNames: each state, verb and end has one, and no other value does.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	check := func(name string) {
		if name == "" || strings.ContainsAny(name, "0123456789") || seen[name] {
			t.Errorf("a name is %q", name)
		}
		seen[name] = true
	}
	for s := range numStates {
		check(s.String())
	}
	clear(seen)
	for v := range numVerbs {
		check(v.String())
	}
	clear(seen)
	for e := EndUnknown; e <= EndMemory; e++ {
		check(e.String())
	}
	for _, beyond := range []string{numStates.String(), numVerbs.String(), (EndMemory + 1).String()} {
		if seen[beyond] {
			t.Errorf("what does not exist is %q", beyond)
		}
	}
}

// TestEventsAreComparable: a driver may compare and log them.
func TestEventsAreComparable(t *testing.T) {
	for _, v := range []any{Machine{}, Moment{}, Exited{}, Adopted{}, Requested{}, Changed{}, Answer{}, Note{}, Kill{}, Capture{}} {
		if !reflect.TypeOf(v).Comparable() {
			t.Errorf("%T is not comparable", v)
		}
	}
	// A thousand services are to cost little.
	if size := unsafe.Sizeof(Machine{}); size > 1024 {
		t.Errorf("a machine has %d bytes", size)
	} else {
		t.Logf("a machine has %d bytes", size)
	}
}

func BenchmarkNext(b *testing.B) {
	m := New(Policy{}.Complete())
	m, _ = m.Next(Moment{At: 1}, Requested{Verb: VerbEnable})
	m, _ = m.Next(Moment{At: 2}, Bound{})
	b.ReportAllocs()
	for b.Loop() {
		n, _ := m.Next(Moment{At: 3}, Readable{})
		_, _ = n.Next(Moment{At: 4}, Launched{1, true})
	}
}
