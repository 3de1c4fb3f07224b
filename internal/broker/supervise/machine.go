package supervise

import (
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

// A State is what the broker does about a service; see the package's description.
type State uint8

// The states.
const (
	Disabled State = iota
	Binding
	Held
	Launching
	Starting
	Ready
	Draining
	Capturing
	Killing
	Backoff
	Refusing
	Following
	Succeeding
	Ended // the broker has
	numStates
)

var stateNames = [numStates]string{"disabled", "binding", "held", "launching", "starting", "ready", "draining",
	"capturing", "killing", "backoff", "refusing", "following", "succeeding", "ended"}

func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// The bounds of what is waited for.
const (
	// MaxRequests is how many requests may wait for one service. One more is
	// refused.
	MaxRequests = 8

	// MaxLeaving is how many generations may be on their way out beside the one
	// that serves.
	MaxLeaving = 2

	// MaxExtend bounds one Extended.
	MaxExtend = time.Hour

	stopGrace     = time.Second      // beyond stop_within: a backend ends itself by then
	captureWithin = 30 * time.Second // for evidence; what is not there by then is done without
	killWithin    = 5 * time.Second  // for the kernel to end what was killed
	reportEvery   = time.Minute      // between two captures of a generation that is left as it is
	minWatchdog   = 100 * time.Millisecond
	maxWatchdog   = time.Hour
)

// A Machine decides for one service. It is comparable, and safe to copy; whoever
// keeps it calls Next from one goroutine at a time. The exported fields are to be read.
type Machine struct {
	Policy   Policy
	State    State
	Run      Run    // the generation that serves, or is about to or has just done so
	Listener bool   // we have a copy of the endpoint's listener
	Reason   string // of Refusing

	deadline   time.Duration // of the state, 0: none
	since      time.Duration // when Run became ready, or else was launched or found
	stopWithin time.Duration // Run was launched with
	every      time.Duration // Run's watchdog, 0: none
	watchdog   time.Duration // when its next sign of life is due, 0: none is
	asked      bool          // we have asked Run to end
	cause      Cause         // of Capturing and Killing
	reported   time.Duration // when evidence was last captured of Run, and it was left as it is; 0: never

	heir   uint64        // of whom a successor is being launched, 0: of nobody
	heirBy time.Duration // when that is too late, 0: never

	leaving [MaxLeaving]leaving

	due      bool                          // a launch is owed once the listener is bound
	stopNext bool                          // a stop came that has to wait: it is not known whom it ends, or evidence is captured
	waiting  bool                          // somebody was seen in the queue, and nobody accepts
	streak   uint8                         // bad ends in a row
	badAt    time.Duration                 // the last of them, 0: none
	notUntil time.Duration                 // before which no client is served at once, 0: each is
	failures [BudgetFailures]time.Duration // when they died that were never ready, the newest first
	failure  string                        // why the newest did

	requests [MaxRequests]request
	own      uint8 // the broker's own requests that are not done yet, a bit for each Verb

	// What the driver was last told.
	watch bool
	timer time.Duration
}

// leaving is a generation that drains while there is another one. The zero value is none.
type leaving struct {
	number uint64
	by     time.Duration // it is killed, or given up, 0: nothing more is done
	killed bool
	stuck  bool
}

// request is one that waits for its answer. The zero value is none.
type request struct {
	id   uint64
	verb Verb
	run  uint64 // VerbStop: who is to be gone, 0: who is being launched, if somebody is
}

// New returns the machine of a service that is not enabled yet. The policy was
// completed and checked.
func New(p Policy) Machine { return Machine{Policy: p} }

// RetryAt is when a Refusing service is tried again, or one in Backoff launched; else 0.
func (m Machine) RetryAt() time.Duration {
	if m.State == Refusing || m.State == Backoff {
		return m.deadline
	}
	return 0
}

// Busy reports whether an effect is under way that will be answered. A broker that
// wants to execute a newer one waits until it is not: the answer would reach nobody.
func (m Machine) Busy() bool {
	switch m.State {
	case Binding, Launching, Capturing, Killing:
		return true
	}
	return m.heir != 0
}

// Leaving returns the generations that drain beside Run.
func (m Machine) Leaving() []uint64 {
	var numbers []uint64
	for _, l := range m.leaving {
		if l.number != 0 {
			numbers = append(numbers, l.number)
		}
	}
	return numbers
}

// Next returns the machine after an event, and what is to be done, in this order.
// An event that has no meaning in the state, such as one of a generation that is
// no more, changes nothing.
func (m Machine) Next(now Moment, e Event) (Machine, []Effect) {
	if m.State == Ended {
		if r, ok := e.(Requested); ok && r.ID != 0 {
			return m, []Effect{Answer{ID: r.ID, Reason: departed}}
		}
		return m, nil
	}
	s := step{Machine: m, at: now.At, jitter: now.Jitter}
	s.take(e)
	s.settle()
	return s.Machine, s.effects
}

// step is a machine on its way through one event.
type step struct {
	Machine
	at      time.Duration
	jitter  float64
	effects []Effect
}

func (s *step) do(e Effect) { s.effects = append(s.effects, e) }

func (s *step) take(e Event) {
	switch e := e.(type) {
	case Timer:
		s.timer = 0 // it is gone, whatever came of it
		s.expire()
	case Bound:
		s.bound()
	case BindFailed:
		if s.State == Binding {
			due := s.due // and not more: it may never have been used
			s.bad()
			s.refuse(e.Reason, s.at+s.Policy.Backoff(int(s.streak), s.jitter))
			s.due = due
		}
	case Inherited:
		if s.State == Disabled {
			s.State = Binding
			if s.bound(); e.Run.Number != 0 {
				s.attach(e.Run)
			}
		}
	case Stranded:
		s.stranded()
	case Adopted:
		s.adopted(e)
	case Readable:
		s.readable()
	case Launched:
		if s.State == Launching {
			s.every = s.Policy.Watchdog
			s.attach(Run{Number: e.Number, Backend: e.Backend})
			s.restarted()
		}
	case LaunchFailed:
		if s.State == Launching {
			s.launchFailed(e)
		}
	case Succeeded:
		s.succeeded(e)
	case SuccessorFailed:
		if e.Number != 0 && e.Number == s.heir {
			s.heir, s.heirBy = 0, 0
			s.answer(VerbRestart, Answer{Reason: e.Reason})
			if s.State == Succeeding {
				s.rest(false, s.Policy.Restart != RestartOnDemand)
			}
		}
	case Exited:
		s.exited(e)
	case Changed:
		s.changed(e)
	case Requested:
		s.requested(e)
	case Withdrawn:
		s.withdraw(e.ID)
	case Departed:
		s.depart()
	default:
		s.told(e)
	}
}

// told takes what a generation says, or is seen to do, while it runs.
func (s *step) told(e Event) {
	switch e := e.(type) {
	case Served:
		if s.is(e.Number) {
			s.served()
		}
	case Leaving:
		if s.is(e.Number) && (s.runs() || s.State == Capturing) {
			s.State, s.deadline, s.watchdog, s.cause = Draining, s.at+s.stopWithin+stopGrace, 0, ""
			if s.stopNext { // and it is on record that it was asked
				s.stopNext = false
				s.drain()
			}
		}
	case Alive:
		if !s.is(e.Number) {
			return
		}
		switch {
		case e.Every > 0:
			s.every = min(max(e.Every, minWatchdog), maxWatchdog)
		case s.every == 0: // of one that was found: it is as good as its word
			s.every = s.Policy.Watchdog
		}
		s.feed()
	case Extended:
		s.extended(e)
	case Despaired:
		if s.is(e.Number) && s.runs() {
			s.suspect(CauseDespair)
		}
	case Unaccepted:
		// One that loads accepts nobody and is not hung, however long it takes (R2),
		// nor is one that answers (R25).
		if s.is(e.Number) && s.runs() && s.Run.Ready && !e.Answers && e.For >= s.Policy.HangAfter {
			s.suspect(CauseUnaccepted)
		}
	case Captured:
		if s.is(e.Number) && s.State == Capturing {
			s.captured(e.Debugged)
		}
	}
}

// is reports whether number is of the current generation.
func (s *step) is(number uint64) bool { return number != 0 && number == s.Run.Number }

// runs reports whether the current generation accepts, or will when it has loaded.
func (s *step) runs() bool { return s.State == Starting || s.State == Ready || s.State == Following }

// settle answers the requests that are fulfilled now, and tells the driver what it
// is to watch.
func (s *step) settle() {
	s.answerEnds()
	if want := s.watching(); want != s.watch {
		s.watch = want
		s.do(Watch{want})
	}
	if next := s.next(); next != s.timer {
		s.timer = next
		s.do(SetTimer{next})
	}
}

// watching reports whether to be told of a client that waits: the listener is ours,
// nobody accepts or is being launched, and none is known to wait.
func (s *step) watching() bool {
	if !s.Listener || s.waiting {
		return false
	}
	switch s.State {
	case Held, Backoff:
		return true
	case Draining:
		return s.beside()
	}
	return false
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

// next is the earliest deadline, 0 if there is none.
func (s *step) next() time.Duration {
	next := s.deadline
	earlier := func(t time.Duration) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	earlier(s.watchdog)
	earlier(s.heirBy)
	for _, l := range s.leaving {
		earlier(l.by)
	}
	return next
}

// expire does what is due.
func (s *step) expire() {
	due := func(t *time.Duration) bool {
		if *t == 0 || *t > s.at {
			return false
		}
		*t = 0
		return true
	}
	for i := range s.leaving {
		l := &s.leaving[i]
		switch {
		case !due(&l.by):
		case l.killed:
			l.stuck = true
			s.do(Note{NoteStuck, l.number, stuckReason(l.number)})
		default:
			s.do(Kill{l.number, CauseStop})
			l.killed, l.by = true, s.at+killWithin
		}
	}
	if due(&s.heirBy) {
		s.cancel()
	}
	if due(&s.watchdog) {
		s.suspect(CauseWatchdog)
	}
	if !due(&s.deadline) {
		return
	}
	switch s.State {
	case Starting:
		s.suspect(CauseUnready)
	case Draining:
		s.kill(CauseStop)
	case Capturing:
		s.kill(s.cause)
	case Killing:
		s.stuck()
	case Backoff:
		why := ForPolicy
		if s.waiting {
			why = ForClient
		}
		s.launch(why)
	case Refusing:
		s.bind()
	}
}

// bind looks for who is there.
func (s *step) bind() {
	s.State, s.deadline, s.Reason = Binding, 0, ""
	s.do(Bind{})
}

// bound has the listener.
func (s *step) bound() {
	if s.State != Binding {
		return
	}
	s.Listener, s.watch, s.waiting, s.stopNext = true, false, false, false
	s.answer(VerbEnable, Answer{Done: true})
	switch {
	case s.has(VerbDisable):
		s.disable()
	case s.wanted():
		s.launch(ForRequest)
	case s.due && s.notUntil > s.at:
		s.backoff(s.notUntil)
	case s.due:
		s.launch(ForPolicy)
	default:
		s.do(Note{NoteHeld, 0, ""})
		s.hold()
	}
}

func (s *step) hold() { s.State, s.deadline = Held, 0 }

// drop notes that we have no listener any more.
func (s *step) drop(how Effect) {
	if s.Listener {
		s.do(how)
	}
	s.Listener, s.watch, s.waiting = false, false, false
}

// adopted follows, or attends, somebody whom we have not launched.
func (s *step) adopted(e Adopted) {
	if s.State == Disabled || e.Run.Number == 0 {
		return
	}
	if s.is(e.Run.Number) {
		e.Run.Ready = e.Run.Ready || s.Run.Ready
		if !s.runs() { // and is on its way out all the same
			s.drop(Release{})
			s.Listener = e.Listener
			return
		}
	} else if s.Run.Number != 0 && s.State != Following {
		s.strand()
	}
	s.drop(Release{})
	s.Listener, s.every = e.Listener, 0
	s.do(Note{NoteAdopted, e.Run.Number, ""})
	s.answer(VerbEnable, Answer{Done: true})
	if s.attach(e.Run); s.has(VerbRestart) && s.runs() {
		s.restart() // it may have been there before that was requested
	}
}

// restarted: the current generation is a new one. One that is drained at once is
// followed by yet another.
func (s *step) restarted() {
	if !s.asked {
		s.answer(VerbRestart, Answer{Done: true})
	}
}

// restart replaces the generation that runs.
func (s *step) restart() {
	switch {
	case s.heir != 0: // what is under way will do
	case s.Run.Backend && s.Run.Ready:
		s.heir = s.Run.Number
		if s.Policy.ReadyWithin > 0 {
			s.heirBy = s.at + s.Policy.ReadyWithin
		}
		s.do(Succeed{s.Run.Number})
	default:
		s.drain()
	}
}

// stranded binds anew.
func (s *step) stranded() {
	switch {
	case s.State == Following: // a client's, which may end as it likes
		s.clear()
	case s.Listener && s.State != Launching:
		s.strand()
		s.drop(Release{})
	default:
		return
	}
	s.bind()
}

// strand lets the current generation go: no client can reach it any more. A backend
// sees that itself, a foreign daemon does not.
func (s *step) strand() {
	if s.Run.Number == 0 {
		return
	}
	s.do(Note{NoteStranded, s.Run.Number, ""})
	s.stopNext = false
	if s.State != Draining && s.State != Killing {
		s.do(Drain{s.Run.Number})
	}
	s.depose()
}

// attach makes run the current generation.
func (s *step) attach(run Run) {
	s.Run, s.since, s.watchdog, s.reported, s.stopWithin = run, s.at, 0, 0, s.Policy.StopWithin
	s.asked, s.cause, s.waiting, s.due = false, "", false, false
	s.Reason, s.deadline = "", 0
	s.State = Following
	if s.Listener {
		s.State = Starting
		if s.Policy.ReadyWithin > 0 {
			s.deadline = s.at + s.Policy.ReadyWithin
		}
	}
	if s.stopNext {
		for i := range s.requests {
			if r := &s.requests[i]; r.verb == VerbStop && r.run == 0 {
				r.run = run.Number
			}
		}
	}
	switch {
	case s.stopNext, s.has(VerbDisable) && s.State != Following:
		s.stopNext = false
		s.drain() // launches that were requested after that stop are owed still
		return
	case s.has(VerbDisable):
		s.disable()
		return
	}
	s.answer(VerbLaunch, Answer{Done: true})
	if run.Ready {
		s.served()
	}
}

// served: the current generation is ready.
func (s *step) served() {
	saved := s.State == Capturing && s.cause == CauseUnready // in the last moment
	if s.State != Starting && s.State != Following && !saved {
		return
	}
	s.Run.Ready = true
	if s.State != Following {
		s.State, s.deadline, s.cause, s.since = Ready, 0, "", s.at
		s.feed()
	}
	if saved {
		s.resume()
	}
	if s.runs() {
		s.answer(VerbReady, Answer{Done: true})
	}
}

// resume does what was requested while nobody knew what would become of the current
// generation.
func (s *step) resume() {
	switch {
	case s.stopNext, s.has(VerbDisable) && s.State != Following:
		s.stopNext = false
		s.drain()
	case s.has(VerbDisable):
		s.disable()
	case s.has(VerbRestart) && s.cause != "": // who hangs hands nothing over
		s.drain()
	case s.has(VerbRestart):
		s.restart()
	}
	if s.runs() {
		s.answer(VerbLaunch, Answer{Done: true})
	}
}

// feed: the watchdog is content for its interval.
func (s *step) feed() {
	if s.State == Ready && s.every > 0 {
		s.watchdog = s.at + s.every
	}
}

func (s *step) extended(e Extended) {
	if e.By <= 0 {
		return
	}
	until := s.at + min(e.By, MaxExtend)
	if s.is(e.Number) && (s.State == Starting || s.State == Draining) && s.deadline != 0 {
		s.deadline = max(s.deadline, until)
	}
	for i := range s.leaving {
		if l := &s.leaving[i]; l.number == e.Number && l.by != 0 && !l.killed {
			l.by = max(l.by, until)
		}
	}
}

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

func (s *step) spentReason() string {
	reason := strconv.Itoa(BudgetFailures) + " launches failed within " + BudgetWindow.String()
	if s.failure != "" {
		reason += ", the last one: " + s.failure
	}
	return reason
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

// refuse answers for the dead until retry.
func (s *step) refuse(reason string, retry time.Duration) {
	if s.has(VerbDisable) {
		s.disable()
		return
	}
	s.do(Note{NoteRefused, 0, reason})
	s.drop(Refuse{reason, retry})
	s.stopNext = false
	s.State, s.Reason, s.deadline = Refusing, reason, retry
	s.due = s.Policy.Restart != RestartOnDemand
	s.answerAll(Answer{Reason: reason, Retry: retry}, VerbEnable, VerbLaunch, VerbReady, VerbRestart)
}

// drain asks the current generation to end.
func (s *step) drain() {
	if !s.asked {
		s.do(Drain{s.Run.Number})
	}
	if !s.asked && s.heir == s.Run.Number {
		s.cancel()
	}
	s.asked = true
	if s.State != Draining {
		s.State, s.deadline, s.cause = Draining, s.at+s.stopWithin+stopGrace, ""
	}
	s.watchdog = 0
}

// cancel ends the attempt to launch a successor.
func (s *step) cancel() {
	s.do(CancelSuccessor{s.heir})
	s.heirBy = 0
}

// suspect: the current generation hangs.
func (s *step) suspect(cause Cause) {
	report := cause != CauseUnready && s.Policy.OnHang == definition.HangReport
	if report && s.State == Ready && s.every > 0 {
		s.watchdog = s.at + max(s.every, reportEvery)
	}
	if report && s.reported != 0 && s.at < s.reported+reportEvery {
		return
	}
	s.do(Note{NoteHung, s.Run.Number, string(cause)})
	s.do(Capture{s.Run.Number, cause})
	if report {
		s.reported = max(s.at, 1)
		return
	}
	s.State, s.cause, s.deadline, s.watchdog = Capturing, cause, s.at+captureWithin, 0
}

func (s *step) captured(debugged bool) {
	if !debugged {
		s.kill(s.cause)
		return
	}
	// It is left as it is, and looked at again later.
	s.reported, s.deadline = max(s.at, 1), 0
	switch {
	case !s.Listener:
		s.State = Following
	case !s.Run.Ready:
		s.State = Starting
		if s.Policy.ReadyWithin > 0 {
			s.deadline = max(s.at+reportEvery, s.since+s.Policy.ReadyWithin)
		}
	default:
		s.State = Ready
		if s.every > 0 {
			s.watchdog = s.at + max(s.every, reportEvery)
		}
	}
	s.resume()
	s.cause = ""
	if s.runs() && s.Run.Ready {
		s.answer(VerbReady, Answer{Done: true})
	}
}

func (s *step) kill(cause Cause) {
	s.do(Kill{s.Run.Number, cause})
	s.State, s.cause, s.deadline, s.watchdog = Killing, cause, s.at+killWithin, 0
}

// stuck: it waits in the kernel and takes no signal yet. It accepts nobody either,
// so the next one is launched beside it.
func (s *step) stuck() {
	reason := stuckReason(s.Run.Number)
	s.do(Note{NoteStuck, s.Run.Number, reason})
	if !s.room() {
		// Its end is all that is waited for, and then what we want ourselves.
		own := s.own & (1 << VerbDisable)
		s.drop(Refuse{reason, s.at + BudgetWindow})
		s.answerAll(Answer{Reason: reason}, VerbEnable, VerbLaunch, VerbReady, VerbRestart, VerbStop, VerbDisable)
		s.own = own
		return
	}
	wants, heir := s.account(EndKilled, s.asked || s.stopNext, false, reason), s.heir == s.Run.Number
	s.depose()
	s.follow(heir, false, wants)
}

// doomed reports whether it is stuck, and nothing can be launched beside it.
func (s *step) doomed() bool { return s.State == Killing && s.deadline == 0 }

func stuckReason(number uint64) string {
	return "generation " + strconv.FormatUint(number, 10) + " was killed, and the kernel has not ended it"
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

// succeeded: a successor has the listener of a generation.
func (s *step) succeeded(e Succeeded) {
	if e.Run.Number == 0 || e.Number == 0 || s.is(e.Run.Number) {
		return
	}
	e.Run.Backend = true // who takes over implements the contract
	ours := e.Number == s.heir
	if ours {
		s.heir, s.heirBy = 0, 0
	}
	switch {
	case s.is(e.Number):
		s.depose()
	case ours && s.State == Succeeding:
	case ours:
		// The old one was stranded, or the service disabled: it came too late.
		s.do(Drain{e.Run.Number})
		s.leave(leaving{number: e.Run.Number, by: s.at + s.Policy.StopWithin + stopGrace})
		if s.has(VerbRestart) && s.runs() {
			s.restart()
		}
		return
	default:
		return
	}
	s.every = s.Policy.Watchdog
	s.attach(e.Run)
	s.restarted()
}

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

// disable lets go of everything. Generations that drain have their time still.
func (s *step) disable() {
	s.drop(Release{})
	s.clear()
	s.State, s.due, s.stopNext = Disabled, false, false
	s.good() // but what it has spent of the budget it has spent
}

func (s *step) changed(e Changed) {
	s.Policy = e.Policy
	if s.State == Starting {
		if s.deadline = 0; e.Policy.ReadyWithin > 0 {
			s.deadline = s.since + e.Policy.ReadyWithin
		}
	}
	if e.Launch {
		s.forget()
	}
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

func (s *step) depart() {
	for v := range numVerbs {
		s.answer(v, Answer{Reason: departed})
	}
	s.drop(HandOn{})
	s.State, s.Run, s.deadline, s.watchdog, s.heirBy = Ended, Run{}, 0, 0, 0
	s.heir, s.leaving = 0, [MaxLeaving]leaving{}
}
