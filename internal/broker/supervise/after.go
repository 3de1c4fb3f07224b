package supervise

import (
	"strconv"
	"time"
)

// readable: somebody waits.
func (s *step) readable() {
	s.watch = false // it tells once
	if !s.Listener || s.Run.Number != 0 && s.State != Draining {
		return
	}
	switch s.State {
	case Held:
		s.waiting = true
		s.attend()
	case Backoff:
		if s.waiting = true; s.notUntil < s.deadline {
			s.attend()
		}
	case Draining:
		if !s.beside() {
			return
		}
		// It has ended for all but those whom it serves.
		wants := s.account(EndClean, s.asked, true, leftUnready)
		s.depose()
		s.rest(true, wants)
	}
}

// launch makes a generation, if the budget admits one.
func (s *step) launch(why Why) {
	if retry := s.spent(); retry != 0 {
		s.refuse(s.spentReason(), retry)
		return
	}
	s.State, s.deadline = Launching, 0
	s.do(Launch{why})
}

func (s *step) launchFailed(e LaunchFailed) {
	s.bad()
	if e.Died {
		s.fail(e.Reason)
	}
	if s.has(VerbDisable) {
		s.disable()
		return
	}
	// Who keeps the clock of another boot on record is not believed for long.
	retry := min(e.Retry, s.at+BudgetWindow)
	if retry <= s.at {
		retry = max(s.spent(), s.at+s.Policy.Backoff(int(s.streak), s.jitter))
	}
	s.refuse(e.Reason, retry)
}

// spentReason is worded as the launch protocol's refusal.
func (s *step) spentReason() string {
	const reason = "3 launches failed within 30 s"
	if s.failure == "" {
		return reason
	}
	return reason + "; the last: " + s.failure
}

// spent returns when the budget admits a launch again, 0 if it does.
func (s *step) spent() time.Duration {
	oldest := s.failures[BudgetFailures-1]
	if oldest == 0 || s.at >= oldest+BudgetWindow {
		return 0
	}
	return oldest + BudgetWindow
}

// fail spends the budget.
func (s *step) fail(reason string) {
	copy(s.failures[1:], s.failures[:])
	s.failures[0], s.failure = max(s.at, 1), reason // 0 is none
}

// bad makes the row of bad ends longer.
func (s *step) bad() {
	s.streak, s.badAt = min(s.streak+1, 100), s.at
	if s.streak > FreeLaunches {
		s.notUntil = s.at + s.Policy.Backoff(int(s.streak)-FreeLaunches, s.jitter)
	}
}

// good ends the row.
func (s *step) good() { s.streak, s.badAt, s.notUntil = 0, 0, 0 }

func (s *step) exited(e Exited) {
	for i := range s.leaving {
		if l := &s.leaving[i]; l.number != 0 && l.number == e.Number {
			*l = leaving{}
			return
		}
	}
	if !s.is(e.Number) {
		return
	}
	asked := s.asked || s.stopNext || e.Asked
	if !asked && !s.Run.Ready {
		// A failed launch fails for all who wait for it.
		s.answer(VerbReady, Answer{Reason: e.Reason})
	}
	wants, heir := s.account(e.End, asked, e.Waiting, e.Reason), s.heir == e.Number
	s.clear()
	s.follow(heir, e.Waiting, wants)
}

func (s *step) clear() {
	s.Run, s.deadline, s.watchdog, s.cause, s.asked = Run{}, 0, 0, "", false
}

// follow decides what follows an end. heir: a successor is being launched, which has the
// listener already if it lives.
func (s *step) follow(heir, waiting, wants bool) {
	if heir {
		s.State = Succeeding
		return
	}
	s.rest(waiting, wants)
}

// account draws the lesson from the current generation's end, and reports whether the
// restart policy wants another.
func (s *step) account(end End, asked, waiting bool, reason string) bool {
	hung := s.cause != "" && s.cause != CauseStop
	if hung {
		reason = string(s.cause)
	}
	if s.at-s.since >= s.Policy.BackoffReset || s.at-s.badAt >= s.Policy.BackoffReset+s.Policy.BackoffMax {
		s.good()
	}
	if asked && !hung {
		s.good()
		return false
	}
	always := s.Policy.Restart == RestartAlways
	if end == EndClean && s.Run.Ready && !waiting && !hung && !always {
		s.good()
		return false
	}
	s.bad()
	if !s.Run.Ready && s.Listener && (s.cause != "" || end.counts(s.Run.Backend)) {
		s.fail(reason)
	}
	return !asked && (always || s.Policy.Restart == RestartOnFailure && (hung || end.failed()))
}

// leftUnready is why a start failed that did not come to its end.
const leftUnready = "it drained before it was ready"

// rest decides what follows when nobody runs. wants: the restart policy wants a
// launch.
func (s *step) rest(waiting, wants bool) {
	s.waiting, s.stopNext = waiting && s.Listener, false
	switch {
	case s.has(VerbDisable):
		s.disable()
	case !s.Listener:
		s.due = wants
		s.bind()
	case s.wanted():
		s.launch(ForRequest)
	case s.spent() != 0:
		s.refuse(s.spentReason(), s.spent())
	case s.waiting:
		s.attend()
	case wants:
		s.backoff(s.at + s.Policy.Backoff(max(int(s.streak), 1), s.jitter))
	default:
		s.hold()
	}
}

// attend launches for a client that waits, at once unless too many have come to a bad
// end.
func (s *step) attend() {
	if s.notUntil <= s.at {
		s.launch(ForClient)
		return
	}
	s.backoff(s.notUntil)
}

func (s *step) backoff(until time.Duration) {
	s.State, s.deadline = Backoff, until
	s.do(Note{NoteBackoff, 0, "launched again in " + (until - s.at).Round(time.Millisecond).String() + ", after " +
		strconv.Itoa(int(s.streak)) + " bad ends in a row"})
}

// forget frees the budget.
func (s *step) forget() {
	s.failures = [BudgetFailures]time.Duration{}
	s.good()
	s.do(Forget{})
	switch {
	case s.State == Refusing:
		s.bind()
	case s.State == Backoff && s.waiting:
		s.launch(ForClient)
	}
}

// beside reports whether the next generation may be launched beside the one that
// drains: that has left the queue to us, and it is not one too many.
func (s *step) beside() bool {
	return s.Run.Backend && s.heir == 0 && !s.has(VerbDisable) && s.room()
}

func (s *step) room() bool {
	for _, l := range s.leaving {
		if l.number == 0 {
			return true
		}
	}
	return false
}

// depose puts the current generation among those that are leaving.
func (s *step) depose() {
	l := leaving{number: s.Run.Number, by: s.deadline}
	switch s.State {
	case Killing:
		l.killed, l.stuck = true, s.deadline == 0
	case Draining:
	default:
		l.by = s.at + s.stopWithin + stopGrace
	}
	s.clear()
	s.leave(l)
}

// leave notes one that is leaving. If there are too many, the one that has the least
// time left has none.
func (s *step) leave(l leaving) {
	at := -1
	for i, have := range s.leaving {
		if have.number == 0 {
			at = i
			break
		}
		if at < 0 || have.killed && !s.leaving[at].killed || have.killed == s.leaving[at].killed && have.by < s.leaving[at].by {
			at = i
		}
	}
	if have := s.leaving[at]; have.number != 0 && !have.killed {
		s.do(Kill{have.number, CauseStop})
	}
	s.leaving[at] = l
}
