//go:build unix || windows

package launch

import (
	"errors"
	"time"

	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/version"
)

// A succession is what a successor's record says of how it came to be.
type succession struct{ history []record.Replacement }

// succeed looks, under the launch lock, whether there is a generation to succeed
// and nobody has begun to.
func (s *system) succeed() Outcome {
	entries, err := Generations(s.place.Dir)
	if err != nil {
		return s.fault(StagePrepare, err)
	}
	old, ok := Current(s.place.Dir, entries)
	if !ok || !old.Alive || !old.Record.Backend || old.Record.Phase == record.Draining {
		return Absent
	}
	for _, e := range entries {
		if e.Alive && e.Record.Succeeds == old.Name && e.Name != old.Name && !e.Record.Phase.Final() {
			if !unadopted(e) {
				return InUse
			}
			s.endOrphan(e)
		}
	}
	want := s.b.build()
	if !s.b.force {
		if action, _ := s.b.judge(s.place.Dir); action == version.Use {
			return InUse // somebody was faster
		}
	}
	now := proc.BootTime()
	history := recent(old.Record.Replacements, now)
	next := record.Replacement{At: now, From: buildName(buildOf(old.Record)), To: buildName(want)}
	if !s.b.force {
		if flap, ok := version.Flapping(replacements(append(history, next)), now); ok {
			f := s.b.fault(Refusal, StagePolicy, errors.New("two builds keep replacing each other: "+flap.From+" and "+flap.To))
			f.RetryAt = time.Now().Add(flap.Until - now)
			f.Cure = "use one of them, or on_version = \"coexist\""
			return s.refuse(f)
		}
	}
	s.old = &old
	s.wanted = succession{history: append(history, next)}
	return OK
}
