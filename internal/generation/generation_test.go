package generation

import (
	"testing"
	"time"
)

// TestTenure visits every tenure that can be, and what may be said of each.
func TestTenure(t *testing.T) {
	seen := map[Tenure]bool{}
	todo := []Tenure{{}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true

		b, err := s.Begin()
		if want := s.Bound && !s.Ending && s.Heir == NoHeir; (err == nil) != want || err != nil && b != s {
			t.Errorf("%+v takes an heir: %v", s, err)
		}
		o, pause := s.Order()
		if want := !s.Refusing && (s.Heir == HeirLoads || s.Heir == HeirOrdered); pause != want || !pause && o != s {
			t.Errorf("%+v pauses: %v", s, pause)
		}
		for _, owner := range []bool{false, true} {
			l, parting := s.Lose(owner)
			want := PartNothing
			switch {
			case s.Refusing:
			case s.Heir == HeirLoads: // it has ordered nothing, whoever is the owner
				want = PartAlone
			case s.Heir == HeirOrdered && owner:
				want = PartResume
			case s.Heir == HeirOrdered:
				want = PartHandOn
			}
			if parting != want || (l.Heir == HeirTook) != (want == PartHandOn || s.Heir == HeirTook && !s.Refusing) {
				t.Errorf("%+v, owner %v: %d, %+v", s, owner, parting, l)
			}
			todo = append(todo, l)
		}
		for _, r := range []Reason{EndAsked, EndItself, EndStranded} {
			e, ends := s.End(r)
			if want := r != EndItself || s.Heir == NoHeir || s.Heir == HeirTook; ends != want || ends && !e.Ending || !ends && e != s {
				t.Errorf("%+v ends for %d: %v", s, r, ends)
			}
			todo = append(todo, e)
		}
		h, err := s.TakeHold()
		if want := s.Bound && !s.Ending && s.Hold != Held && s.Heir != HeirOrdered && s.Heir != HeirTook; (err == nil) != want || err != nil && h != s || err == nil && h.Hold != Held {
			t.Errorf("%+v takes a hold: %+v, %v", s, h, err)
		}
		for _, was := range []Hold{Promised, Held} {
			l := s.LoseHold(was)
			if lost := s.Hold == was && !s.Ending; (l.Hold == NotHeld) != (lost || s.Hold == NotHeld) {
				t.Errorf("%+v loses the hold %d: %+v", s, was, l)
			}
			todo = append(todo, l)
		}
		if !s.Bound && s.Hold == NotHeld {
			p := s
			p.Hold = Promised
			todo = append(todo, p)
		}
		now, soon := s.Drain(false)
		then, late := s.Drain(true)
		if now.Refusing != (s.Refusing || soon == DrainRefuse) || then.Refusing != (s.Refusing || late == DrainRefuse) {
			t.Errorf("%+v drains to %+v, %+v", s, now, then)
		}
		if s.Ending {
			todo = append(todo, now, then)
		}
		switch {
		case late == DrainAwait:
			t.Errorf("%+v waits for ever", s)
		case s.Heir == NoHeir && s.Hold != NotHeld && !s.Stranded && soon != DrainHandOn:
			t.Errorf("%+v drains what a broker holds: %d", s, soon)
		case s.Heir == NoHeir && (s.Hold == NotHeld || s.Stranded) && soon != DrainRefuse, s.Heir == HeirTook && soon != DrainHandOn:
			t.Errorf("%+v drains: %d", s, soon)
		case !s.Stranded && s.Heir != NoHeir && (soon == DrainRefuse || late == DrainRefuse):
			t.Errorf("%+v shuts a listener that its heir has", s)
		case s.Stranded && s.Heir == HeirLoads && soon != DrainRefuse:
			t.Errorf("%+v leaves its queue to an heir that nobody can reach", s)
		}
		bound, loaded := s, s
		bound.Bound, loaded.Loaded = true, s.Bound
		todo = append(todo, bound, loaded, b, o, h)
	}
	if len(seen) < 30 {
		t.Errorf("%d tenures are too few to show anything", len(seen))
	}
}

// TestGate: what Accept does after what was done to the gate.
func TestGate(t *testing.T) {
	for name, c := range map[string]struct {
		gate Gate
		want Entry
	}{
		"open":                    {Gate{}, AcceptNext},
		"paused":                  {Gate{}.Pause(), AcceptWait},
		"paused and resumed":      {Gate{}.Pause().Resume(), AcceptNext},
		"handed on":               {Gate{}.Pause().HandOn(), AcceptEnd},
		"handed on, then paused":  {Gate{}.HandOn().Pause(), AcceptEnd},
		"handed on, then resumed": {Gate{}.HandOn().Resume(), AcceptEnd},
		"draining":                {Gate{}.Drain(), AcceptQueued},
		"draining while paused":   {Gate{}.Pause().Drain(), AcceptQueued},
		"closed while paused":     {Gate{}.Pause().Close(), AcceptNext}, // the kernel says that it is closed
		"closed, then paused":     {Gate{}.Close().Pause(), AcceptNext},
	} {
		if got := c.gate.Accept(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestNeed(t *testing.T) {
	const at = time.Hour
	for name, c := range map[string]struct {
		need Need
		at   time.Duration
		why  string
	}{
		"never":                  {Need{Since: at}, 0, ""},
		"nobody came yet":        {Need{IdleExit: time.Millisecond, Since: at}, at + FirstGrace, EndedIdle},
		"nobody any more":        {Need{IdleExit: time.Millisecond, Used: true, Since: at}, at + time.Millisecond, EndedIdle},
		"a connection":           {Need{IdleExit: 1, Used: true, Holds: 1}, 0, ""},
		"a successor":            {Need{IdleExit: 1, Used: true, Heirs: 1}, 0, ""},
		"a lease":                {Need{IdleExit: 1, Used: true, Leases: 1, Leased: true}, 0, ""},
		"its last lease gone":    {Need{Holds: 1, Leased: true, LastEnd: at}, at + LeaseGrace, EndedLeases},
		"that, and a successor":  {Need{Leased: true, LastEnd: at, Heirs: 1}, 0, ""},
		"that, and no idle exit": {Need{Leased: true, LastEnd: at, Used: true}, at + LeaseGrace, EndedLeases},
	} {
		if got, why := c.need.Due(); got != c.at || why != c.why {
			t.Errorf("%s: %v, %q", name, got, why)
		}
	}
}
