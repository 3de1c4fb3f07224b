package explore

import (
	"fmt"
	"time"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// injectable are the steps that an injected failure can strike. Of one that is
// not here the real driver has no failure, or it is that of the step before.
func injectable(s launch.Step) bool {
	switch s {
	case launch.StepPause, launch.StepExecutable, launch.StepCloseCopies, launch.StepAbandon, launch.StepUnlock, launch.StepDone:
		return false
	}
	return true
}

// stepProc emits what process p can do next.
func (x *explorer) stepProc(s *state, p int) {
	pr := &s.procs[p]
	if pr.status == final || pr.m.Step == launch.StepDone {
		return // it is over, or waits for its answer, or for the takeover that it drives
	}
	mode, first := launch.BrokerBinds, launch.StepConnect
	switch p {
	case upgrader:
		mode, first = launch.Succeeds, launch.StepLock
		if pr.status == unborn && x.config.NoUpgrade {
			return
		}
	case broker:
		if pr.status == unborn {
			return // see stepBroker
		}
	}
	start := func(w *world) {
		if w.procs[p].status == unborn {
			w.procs[p] = proc{status: running, m: launch.Machine{Mode: mode, Step: first}}
		}
	}
	step := pr.m.Step
	kind := progress
	if pr.status == unborn {
		step = first
		if p == upgrader {
			kind = option
		}
	}
	if step == launch.StepSpawn && x.spawning(s, p) {
		return // blocked until the child's exec
	}
	x.try(s, label{who: byte(p), what: step.String()}, kind, func(w *world) {
		start(w)
		o, done := x.rules.step(w, p, step)
		if !done && w.procs[p].look != 0 && !x.config.Split {
			o, done = x.rules.step(w, p, step)
		}
		if done {
			if x.seen[step] == nil {
				x.seen[step] = map[launch.Outcome]int{}
			}
			x.seen[step][o]++
			x.next(w, p, o)
		}
	})
	if x.faulty(s) && s.left.failures > 0 && injectable(step) && pr.look == 0 && !x.spawned(s, p) {
		x.try(s, label{who: byte(p), what: step.String(), how: "fails"}, fault, func(w *world) {
			start(w)
			w.left.failures--
			w.procs[p].caused = true
			if step == launch.StepPrepare && w.path != 0 {
				w.prepare(p) // it is half made
			}
			x.next(w, p, launch.Failed)
		})
	}
}

// fuses reports whether a step follows the one before it at once.
func (x *explorer) fuses(s *state, step launch.Step) bool {
	switch step {
	case launch.StepVerifyDir, launch.StepVerifyBind: // only an outsider could change what they read
		return x.rules.fused && s.left.deletions+s.left.failures == 0
	case launch.StepPrepare, launch.StepUnlink, launch.StepBind, launch.StepKeep, launch.StepCurrent:
		// A name that is stale, absent or bound is all the same to a connect.
		return x.calm(s)
	}
	return false
}

// spawning reports whether the process waits for its child's exec.
func (x *explorer) spawning(s *state, p int) bool {
	g := s.procs[p].gen
	return g != 0 && s.gens[g-1].life == forked
}

// spawned reports whether the process has forked.
func (x *explorer) spawned(s *state, p int) bool {
	g := s.procs[p].gen
	return g != 0 && s.gens[g-1].life != unspawned
}

// next lets the machine go on, through what touches nothing outside it: nobody
// could tell these steps from the one before.
func (x *explorer) next(w *world, p int, o launch.Outcome) {
	pr := &w.procs[p]
	pr.m = x.rules.next(pr.m, o)
	for {
		switch {
		case pr.m.Step == launch.StepPause || pr.m.Step == launch.StepExecutable:
			pr.m = x.rules.next(pr.m, launch.OK)
			continue
		case pr.m.Step == launch.StepCloseCopies && x.rules.fused:
			// A copy that nobody accepts from delays the end of a queue, no more.
			x.rules.step(w, p, pr.m.Step)
			pr.m = x.rules.next(pr.m, launch.OK)
			continue
		case x.fuses(w.state, pr.m.Step):
			if o, done := x.rules.step(w, p, pr.m.Step); done {
				pr.m = x.rules.next(pr.m, o)
				continue
			}
		}
		break
	}
	if pr.m.Step != launch.StepDone {
		return
	}
	if p == broker {
		w.decide()
		return
	}
	switch pr.m.Result {
	case launch.Attached, launch.Launched:
		switch {
		case p == upgrader && pr.m.Result == launch.Launched && x.rules.upgraderDrives:
		case p == upgrader || pr.broken:
			w.hangUp(p)
			w.end(p, false)
		case !pr.conn:
			// Dial connects anew; it is the dial that it was.
			*pr = proc{status: running, m: launch.Machine{Mode: launch.BrokerBinds, Step: launch.StepConnect}}
		}
	default:
		if !pr.caused {
			w.breaks("I2", "a dial fails without a failed launch, a refusal or a deadline")
		}
		if pr.conn {
			w.hangUp(p)
		}
		w.end(p, false)
	}
}

// step does the effect of the process's step as the real driver does it
// (system.go and its twins in package launch). It reports false if there is more to it.
func step(w *world, p int, step launch.Step) (o launch.Outcome, done bool) {
	switch step {
	case launch.StepConnect, launch.StepReconnect:
		return w.connect(p, w.at().sock)
	case launch.StepProbeKeep:
		return w.connect(p, w.at().keep)
	case launch.StepSpawn:
		return launch.OK, w.spawn(p)
	}
	return w.effect(p, step), true
}

// connect is connect(2) in its two parts: the name is looked up, and what it led
// to is connected to, wherever the name leads by then.
func (w *world) connect(p int, name id) (o launch.Outcome, done bool) {
	pr := &w.procs[p]
	if pr.look == 0 {
		switch name {
		case 0:
			return launch.Absent, true
		case stale:
			return launch.Refused, true
		}
		pr.look = name
		return 0, false
	}
	k := pr.look
	pr.look = 0
	switch {
	case !w.listens(k):
		if w.bro.held == k && w.named(k) && p != broker {
			w.breaks("I3", "a connect is refused although a broker holds the endpoint")
		}
		return launch.Refused, true
	case queued(w.socks[k-1].queue) >= w.rules.backlog:
		return launch.Busy, true
	}
	w.socks[k-1].queue |= 1 << p
	pr.conn = true
	return launch.OK, true
}

func queued(mask uint8) (n int) {
	for ; mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}

// effect is what the other steps do.
func (w *world) effect(p int, step launch.Step) launch.Outcome {
	pr := &w.procs[p]
	switch step {
	case launch.StepLock:
		w.mkdir()
		if w.at().lock != 0 {
			return launch.Held
		}
		w.at().lock = uint8(p + 1)
		pr.dir = w.path
	case launch.StepVerifyDir:
		if pr.dir != w.path {
			return launch.Moved
		}
	case launch.StepRestore:
		d := w.dir(pr.dir)
		if d.removed || d.keep == 0 {
			w.hangUp(p)
			return launch.Absent
		}
		if d.sock != d.keep {
			w.removeName(pr.dir, &d.sock)
		}
		d.sock = d.keep
	case launch.StepSucceed:
		return w.succeed(p)
	case launch.StepOwn:
		return w.own(p)
	case launch.StepAdmit:
		return w.admit(p)
	case launch.StepPrepare:
		if w.path == 0 {
			return launch.Moved
		}
		w.prepare(p)
	case launch.StepUnlink:
		d := w.dir(pr.dir)
		w.removeName(pr.dir, &d.sock)
		w.removeName(pr.dir, &d.keep)
	case launch.StepBind:
		switch {
		case w.path == 0:
			return launch.Moved
		case w.at().sock != 0 && w.path != pr.dir:
			return launch.Moved
		case w.at().sock != 0 && w.dir(pr.dir).sock != 0:
			return launch.InUse
		case w.at().sock != 0:
			return launch.Failed
		}
		pr.sock = w.bind()
		w.at().sock = pr.sock
	case launch.StepVerifyBind:
		d := w.dir(pr.dir)
		if d.sock == 0 || w.at().sock != d.sock || w.path != pr.dir {
			return launch.Moved
		}
		pr.inode = d.sock
	case launch.StepKeep:
		d := w.dir(pr.dir)
		if d.removed || d.sock == 0 || d.keep != 0 {
			return launch.Moved
		}
		d.keep = d.sock
	case launch.StepCurrent:
		d := w.dir(pr.dir)
		if d.removed {
			return launch.Moved
		}
		d.current = pr.gen
	case launch.StepListen:
		if p == broker {
			w.dir(pr.dir).holder = true
		}
		w.socks[pr.sock-1].listening = true
	case launch.StepCloseCopies:
		pr.sock, pr.gen, pr.inode = 0, 0, 0
	case launch.StepAbandon:
		w.abandon(p)
	case launch.StepUnlock:
		w.release(p)
	default:
		panic(fmt.Sprint("explore: no effect for ", step))
	}
	return launch.OK
}

// mkdir makes the service's directory if there is none.
func (w *world) mkdir() {
	if w.path != 0 {
		return
	}
	w.path = 1
	if w.dirs[0] != (dir{}) {
		w.path = 2
	}
	if w.dirs[w.path-1] != (dir{}) {
		panic("explore: more directories than the model has room for")
	}
}

// prepare makes the generation's directory and record, at the path.
func (w *world) prepare(p int) {
	g := w.generation()
	o := &w.gens[g-1]
	o.onDisk, o.launcher, o.launchedS, o.old = true, uint8(p+1), w.active(), w.procs[p].old
	w.procs[p].gen = g
	if p == broker {
		o.tenure.Hold = generation.Promised
		w.procs[p].sock = w.bro.held // a copy
		w.bro.run = g
	}
}

// spawn forks. The launcher returns from it after the child's exec.
func (w *world) spawn(p int) (done bool) {
	pr := &w.procs[p]
	g := &w.gens[pr.gen-1]
	if g.life == unspawned {
		g.life, g.sock, g.takeDir = forked, pr.sock, pr.dir
		return false
	}
	return true
}

// release is StepUnlock: unlock, then close.
func (w *world) release(p int) {
	pr := &w.procs[p]
	d := pr.dir
	if d != 0 && w.dirs[d-1].lock == uint8(p+1) {
		w.unlock(d)
	}
	pr.dir, pr.inode, pr.gen, pr.old, pr.before = 0, 0, 0, 0, 0
}

// abandon undoes the generation. Its verdict, if there is one, comes before the
// last copy of its listener closes.
func (w *world) abandon(p int) {
	pr := &w.procs[p]
	d := w.dir(pr.dir)
	if pr.inode != 0 {
		if d.sock == pr.inode {
			d.sock = 0
		}
		if d.keep == pr.inode {
			d.keep = 0
		}
	}
	if pr.gen != 0 {
		g := &w.gens[pr.gen-1]
		if pr.m.Giving() && pr.caused {
			w.excuse = true
			g.failure, g.phase, g.failedS = failLaunch, phFailed, w.active()
		} else {
			g.onDisk = false
			if w.at().current == pr.gen {
				d.current = pr.before
			}
		}
		pr.gen = 0
	}
	pr.sock = 0
}

// succeed is StepSucceed: is there whom to succeed, and nobody at it?
func (w *world) succeed(p int) launch.Outcome {
	old := w.at().current
	if old == 0 || old == foreign || !w.gens[old-1].alive() || !w.gens[old-1].backend {
		return launch.Absent
	}
	for i := range w.gens {
		if g := &w.gens[i]; g.alive() && g.onDisk && g.old == old && g.phase < phGone {
			return launch.InUse
		}
	}
	w.procs[p].old = old
	return launch.OK
}

// The boot-time clock of an admission, as the records tell it to a dial that
// began at admitSince.
const (
	admitSince = 1000 * time.Second
	admitNow   = admitSince + time.Second
)

// admit lets the real decision look at records that say what the state says.
func (w *world) admit(p int) launch.Outcome {
	pr := &w.procs[p]
	var entries []launch.Entry
	for i := numGens - 1; i >= 0; i-- {
		if w.gens[i].onDisk {
			entries = append(entries, w.entry(id(i+1), p))
		}
	}
	current := ""
	pr.before = w.at().current
	if pr.before != 0 && pr.before != foreign {
		current = genName(pr.before)
	}
	o, kept := launch.Admits(entries, current, admitSince, admitNow, pr.m.Mode == launch.Succeeds)
	for i := range w.gens {
		g := &w.gens[i]
		was := g.onDisk
		g.onDisk = false
		for _, e := range kept {
			if e.Number == uint64(i+1) {
				g.onDisk = was
				if g.phase != phFailed && e.Record.Phase == record.Failed {
					g.phase, g.failure = phFailed, failUnknown
				}
			}
		}
	}
	if o != launch.OK {
		pr.caused = true
	}
	return o
}

func genName(g id) string { return fmt.Sprintf("%d.0.0.0", g) }

var recordPhases = [...]record.Phase{record.Launching, record.Bound, record.Loading, record.Ready, record.Draining, record.Gone, record.Failed}

// entry is the generation as client p finds it on disk.
func (w *world) entry(g id, p int) launch.Entry {
	o := &w.gens[g-1]
	when := func(mask uint8) time.Duration {
		if p < numClients && mask&(1<<p) != 0 {
			return admitSince + time.Millisecond
		}
		return admitSince - time.Millisecond
	}
	r := record.Record{Generation: uint64(g), Phase: recordPhases[o.phase], Backend: o.backend, WasReady: o.wasReady,
		LaunchedBoot: when(o.launchedS), PhaseAt: admitSince}
	if o.pid {
		r.PID = 1000 + int(g)
	}
	if o.old != 0 {
		r.Succeeds = genName(o.old)
	}
	f := record.Failure{At: when(o.failedS), Status: -1}
	switch o.failure {
	case noFailure:
	case failLaunch:
		f.Stage = launch.StageBind
		r.Failure = &f
	case failAdopt:
		f.Stage, f.Status = launch.StageAdopt, 1
		r.Failure = &f
	case failLoad:
		f.Stage, f.Status = launch.StageLoad, 1
		r.Failure = &f
	case failKilled:
		f.Stage, f.Signal = launch.StageServe, "killed"
		if !o.wasReady {
			f.Stage = launch.StageLoad
		}
		r.Failure = &f
	case failUnknown:
		f.Stage, f.Unknown, f.At = launch.StageLoad, true, r.LaunchedBoot
		r.Failure = &f
	}
	return launch.Entry{Name: genName(g), Number: uint64(g), Record: r, Alive: o.alive()}
}
