package supervise

// Why requests are refused.
const (
	notEnabled  = "the service is not enabled"
	notRunning  = "not running"
	tooMany     = "too many requests wait for this service already"
	nowStopped  = "a stop was requested meanwhile"
	nowDisabled = "the service is being disabled"
	departed    = "the broker ends; ask again"
	nowEnabled  = "the service was enabled again meanwhile"
)

// has reports whether a request of the verb waits.
func (s *step) has(v Verb) bool {
	if s.own&(1<<v) != 0 {
		return true
	}
	for _, r := range s.requests {
		if r.id != 0 && r.verb == v {
			return true
		}
	}
	return false
}

// wanted reports whether a request waits for a launch.
func (s *step) wanted() bool { return s.has(VerbLaunch) || s.has(VerbReady) || s.has(VerbRestart) }

// answer answers all requests of the verb that wait.
func (s *step) answer(v Verb, a Answer) {
	s.own &^= 1 << v
	for i := range s.requests {
		if r := &s.requests[i]; r.id != 0 && r.verb == v {
			a.ID = r.id
			s.do(a)
			*r = request{}
		}
	}
}

func (s *step) answerAll(a Answer, verbs ...Verb) {
	for _, v := range verbs {
		s.answer(v, a)
	}
}

// keep lets a request wait, and reports whether it does.
func (s *step) keep(e Requested) bool {
	if e.ID == 0 {
		s.own |= 1 << e.Verb
		return true
	}
	for i := range s.requests {
		if s.requests[i].id == 0 {
			s.requests[i] = request{e.ID, e.Verb, s.target()}
			return true
		}
	}
	s.do(Answer{ID: e.ID, Reason: tooMany})
	return false
}

// target is who a stop that comes now is to end, beside all that are leaving: 0
// if that is not known yet, or there is nobody.
func (s *step) target() uint64 {
	if s.Run.Number != 0 || s.awaiting() {
		return s.Run.Number
	}
	for _, l := range s.leaving {
		if l.number != 0 {
			return l.number
		}
	}
	return 0
}

// awaiting reports whether it will turn out who runs.
func (s *step) awaiting() bool {
	return s.State == Binding || s.State == Launching || s.State == Succeeding
}

// withdraw makes a request the broker's own. Nobody is told when a daemon is ready, or
// has ended, and a service that is bound says nothing.
func (s *step) withdraw(id uint64) {
	for i := range s.requests {
		r := &s.requests[i]
		if id == 0 || r.id != id {
			continue
		}
		switch r.verb {
		case VerbDisable, VerbLaunch, VerbRestart:
			s.own |= 1 << r.verb
		}
		*r = request{}
	}
}

// reply answers a request that need not wait.
func (s *step) reply(e Requested, a Answer) {
	if a.ID = e.ID; a.ID != 0 {
		s.do(a)
	}
}

func (s *step) requested(e Requested) {
	if s.doomed() && e.Verb != VerbReset && (e.ID != 0 || e.Verb != VerbDisable) {
		s.reply(e, Answer{Reason: stuckReason(s.Run.Number)})
		return
	}
	switch e.Verb {
	case VerbEnable:
		s.answer(VerbDisable, Answer{Reason: nowEnabled})
		switch {
		case s.State == Refusing:
			s.reply(e, Answer{Reason: s.Reason, Retry: s.deadline})
		case s.State != Disabled && s.State != Binding:
			s.reply(e, Answer{Done: true})
		case !s.keep(e):
		case s.State == Disabled:
			s.bind()
		}
	case VerbDisable:
		if s.keep(e) {
			s.answerAll(Answer{Reason: nowDisabled}, VerbEnable, VerbLaunch, VerbReady, VerbRestart)
			s.end(false)
		}
	case VerbStop:
		if e.ID == 0 || s.keep(e) {
			s.answerAll(Answer{Reason: nowStopped}, VerbLaunch, VerbReady, VerbRestart)
			s.end(true)
		}
	case VerbReset:
		s.forget()
		s.reply(e, Answer{Done: true})
	case VerbLaunch, VerbReady, VerbRestart:
		s.requestedLaunch(e)
	default:
		s.reply(e, Answer{Reason: "there is no such request"})
	}
}

// end does at once what a stop, or a disable, asks for. When that is done, answerEnds
// says.
func (s *step) end(stop bool) {
	s.due = false
	switch s.State {
	case Starting, Ready, Draining:
		s.drain()
	case Following:
		// Whom somebody else has launched ends on request. It does not need us.
		if stop {
			s.drain()
			return
		}
		if s.heir == s.Run.Number {
			s.cancel()
		}
		s.disable()
	case Capturing, Killing:
		if s.stopNext = s.stopNext || stop; s.heir == s.Run.Number {
			s.cancel()
		}
	case Binding, Launching:
		s.stopNext = s.stopNext || stop
	case Succeeding:
		s.stopNext = s.stopNext || stop
		s.cancel()
	case Backoff:
		switch {
		case !stop:
			s.disable()
		case !s.waiting:
			s.hold()
		}
	case Held, Refusing:
		if !stop {
			s.disable()
		}
	}
}

func (s *step) requestedLaunch(e Requested) {
	switch {
	case s.State == Disabled:
		s.reply(e, Answer{Reason: notEnabled})
		return
	case s.has(VerbDisable):
		s.reply(e, Answer{Reason: nowDisabled})
		return
	case s.State == Refusing && s.spent() != 0:
		s.reply(e, Answer{Reason: s.Reason, Retry: s.deadline})
		return
	case s.runs() && (e.Verb == VerbLaunch || e.Verb == VerbReady && s.Run.Ready):
		s.reply(e, Answer{Done: true})
		return
	case !s.keep(e):
		return
	}
	switch {
	case s.State == Held, s.State == Backoff:
		s.launch(ForRequest)
	case s.State == Refusing:
		s.bind()
	case s.State == Draining && s.beside() && s.Listener:
		s.account(EndClean, s.asked, false, leftUnready)
		s.depose()
		s.rest(false, false)
	case e.Verb == VerbRestart && s.runs():
		s.restart()
	}
}

// answerEnds answers the stops and disables that are done, or cannot be.
func (s *step) answerEnds() {
	left, stuck := 0, uint64(0)
	for _, l := range s.leaving {
		switch {
		case l.stuck:
			stuck = l.number
		case l.number != 0:
			left++
		}
	}
	if left > 0 {
		return
	}
	done := Answer{Done: true}
	if stuck != 0 {
		done = Answer{Reason: stuckReason(stuck)}
	}
	if s.State == Disabled {
		s.answer(VerbDisable, done)
	}
	for i := range s.requests {
		r := &s.requests[i]
		if r.id == 0 || r.verb != VerbStop || r.run == 0 && s.awaiting() || r.run != 0 && r.run == s.Run.Number {
			continue
		}
		a := done
		if r.run == 0 && stuck == 0 {
			a = Answer{Reason: notRunning}
		}
		a.ID = r.id
		s.do(a)
		*r = request{}
	}
}
