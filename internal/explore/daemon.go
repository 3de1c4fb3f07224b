package explore

import (
	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// stepGen emits what generation g's process can do next, as package daemon does
// it: its main goroutine, Serve's, and the one of its control endpoint.
func (x *explorer) stepGen(s *state, g id) {
	o := &s.gens[g-1]
	if !o.alive() {
		if o.used && o.onDisk && o.life == dead && o.launcher != 0 && o.pid && o.phase < phGone {
			x.try(s, label{'w', g, "sees it killed, and writes that down", ""}, option, func(w *world) {
				d := &w.gens[g-1]
				d.phase, d.failure, d.failedS = phFailed, failKilled, w.active()
			})
		}
		return
	}
	do := func(what string, kind kind, f func(w *world, o *gen)) {
		x.try(s, label{'d', g, what, ""}, kind, func(w *world) { f(w, &w.gens[g-1]) })
	}
	fails := func(what string, f failure) {
		if x.faulty(s) && s.left.failures > 0 {
			x.try(s, label{'d', g, what, "fails"}, fault, func(w *world) {
				w.left.failures--
				w.gens[g-1].injected = true
				w.fail(g, f)
			})
		}
	}
	switch o.life {
	case forked:
		do("exec", progress, func(w *world, o *gen) {
			d := o.takeDir
			o.life, o.takeDir = adopting, 0
			w.dropCopy(d)
			if o.old == 0 && x.calm(w.state) {
				w.adopt(g)
			}
		})
	case adopting:
		do("adopt", progress, func(w *world, o *gen) { w.adopt(g) })
		fails("adopt", failAdopt)
	case loading:
		do("load", progress, func(w *world, o *gen) {
			if o.old != 0 {
				o.life = taking
				return
			}
			o.serve()
		})
		fails("load", failLoad)
	case taking:
		x.stepTaking(s, g)
	case took:
		do("say in its record that it took over", progress, func(w *world, o *gen) {
			o.tookOver, o.life = true, said
			if x.calm(w.state) {
				w.part(g)
				o.serve()
			}
		})
	case said:
		do("close the old one's connection, serve", progress, func(w *world, o *gen) {
			w.part(g)
			o.serve()
		})
	case serving:
		x.whyEnd(s, g, do)
	case ending:
		do("begin to end", progress, func(w *world, o *gen) {
			t, ends := x.rules.ends(x.rules.heldStill(w.state, g), o.reason)
			o.tenure, o.reason, o.life = t, 0, serving
			if ends {
				o.life, o.phase = awaiting, phDraining
			}
		})
	case awaiting:
		drains := func(what string, late bool) {
			do(what, progress, func(w *world, o *gen) {
				t, how := x.rules.drain(o.tenure, late)
				o.tenure = t
				x.rules.end(w, g, how)
			})
		}
		switch _, how := x.rules.drain(o.tenure, false); how {
		case generation.DrainAwait:
			drains("wait for its successor no longer", true)
		case generation.DrainRefuse:
			drains("refuse newcomers", false)
		case generation.DrainHandOn:
			drains("leave the queue to who has it", false)
		}
	case draining:
		if o.sock == 0 || s.socks[o.sock-1].queue == 0 {
			do("find its queue empty", progress, func(w *world, o *gen) {
				o.life = lingering
				if o.open == 0 && o.sock != 0 && w.socks[o.sock-1].shut && w.stray.sock == 0 {
					// A shut listener and a dead one refuse alike.
					o.phase = phGone
					w.die(g)
				}
			})
		}
	case lingering:
		if o.open == 0 || x.rules.impatient {
			do("exit", progress, func(w *world, o *gen) {
				o.phase = phGone
				w.die(g)
			})
		}
	case failing:
		do("close its listener and exit", progress, func(w *world, o *gen) {
			w.excuse = o.injected
			w.die(g)
		})
	}
	if x.rules.accepts(o) && o.sock != 0 {
		for c := range numClients {
			if s.socks[o.sock-1].queue&(1<<c) != 0 {
				x.try(s, label{'d', g, "accept", clientNames[c]}, progress, func(w *world) {
					w.socks[w.gens[g-1].sock-1].queue &^= 1 << c
					w.gens[g-1].open |= 1 << c
					if x.calm(w.state) && w.procs[c].m.Step == launch.StepDone {
						w.hangUp(c)
						w.end(c, false)
					}
				})
			}
		}
	}
	for c := range numClients {
		if o.open&(1<<c) != 0 && o.life >= serving && s.procs[c].m.Step == launch.StepDone { // who connects under the lock reads later
			x.try(s, label{'d', g, "answer", clientNames[c]}, progress, func(w *world) {
				w.hangUp(c)
				w.end(c, false)
			})
		}
	}
	if o.holdLost && o.tenure.Hold == generation.Held {
		do("see the end of its broker's connection", progress, func(w *world, o *gen) {
			o.holdLost = false
			o.tenure = x.rules.loseHold(o.tenure, generation.Held)
		})
	}
	if o.tenure.Hold == generation.Promised && s.bro.held != o.sock {
		do("wait for its broker no longer", progress, func(w *world, o *gen) {
			o.holdLost = false
			o.tenure = o.tenure.LoseHold(generation.Promised)
		})
	}
	if o.lost {
		do("see the end of its successor's connection", progress, func(w *world, o *gen) { x.rules.lose(w, g) })
	}
}

// accepts reports whether Serve's goroutine can accept a queued connection.
func accepts(g *gen) bool {
	switch g.life {
	case serving, ending, awaiting, draining, lingering:
	default:
		return false
	}
	switch g.gate.Accept() {
	case generation.AcceptNext:
		return true
	case generation.AcceptQueued:
		return g.life == draining
	}
	return false
}

// serve is what follows Load: Serve runs, and the record says ready.
func (g *gen) serve() {
	g.tenure.Loaded = true
	g.life, g.phase, g.wasReady = serving, phReady, true
}

// fail is the end of a daemon that fails: first the verdict, then the rest.
func (w *world) fail(g id, f failure) {
	o := &w.gens[g-1]
	o.life, o.phase, o.failure, o.failedS = failing, phFailed, f, w.active()
	w.excuse = o.injected
}

// adopt is the way from exec to Load: the listener is there, or is asked for.
func (w *world) adopt(g id) {
	o := &w.gens[g-1]
	o.pid, o.backend = true, true
	if o.old != 0 {
		old := &w.gens[o.old-1]
		t, err := old.tenure.Begin()
		if !old.alive() || old.life < loading || err != nil {
			w.fail(g, failAdopt)
			return
		}
		old.tenure = t
		o.linked, o.sock = true, old.sock
	}
	o.tenure.Bound = true
	o.life, o.phase = loading, phLoading
}

// part closes a successor's connection to the old generation.
func (w *world) part(g id) {
	o := &w.gens[g-1]
	if o.linked {
		o.linked = false
		w.gens[o.old-1].lost = true
	}
}

// whyEnd emits the reasons for which a generation that serves ends.
func (x *explorer) whyEnd(s *state, g id, do func(string, kind, func(*world, *gen))) {
	o := &s.gens[g-1]
	end := func(r generation.Reason) func(*world, *gen) {
		return func(w *world, o *gen) { o.life, o.reason = ending, r }
	}
	need := generation.Need{IdleExit: 1, Used: true, Holds: queued(o.open)}
	if o.tenure.Heir == generation.HeirLoads || o.tenure.Heir == generation.HeirOrdered {
		need.Heirs = 1
	}
	// Who has just taken over without a word of the old one waits for its first
	// connection for generation.FirstGrace. A broker that holds its listener asks for
	// its hold before that.
	asked := o.unheard && s.bro.held == o.sock && o.sock != 0 && o.tenure.Hold == generation.NotHeld
	if _, why := need.Due(); why == generation.EndedIdle && !asked && s.left.idles > 0 && x.faulty(s) {
		do("is idle", option, func(w *world, o *gen) {
			w.left.idles--
			end(generation.EndItself)(w, o)
		})
	}
	if o.tenure.Heir == generation.HeirTook {
		do("is replaced", progress, end(generation.EndAsked))
	}
	if !s.named(o.sock) && o.sock != 0 {
		do("is stranded", progress, end(generation.EndStranded))
	}
}

// end is how a drain begins.
func end(w *world, g id, how generation.Drain) {
	o := &w.gens[g-1]
	if how == generation.DrainHandOn {
		o.gate = o.gate.HandOn()
		o.life = lingering
		if o.tenure.Heir == generation.NoHeir {
			o.sock = 0 // the broker's copy alone decides what becomes of the queue
		}
		return
	}
	if o.sock != 0 {
		w.socks[o.sock-1].shut = true
	}
	o.gate = o.gate.Drain()
	o.life = draining
}

// lose is the old generation seeing the end of its successor's connection.
func lose(w *world, g id) {
	o := &w.gens[g-1]
	o.lost = false
	owner := w.at().current == g
	if w.at().current == 0 {
		owner = true
		for i := range w.gens {
			if s := &w.gens[i]; s.onDisk && s.old == g && s.tookOver {
				owner = false
			}
		}
	}
	t, parting := w.rules.part(o.tenure, owner)
	o.tenure = t
	switch parting {
	case generation.PartNothing:
		return
	case generation.PartHandOn:
		o.gate = o.gate.HandOn()
		if !o.tenure.Loaded {
			o.life, o.phase = lingering, phDraining
		}
		o.gate = o.gate.Close()
		o.sock = 0
	case generation.PartResume:
		o.gate = o.gate.Resume()
	}
}

// stepTaking emits a successor's next step to become the owner.
func (x *explorer) stepTaking(s *state, g id) {
	if x.rules.upgraderDrives && s.procs[upgrader].status != running {
		return
	}
	step := s.gens[g-1].taking.Step
	take := func(how string, kind kind, f func(w *world) launch.Outcome) {
		x.try(s, label{'d', g, takeNames[step], how}, kind, func(w *world) {
			o := &w.gens[g-1]
			o.taking = x.rules.take(o.taking, f(w))
			for x.calm(w.state) && (o.taking.Step == launch.TakeNamed || o.taking.Step == launch.TakeAccept ||
				o.taking.Step == launch.TakeCurrent || o.taking.Step == launch.TakeUnlock) {
				o.taking = x.rules.take(o.taking, x.rules.takeStep(w, g, o.taking.Step))
			}
			if o.taking.Step == launch.TakeDone {
				x.rules.taken(w, g)
			}
		})
	}
	if step == launch.TakeLock && s.path != 0 && s.at().lock != 0 && !x.rules.ignoresLock {
		return // it waits
	}
	take("", progress, func(w *world) launch.Outcome { return x.rules.takeStep(w, g, step) })
	if !x.faulty(s) || s.left.failures == 0 || step == launch.TakeUnlock {
		return
	}
	fail := func(w *world) {
		w.left.failures--
		w.gens[g-1].injected = true
	}
	take("fails", fault, func(w *world) launch.Outcome {
		fail(w)
		return launch.Failed
	})
	if step == launch.TakeOrder {
		take("fails, but was heard", fault, func(w *world) launch.Outcome {
			fail(w)
			_ = x.rules.takeStep(w, g, step)
			return launch.Failed
		})
	}
}

// takeNames are the takeover's steps, as traces tell them.
var takeNames = func() (names [launch.TakeDone + 1]string) {
	for i := range names {
		names[i] = "take over: " + launch.TakeStep(i).String()
	}
	return names
}()

// taken is the end of a takeover.
func taken(w *world, g id) {
	o := &w.gens[g-1]
	if o.taking.Taken {
		o.life = took
		return
	}
	w.part(g)
	w.fail(g, failAdopt)
}

// takeStep does the effect of a takeover's step as the real driver does it
// (takeover.go in package launch).
func takeStep(w *world, g id, step launch.TakeStep) launch.Outcome {
	o := &w.gens[g-1]
	switch step {
	case launch.TakeLock:
		if w.path == 0 {
			return launch.Absent
		}
		if w.at().lock == 0 {
			w.at().lock = lockGen + g
		}
		o.takeDir = w.path
	case launch.TakeNamed:
		if !w.named(o.sock) {
			return launch.Absent
		}
	case launch.TakeOrder:
		old := &w.gens[o.old-1]
		if !old.alive() || !o.linked {
			o.unheard = true
			return launch.OK
		}
		t, pause := w.rules.order(old.tenure)
		if old.tenure = t; pause {
			old.gate = old.gate.Pause()
		}
		if old.tenure.Hold != generation.NotHeld {
			o.tenure.Hold, o.holdLost = generation.Promised, old.holdLost
		}
	case launch.TakeAccept:
	case launch.TakeCurrent:
		d := w.dir(o.takeDir)
		if d.removed {
			return launch.Absent
		}
		d.current = g
	case launch.TakeUnlock:
		d := o.takeDir
		if d == 0 {
			panic("explore: a successor gives a lock back that it has not taken")
		}
		if w.dirs[d-1].lock == lockGen+g {
			w.unlock(d)
		}
		o.takeDir = 0
	}
	return launch.OK
}
