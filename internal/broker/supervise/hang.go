package supervise

import (
	"strconv"

	"github.com/fastbind/fastbind/internal/definition"
)

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
