package explore

import (
	"math/rand/v2"
)

// Bounds of a random walk.
const (
	walkSteps = 400   // with disturbances
	restSteps = 20000 // without, until all is quiet: by chance, so there must be plenty
)

// Walk makes n random walks through what a search would visit, for configurations
// that are too large to be searched: it sees less of them, and deeper. A walk ends
// with progress alone, at random, until all is quiet. The seed reproduces it. States
// of the report are those walked through, some of them often.
func Walk(c Config, seed uint64, n int) Report {
	r := realRules()
	r.fused = false
	return walk(c, r, seed, n)
}

func walk(c Config, r *rules, seed uint64, n int) Report {
	x := newExplorer(c, r)
	report := Report{Seen: x.seen}
	random := rand.New(rand.NewPCG(seed, 0))
	for range n {
		firsts := x.first()
		s := firsts[random.IntN(len(firsts))]
		var told []string
		for i := 0; i < walkSteps+restSteps; i++ {
			disturbed := i < walkSteps
			// One of the transitions, each with the same chance but the faults, of
			// which there are more than of all others.
			var chosen *world
			var how label
			total := 0
			x.emit = func(l label, k kind, w *world) {
				weight := 8
				switch {
				case k == fault && disturbed:
					weight = 1
				case k != progress && !disturbed:
					return
				}
				if total += weight; random.IntN(total) < weight {
					chosen, how = w, l
				}
			}
			x.expand(&s)
			if chosen == nil {
				break
			}
			told = append(told, how.String())
			report.States++
			report.Depth = max(report.Depth, len(told))
			if chosen.invariant != "" {
				report.Outcome, report.Trace = Outcome{chosen.invariant, chosen.broken}, told
				return report
			}
			chosen.canon(false)
			s = *chosen.state
			if !disturbed && s.isQuiet() {
				break
			}
		}
		if !s.isQuiet() {
			report.Outcome, report.Trace = stuck, told
			return report
		}
	}
	return report
}
