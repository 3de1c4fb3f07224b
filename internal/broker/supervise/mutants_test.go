package supervise

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A mutant is the machine with one mistake in it. caught is part of what the model
// says of it.
type mutant struct {
	name   string
	caught []string
	next   next
}

// before changes the machine before each event, after what comes of it.
func before(change func(m *Machine, now *Moment, e *Event)) next {
	return func(m Machine, now Moment, e Event) (Machine, []Effect) {
		change(&m, &now, &e)
		return m.Next(now, e)
	}
}

func after(change func(was Machine, m *Machine, effects []Effect, e Event) []Effect) next {
	return func(m Machine, now Moment, e Event) (Machine, []Effect) {
		n, effects := m.Next(now, e)
		return n, change(m, &n, effects, e)
	}
}

// drops leaves out effects.
func drops(which func(was, m Machine, effect Effect, e Event) bool) next {
	return after(func(was Machine, m *Machine, effects []Effect, e Event) []Effect {
		return slices.DeleteFunc(effects, func(effect Effect) bool { return which(was, *m, effect, e) })
	})
}

func isA[T any](v any) bool { _, ok := v.(T); return ok }

const (
	lostWakeUp  = "nothing will ever happen"
	twice       = "generations accept at one listener"
	overBudget  = "starts failed within 30 s"
	busyLoop    = "launches after bad ends"
	noEvidence  = "killed without evidence"
	noSuchFault = "which is not so"
)

var mutants = []mutant{
	{"say that a refused service is held", []string{"as done, which it is not"}, after(func(was Machine, _ *Machine, effects []Effect, e Event) []Effect {
		if r, ok := e.(Requested); ok && r.Verb == VerbEnable && was.State == Refusing {
			for i, effect := range effects {
				if a, ok := effect.(Answer); ok && a.ID == r.ID {
					effects[i] = Answer{ID: a.ID, Done: true}
				}
			}
		}
		return effects
	})},
	{"do not watch after an end", []string{lostWakeUp}, drops(func(_, _ Machine, effect Effect, e Event) bool {
		return isA[Exited](e) && effect == Effect(Watch{true})
	})},
	{"watch although somebody accepts", []string{"watching although"}, after(func(_ Machine, m *Machine, effects []Effect, e Event) []Effect {
		if isA[Launched](e) && m.State == Starting {
			effects = append(effects, Watch{true})
		}
		return effects
	})},
	{"launch the next beside a foreign daemon that drains", []string{"not gone"}, before(func(m *Machine, _ *Moment, _ *Event) {
		m.Run.Backend = m.Run.Backend || m.State == Draining
	})},
	{"launch the next beside a successor", []string{"a successor has the listener", twice}, before(func(m *Machine, _ *Moment, e *Event) {
		if isA[Exited](*e) {
			m.heir = 0
		}
	})},
	{"do not count starts that failed", []string{overBudget}, before(func(m *Machine, _ *Moment, _ *Event) {
		m.failures = [BudgetFailures]time.Duration{}
	})},
	{"forget the budget where the service is disabled", []string{overBudget}, before(func(m *Machine, _ *Moment, _ *Event) {
		if m.State == Disabled {
			m.failures = [BudgetFailures]time.Duration{}
		}
	})},
	{"let each client cut the backoff short", []string{busyLoop}, before(func(m *Machine, _ *Moment, _ *Event) {
		m.streak, m.notUntil = 0, 0
	})},
	{"do not set the timer of a backoff", []string{lostWakeUp}, after(func(_ Machine, m *Machine, effects []Effect, _ Event) []Effect {
		if m.State == Backoff {
			effects = slices.DeleteFunc(effects, isTimer)
		}
		return effects
	})},
	{"take an early timer for the last", []string{lostWakeUp, stalled}, drops(func(_, m Machine, effect Effect, e Event) bool {
		return isA[Timer](e) && isA[SetTimer](effect) && m.State != Launching
	})},
	{"kill without evidence", []string{noEvidence}, after(func(_ Machine, _ *Machine, effects []Effect, _ Event) []Effect {
		for i, effect := range effects {
			if c, ok := effect.(Capture); ok {
				effects[i] = Kill(c)
			}
		}
		return effects
	})},
	{"take a busy daemon for a hung one", []string{noSuchFault}, before(func(_ *Machine, _ *Moment, e *Event) {
		if u, ok := (*e).(Unaccepted); ok {
			u.Answers = false
			*e = u
		}
	})},
	{"take one that loads for a hung one", []string{noSuchFault}, before(func(m *Machine, now *Moment, e *Event) {
		if isA[Timer](*e) && m.State == Starting {
			now.At += m.Policy.ReadyWithin + 1
			*e = Despaired{m.Run.Number}
		}
	})},
	{"kill at once what was asked to end", []string{"before its time to drain"}, after(func(_ Machine, _ *Machine, effects []Effect, _ Event) []Effect {
		for _, effect := range effects {
			if d, ok := effect.(Drain); ok {
				effects = append(effects, Kill{d.Number, CauseStop})
			}
		}
		return effects
	})},
	{"shut the listener of one that is late", []string{"that somebody serves"}, after(func(_ Machine, m *Machine, effects []Effect, e Event) []Effect {
		if isA[Timer](e) && m.State == Capturing && m.Listener {
			m.Listener = false
			effects = append(effects, Refuse{"late", epoch * 100})
		}
		return effects
	})},
	{"refuse for ever", []string{stalled}, after(func(_ Machine, m *Machine, effects []Effect, _ Event) []Effect {
		if m.State == Refusing {
			m.deadline, m.timer = 0, 0
			effects = slices.DeleteFunc(effects, isTimer)
		}
		return effects
	})},
	{"answer a stop when it begins", []string{"which it is not"}, after(func(_ Machine, m *Machine, effects []Effect, _ Event) []Effect {
		for i := range m.requests {
			if r := &m.requests[i]; r.id != 0 && r.verb == VerbStop && m.State == Draining {
				effects = append(effects, Answer{ID: r.id, Done: true})
				*r = request{}
			}
		}
		return effects
	})},
	{"answer twice", []string{"a second one"}, after(func(_ Machine, _ *Machine, effects []Effect, e Event) []Effect {
		for _, effect := range effects {
			if a, ok := effect.(Answer); ok && isA[Exited](e) {
				effects = append(effects, a)
			}
		}
		return effects
	})},
	{"forget requests where somebody else has bound", []string{stalled, "never answered"}, before(func(m *Machine, _ *Moment, e *Event) {
		if isA[Adopted](*e) {
			m.requests = [MaxRequests]request{}
		}
	})},
	{"restart what was asked to end", []string{"says on demand"}, after(func(was Machine, m *Machine, effects []Effect, e Event) []Effect {
		if isA[Exited](e) && was.asked && m.State == Held {
			m.State = Launching
			effects = append(slices.DeleteFunc(effects, isWatch), Launch{ForPolicy})
		}
		return effects
	})},
	{"keep the listener that no name leads to", []string{"thinks that it has", "with a listener", "which it is not"}, drops(func(_, _ Machine, effect Effect, _ Event) bool {
		return isA[Release](effect)
	})},
}

func isTimer(e Effect) bool { return isA[SetTimer](e) }
func isWatch(e Effect) bool { return isA[Watch](e) }

// TestMutants: the model catches each mistake, by what it breaks.
func TestMutants(t *testing.T) {
	spoilt(t)
	const walks = 20_000
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			for i := range walks {
				trace, broken := walk(m.next, func(_ string, n int) int { return r.IntN(n) })
				if broken == "" {
					continue
				}
				t.Logf("in walk %d, %d steps: %s", i+1, len(trace), broken)
				if !slices.ContainsFunc(m.caught, func(s string) bool { return strings.Contains(broken, s) }) {
					t.Errorf("caught by that, want one of %q:\n  %s", m.caught, strings.Join(trace, "\n  "))
				}
				return
			}
			t.Errorf("not caught in %d walks", walks)
		})
	}
}
