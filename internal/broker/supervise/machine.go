package supervise

import (
	"strconv"
	"time"
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
			due := s.due
			s.bad()
			s.refuse(e.Reason, s.at+s.Policy.Backoff(int(s.streak), s.jitter))
			s.due = due && s.State == Refusing // and not more: it may never have been used
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

func (s *step) depart() {
	for v := range numVerbs {
		s.answer(v, Answer{Reason: departed})
	}
	s.drop(HandOn{})
	s.State, s.Run, s.deadline, s.watchdog, s.heirBy = Ended, Run{}, 0, 0, 0
	s.heir, s.leaving = 0, [MaxLeaving]leaving{}
}
