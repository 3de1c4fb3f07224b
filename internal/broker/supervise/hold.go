package supervise

import (
	"time"
)

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
	s.answer(VerbEnable, Answer{Done: true}) // but who was refused by a launch
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

// stranded binds anew.
func (s *step) stranded() {
	switch {
	case s.State == Following: // a client's, which may end as it likes
		s.clear()
	case s.Listener:
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

// disable lets go of everything. Generations that drain have their time still.
func (s *step) disable() {
	s.drop(Release{})
	s.clear()
	s.State, s.due, s.stopNext = Disabled, false, false
	s.good() // but what it has spent of the budget it has spent
}

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
