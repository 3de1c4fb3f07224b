package explore

import (
	"testing"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// A mutant is the protocol with one mistake in it: one actor decides, or does, one
// thing wrong.
type mutant struct {
	name      string
	invariant string // that catches it
	config    Config // the least that shows it
	mutate    func(*rules)
}

// answers replaces the outcome that the launch machine hears of a step.
func answers(r *rules, heard func(launch.Machine, launch.Outcome) launch.Outcome) {
	next := r.next
	r.next = func(m launch.Machine, o launch.Outcome) launch.Machine { return next(m, heard(m, o)) }
}

// does replaces the effect of a launch step.
func does(r *rules, step launch.Step, effect func(w *world, p int) launch.Outcome) {
	was := r.step
	r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
		if s == step {
			return effect(w, p), true
		}
		return was(w, p, s)
	}
}

// takes replaces the effect of a takeover's step.
func takes(r *rules, step launch.TakeStep, effect func(w *world, g id) launch.Outcome) {
	was := r.takeStep
	r.takeStep = func(w *world, g id, s launch.TakeStep) launch.Outcome {
		if s == step {
			return effect(w, g)
		}
		return was(w, g, s)
	}
}

var (
	one     = Config{Clients: 1, NoUpgrade: true, Backlog: 1}
	two     = Config{Clients: 2, NoUpgrade: true, Backlog: 1}
	upgrade = Config{Clients: 1, Warm: true, Backlog: 1}
)

func (c Config) with(f func(*Config)) Config {
	f(&c)
	return c
}

func kill(c *Config)    { c.Kills = 1 }
func meddler(c *Config) { c.Deletions = 1 }
func faulty(c *Config)  { c.Failures = 1 }
func idle(c *Config)    { c.Idles, c.Warm = 1, true }
func splits(c *Config)  { c.Split = true }
func strays(c *Config)  { c.Strays = 1 }
func brokers(c *Config) { c.Brokers = 1 }
func another(c *Config) { c.Brokers = 2 }

var mutants = []mutant{
	{"launch without the lock", "I1", two, func(r *rules) {
		does(r, launch.StepLock, func(w *world, p int) launch.Outcome {
			w.mkdir()
			w.procs[p].dir = w.path
			return launch.OK
		})
	}},
	{"unlink before the lock is held", "I1", two, func(r *rules) {
		// What most tools do: a refused or missing name is cleaned up at once.
		was := r.step
		r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
			if s == launch.StepLock {
				w.removeName(w.path, &w.at().sock)
				w.removeName(w.path, &w.at().keep)
			}
			return was(w, p, s)
		}
	}},
	{"skip the second connect", "I1", two.with(meddler), func(r *rules) {
		does(r, launch.StepReconnect, func(*world, int) launch.Outcome { return launch.Absent })
	}},
	{"do not ask at keep", "I1", two.with(meddler), func(r *rules) {
		does(r, launch.StepProbeKeep, func(*world, int) launch.Outcome { return launch.Absent })
	}},
	{"take a full queue for a dead daemon", "I1", two, func(r *rules) {
		answers(r, func(m launch.Machine, o launch.Outcome) launch.Outcome {
			if o == launch.Busy {
				return launch.Refused
			}
			return o
		})
	}},
	{"close the lock instead of unlocking it", "I4", two.with(strays), func(r *rules) {
		does(r, launch.StepUnlock, func(w *world, p int) launch.Outcome {
			d := w.procs[p].dir
			w.procs[p].dir = 0
			w.closeDir(d, uint8(p+1), false)
			w.release(p)
			return launch.OK
		})
	}},
	{"lock a file in the directory", "I1", two.with(meddler), func(r *rules) { r.lockFile = true }},
	{"believe in a lock on a directory that is not at the path any more", "I1", two.with(meddler), func(r *rules) {
		was := r.step
		r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
			locked := w.procs[p].dir
			if locked == 0 || w.path == 0 || s == launch.StepUnlock {
				return was(w, p, s)
			}
			w.procs[p].dir = w.path
			o, done := was(w, p, s)
			w.procs[p].dir = locked
			return o, done
		}
	}},
	{"unlock before the launch is on record", "I1", two.with(kill), func(r *rules) {
		// The lock is given back when the child runs; current is moved after.
		does(r, launch.StepCurrent, func(*world, int) launch.Outcome { return launch.OK })
		does(r, launch.StepUnlock, func(w *world, p int) launch.Outcome {
			g, d := w.procs[p].gen, w.procs[p].dir
			w.release(p)
			if g != 0 && d != 0 {
				w.dir(d).current = g
			}
			return launch.OK
		})
	}},
	{"write the verdict after the queue is closed", "I3", two.with(faulty), func(r *rules) {
		does(r, launch.StepAbandon, func(w *world, p int) launch.Outcome {
			w.procs[p].sock = 0
			w.settle() // whoever looks for the reason now finds none
			w.abandon(p)
			return launch.OK
		})
	}},
	{"unlink, then drain", "I3", two.with(idle).with(splits), func(r *rules) {
		r.end = func(w *world, g id, how generation.Drain) {
			if how != generation.DrainRefuse {
				end(w, g, how)
				return
			}
			o := &w.gens[g-1]
			for _, name := range []*id{&w.at().sock, &w.at().keep} {
				if *name == o.sock {
					*name = 0
				}
			}
			o.gate, o.life = o.gate.Drain(), draining
		}
	}},
	{"end without draining the queue", "I3", two.with(idle), func(r *rules) {
		r.end = func(w *world, g id, how generation.Drain) {
			end(w, g, how)
			w.gens[g-1].life = lingering
		}
	}},
	{"end without waiting for open connections", "I3", two.with(idle), func(r *rules) { r.impatient = true }},
	{"become idle although a successor has the listener", "I3", upgrade.with(idle).with(kill), func(r *rules) {
		r.ends = func(t generation.Tenure, _ generation.Reason) (generation.Tenure, bool) {
			return t.End(generation.EndAsked)
		}
	}},
	{"take over from an old one that does not pause", "I1", upgrade, func(r *rules) {
		r.order = func(t generation.Tenure) (generation.Tenure, bool) {
			t, _ = t.Order()
			return t, false
		}
	}},
	{"take over before the old one is told", "I1", upgrade, func(r *rules) {
		takes(r, launch.TakeOrder, func(*world, id) launch.Outcome { return launch.OK })
	}},
	{"do not accept again when the successor is gone", "I4", upgrade.with(kill), func(r *rules) {
		r.part = func(t generation.Tenure, owner bool) (generation.Tenure, generation.Parting) {
			t, p := t.Lose(owner)
			if p == generation.PartResume {
				p = generation.PartAlone
			}
			return t, p
		}
	}},
	{"accept again although the successor took over", "I1", upgrade, func(r *rules) {
		r.part = func(t generation.Tenure, _ bool) (generation.Tenure, generation.Parting) { return t.Lose(true) }
	}},
	{"take over without the launch lock", "I1", upgrade.with(meddler), func(r *rules) {
		r.ignoresLock = true
	}},
	{"move current in whatever directory is at the path", "I1", upgrade.with(meddler), func(r *rules) {
		takes(r, launch.TakeCurrent, func(w *world, g id) launch.Outcome {
			if w.path == 0 {
				return launch.Failed
			}
			w.at().current = g
			return launch.OK
		})
	}},
	{"give up a listener that no name leads to", "I3", upgrade.with(kill).with(meddler), func(r *rules) {
		r.take = func(t launch.Taking, o launch.Outcome) launch.Taking {
			if o == launch.Absent {
				o = launch.Failed
			}
			return t.Next(o)
		}
	}},
	{"leave a stranded queue to a successor that loads", "I3", upgrade.with(kill).with(meddler), func(r *rules) {
		r.drain = func(t generation.Tenure, late bool) (generation.Tenure, generation.Drain) {
			t.Stranded = false
			return t.Drain(late)
		}
	}},
	{"let the upgrader drive the takeover", "I4", upgrade.with(kill), func(r *rules) {
		r.upgraderDrives = true
		r.taken = func(w *world, g id) {
			taken(w, g)
			if w.procs[upgrader].status == running {
				w.end(upgrader, false)
			}
		}
	}},
	{"fail where somebody else has bound in a new directory", "I2", two.with(meddler), func(r *rules) {
		was := r.step
		r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
			o, done := was(w, p, s)
			if s == launch.StepBind && o == launch.Moved && w.path != 0 {
				o = launch.Failed
			}
			return o, done
		}
	}},
	{"think oneself the owner when current is deleted", "I1", upgrade.with(meddler), func(r *rules) {
		r.lose = func(w *world, g id) {
			for i := range w.gens {
				w.gens[i].tookOver = false
			}
			lose(w, g)
		}
	}},

	{"activate without the lock", "I1", two.with(brokers).with(meddler), func(r *rules) {
		was := r.step
		r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
			if s == launch.StepLock && p == broker && w.procs[p].m.Mode == launch.Activates {
				w.procs[p].dir = w.path
				return launch.OK, true
			}
			return was(w, p, s)
		}
	}},
	{"hold without the lock", "I1", one.with(brokers), func(r *rules) {
		was := r.step
		r.step = func(w *world, p int, s launch.Step) (launch.Outcome, bool) {
			if s == launch.StepLock && p == broker && w.procs[p].m.Mode == launch.Holds {
				w.mkdir()
				w.procs[p].dir = w.path
				return launch.OK, true
			}
			return was(w, p, s)
		}
	}},
	{"activate without a look who owns", "I1", two.with(brokers).with(meddler), func(r *rules) {
		does(r, launch.StepOwn, func(*world, int) launch.Outcome { return launch.OK })
	}},
	{"activate beside a successor that loads", "I1", upgrade.with(brokers).with(kill), func(r *rules) {
		r.server = func(s *state) id {
			if c := s.at().current; c != 0 && c != foreign && s.gens[c-1].alive() {
				return c
			}
			return 0
		}
	}},
	{"say who holds after listening", "R32", one.with(brokers), func(r *rules) {
		does(r, launch.StepListen, func(w *world, p int) launch.Outcome {
			w.socks[w.procs[p].sock-1].listening = true
			return launch.OK
		})
	}},
	{"shut a listener that a broker holds", "I3", one.with(idle).with(brokers), func(r *rules) {
		r.drain = func(t generation.Tenure, late bool) (generation.Tenure, generation.Drain) {
			t.Hold = generation.NotHeld
			return t.Drain(late)
		}
	}},
	{"leave the queue to a broker that is dead", "I3", one.with(idle).with(another).with(kill), func(r *rules) {
		r.heldStill = func(s *state, g id) generation.Tenure { return s.gens[g-1].tenure }
	}},
	{"take the queue back after it was left to the broker", "I1", one.with(idle).with(another).with(kill), func(r *rules) {
		r.loseHold = func(t generation.Tenure, was generation.Hold) generation.Tenure {
			if t.Hold == was {
				t.Hold = generation.NotHeld
			}
			return t
		}
	}},
	{"launch for a broker without saying so", "I1", one.with(idle).with(brokers), func(r *rules) {
		does(r, launch.StepPrepare, func(w *world, p int) launch.Outcome {
			if w.path == 0 {
				return launch.Moved
			}
			if w.prepare(p); p == broker {
				w.gens[w.procs[p].gen-1].tenure.Hold = generation.NotHeld
			}
			return launch.OK
		})
	}},
	{"take over and do not ask who holds", "I3", upgrade.with(idle).with(brokers), func(r *rules) {
		r.order = func(t generation.Tenure) (generation.Tenure, bool) {
			t, pause := t.Order()
			t.Hold = generation.NotHeld
			return t, pause
		}
	}},
	{"give a hold while a successor takes over", "I3", upgrade.with(idle).with(brokers), func(r *rules) {
		r.holds = func(t generation.Tenure) (generation.Tenure, error) {
			heir := t.Heir
			t.Heir = generation.NoHeir
			t, err := t.TakeHold()
			t.Heir = heir
			return t, err
		}
		r.asked = func(*gen) bool { return true }
	}},
	{"do not see that no name leads to the listener", "I4", one.with(brokers).with(meddler), func(r *rules) { r.blind = true }},
	{"undo an activation by removing the names", "I1", one.with(brokers).with(faulty), func(r *rules) {
		does(r, launch.StepAbandon, func(w *world, p int) launch.Outcome {
			if w.procs[p].m.Mode == launch.Activates {
				d := w.dir(w.procs[p].dir)
				w.removeName(w.procs[p].dir, &d.sock)
				w.removeName(w.procs[p].dir, &d.keep)
			}
			w.abandon(p)
			return launch.OK
		})
	}},
}

// TestMutants: every mistake is found, by the invariant that it breaks.
func TestMutants(t *testing.T) {
	spoilt(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			c := m.config
			c.MaxStates = 3_000_000
			rules := realRules()
			rules.fused = false
			m.mutate(rules)
			r := run(c, rules)
			t.Logf("%s: %s; %d states, %d steps:", r.Outcome.Invariant, r.Outcome.How, r.States, len(r.Trace))
			for i, line := range r.Trace {
				t.Logf("%3d  %s", i+1, line)
			}
			if r.Outcome.Invariant != m.invariant {
				t.Errorf("caught by %q, want %s; fixed: %v", r.Outcome.Invariant, m.invariant, r.Fixed)
			}
		})
	}
}
