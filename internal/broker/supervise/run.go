package supervise

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

// is reports whether number is of the current generation.
func (s *step) is(number uint64) bool { return number != 0 && number == s.Run.Number }

// runs reports whether the current generation accepts, or will when it has loaded.
func (s *step) runs() bool { return s.State == Starting || s.State == Ready || s.State == Following }
