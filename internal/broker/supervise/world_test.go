package supervise

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

// world is a machine and a simulated system on which its effects are done: the
// endpoint, a queue, daemons, requests and a clock. What happens next is one of its
// actions; random walks and exhaustive searches take them. It is a comparable
// value, and notes the first invariant that is broken.
type world struct {
	m      Machine
	now    time.Duration
	jitter float64

	at       place // where the endpoint's names lead
	listener bool  // the broker has a copy of a listener
	queue    bool  // somebody waits in that listener's queue
	watch    bool
	timer    time.Duration

	binding, launching bool
	heir               uint64 // whom a successor is asked to succeed
	heirHere           bool   // and it will have the broker's listener
	procs              [numProcs]daemon
	served             bool // the last client was

	requests [numIDs]asking
	left     supplies // what may still be done to the system

	// The test's own account of what the machine has to know itself.
	failed    [BudgetFailures]time.Duration // launch times of starts that failed, the newest first
	streakEnd bool                          // the last end was a bad one
	quick     uint8                         // launches after bad ends, each at once
	quickAt   time.Duration                 // of the last
	lastAsked bool                          // the last end was asked for

	broken string
}

const (
	numProcs = 5
	numIDs   = 3
)

type place uint8

const (
	nowhere place = iota
	ours          // the listener that the broker binds, or has a copy of
	theirs
)

// daemon is a process. number 0: none.
type daemon struct {
	number   uint64
	where    place // whose listener it has; nowhere: one that no name leads to
	backend  bool
	client   bool // has launched it
	ready    bool
	leaving  bool // accepts no more
	hung     bool
	asked    bool
	killed   bool
	launched time.Duration
	alive    time.Duration // when it last gave a sign of life
	drain    time.Duration // since when it drains
	until    time.Duration // it has asked for time until then
	capture  time.Duration // when evidence was asked for, and not delivered
	captured bool
	despair  bool
	silent   bool // was reported as accepting nobody, without an answer
}

// asking is a request that waits for its answer.
type asking struct {
	id   uint64
	verb Verb
	who  [numProcs]uint64 // who lived when it came
}

// supplies bound what a search does; a walk has plenty.
type supplies struct {
	clients, faults, requests, outsiders, changes uint8
	timers                                        uint8
}

// next is the machine's function, or a mutant of it.
type next func(Machine, Moment, Event) (Machine, []Effect)

type action struct {
	name string
	do   func(*world, next)
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// accepts reports whether the daemon serves, or will when it has loaded.
func (d *daemon) accepts() bool { return d.number != 0 && !d.leaving && !d.killed }

func (w *world) find(number uint64) *daemon {
	for i := range w.procs {
		if w.procs[i].number == number && number != 0 {
			return &w.procs[i]
		}
	}
	return nil
}

// server is who accepts at a place, nil if nobody does.
func (w *world) server(p place) *daemon {
	for i := range w.procs {
		if d := &w.procs[i]; d.accepts() && d.where == p {
			return d
		}
	}
	return nil
}

// spawn makes a process with a number that nobody remembers, nil if there are too many.
func (w *world) spawn(where place, backend bool) *daemon {
	for number := uint64(1); ; number++ {
		used := w.find(number) != nil || w.heir == number || w.m.heir == number || w.m.Run.Number == number
		for _, r := range w.m.requests {
			used = used || r.run == number
		}
		for _, l := range w.m.leaving {
			used = used || l.number == number
		}
		if used {
			continue
		}
		for i := range w.procs {
			if w.procs[i].number == 0 {
				w.procs[i] = daemon{number: number, where: where, backend: backend, launched: w.now, alive: w.now}
				return &w.procs[i]
			}
		}
		return nil
	}
}

// deliver gives the machine an event and does what it says.
func (w *world) deliver(n next, e Event) {
	var effects []Effect
	if _, is := e.(Timer); is {
		w.timer = 0
	}
	w.m, effects = n(w.m, Moment{w.now, w.jitter}, e)
	if len(effects) > 20 {
		w.breaks("%d effects of one event", len(effects))
	}
	for _, effect := range effects {
		w.effect(effect, e)
	}
	if a, is := e.(Adopted); is && w.m.State != Disabled && w.m.State != Ended {
		w.listener = a.Listener
		w.queue = false
	}
	if _, is := e.(Timer); is && w.timer != 0 && w.timer <= w.now {
		w.breaks("a timer of %v at %v: it would never end", w.timer, w.now)
	}
	w.check()
}

func (w *world) effect(effect Effect, cause Event) {
	switch e := effect.(type) {
	case Bind:
		if w.binding || w.launching || w.listener {
			w.breaks("bind while binding %v, launching %v, with a listener %v", w.binding, w.launching, w.listener)
		}
		w.binding = true
	case Launch:
		w.launchEffect(e)
	case Succeed:
		if w.heir != 0 || w.find(e.Number) == nil {
			w.breaks("a successor of nobody, or a second one")
		}
		w.heir, w.heirHere = e.Number, w.listener
	case CancelSuccessor:
		if w.heir == 0 || w.heir != e.Number {
			w.breaks("the successor of %d is cancelled, %d has one", e.Number, w.heir)
		}
	case Drain:
		d := w.find(e.Number)
		if d == nil {
			w.breaks("nobody is asked to end")
			return
		}
		d.asked = true
		if !d.leaving {
			d.leaving, d.drain, d.until = true, w.now, 0
		}
	case Capture:
		w.captureEffect(e)
	case Kill:
		w.killEffect(e)
	case Refuse:
		w.letGo("refused", true)
		if e.Retry <= w.now || e.Reason == "" {
			w.breaks("refused until %v at %v: %q", e.Retry, w.now, e.Reason)
		}
	case Release:
		_, adopted := cause.(Adopted)
		_, stranded := cause.(Stranded)
		w.letGo("released", !adopted && !stranded)
	case HandOn:
		w.listener, w.watch = false, false
	case Watch:
		w.watch = e.On
		a, _ := cause.(Adopted) // brings one along
		if e.On && (!w.listener && !a.Listener || w.server(ours) != nil) {
			w.breaks("watching although somebody accepts, or without a listener")
		}
	case SetTimer:
		w.timer = e.At
	case Answer:
		w.answerEffect(e)
	case Forget:
		w.failed = [BudgetFailures]time.Duration{}
		w.streakEnd, w.quick = false, 0
	case Note:
	default:
		w.breaks("unknown effect %T", effect)
	}
}

// letGo closes the broker's copy of the listener; last: it must be nobody's.
func (w *world) letGo(how string, last bool) {
	if !w.listener {
		w.breaks("a listener is %s that the broker does not have", how)
	}
	if w.server(ours) != nil && last {
		w.breaks("a listener is %s that somebody serves", how)
	}
	w.listener, w.watch, w.queue, w.heirHere = false, false, false, false
	if last && w.at == ours {
		w.at = nowhere
	}
}

func (w *world) launchEffect(e Launch) {
	switch d := w.server(ours); {
	case w.launching || w.binding:
		w.breaks("two launches at once")
	case !w.listener:
		w.breaks("launched without a listener")
	case d != nil:
		w.breaks("launched although %d serves", d.number)
	case w.heirHere && w.find(w.heir) == nil:
		w.breaks("launched although a successor has the listener")
	}
	for i := range w.procs {
		if d := &w.procs[i]; d.number != 0 && d.where == ours && !d.backend && !d.killed {
			w.breaks("launched beside a foreign daemon that is not gone")
		}
	}
	if e.Why == ForPolicy && w.lastAsked && w.m.Policy.Restart == RestartOnDemand {
		w.breaks("restarted by a policy that says on demand")
	}
	if w.streakEnd && e.Why != ForRequest {
		if w.now-w.quickAt >= w.m.Policy.BackoffMin/2 {
			w.quick = 0
		}
		if w.quick++; w.quick > FreeLaunches {
			w.breaks("%d launches after bad ends, with no time between them", w.quick)
		}
		w.quickAt = w.now
	}
	w.launching = true
}

func (w *world) captureEffect(e Capture) {
	d := w.find(e.Number)
	if d == nil || d.leaving || d.killed {
		w.breaks("evidence of one that is not there, or ends")
		return
	}
	p := w.m.Policy
	ok := false
	switch e.Cause {
	case CauseUnready:
		ok = !d.ready && p.ReadyWithin > 0 && w.now >= max(d.launched+p.ReadyWithin, d.until)
	case CauseWatchdog:
		ok = d.ready && p.Watchdog > 0 && w.now >= d.alive+p.Watchdog
	case CauseDespair:
		ok = d.despair
	case CauseUnaccepted:
		ok = d.ready && d.silent
	}
	if !ok {
		w.breaks("%d is suspected, which is not so: %s", e.Number, e.Cause)
	}
	d.capture, d.captured = w.now, false
}

func (w *world) killEffect(e Kill) {
	d := w.find(e.Number)
	if d == nil || d.killed {
		w.breaks("killed is one that is gone, or killed already")
		return
	}
	leaving := 0
	for _, other := range w.procs {
		if other.number != 0 && other.leaving {
			leaving++
		}
	}
	if e.Cause == CauseStop {
		late := d.leaving && w.now >= max(d.drain+w.m.Policy.StopWithin+stopGrace, d.until)
		if !late && leaving <= MaxLeaving {
			w.breaks("killed before its time to drain was over")
		}
	} else {
		timedOut := d.capture != 0 && w.now >= d.capture+captureWithin
		if !d.captured && !timedOut {
			w.breaks("killed without evidence")
		}
	}
	d.killed = true
}

func (w *world) answerEffect(a Answer) {
	for i := range w.requests {
		r := &w.requests[i]
		if r.id == 0 || r.id != a.ID {
			continue
		}
		if a.Done {
			w.fulfilled(*r)
		} else if a.Reason == "" {
			w.breaks("%s refused without a reason", r.verb)
		}
		*r = asking{}
		return
	}
	w.breaks("an answer to nobody, or a second one: %+v", a)
}

// fulfilled checks that what is said to be done is.
func (w *world) fulfilled(r asking) {
	was := func(number uint64) bool {
		for _, n := range r.who {
			if n == number {
				return true
			}
		}
		return false
	}
	ok := true
	switch r.verb {
	case VerbEnable:
		ok = w.m.State != Disabled && w.m.State != Refusing
	case VerbDisable:
		for i := range w.procs {
			ok = ok && (w.procs[i].number == 0 || w.procs[i].where != ours || w.procs[i].killed)
		}
		ok = ok && !w.listener
	case VerbLaunch:
		// One may have been stranded a moment ago.
		ok = w.server(ours) != nil || w.server(theirs) != nil || w.server(nowhere) != nil
	case VerbReady:
		ok = false
		for i := range w.procs {
			ok = ok || w.procs[i].accepts() && w.procs[i].ready
		}
	case VerbRestart:
		ok = false
		for i := range w.procs {
			ok = ok || w.procs[i].accepts() && !was(w.procs[i].number)
		}
	case VerbStop:
		for i := range w.procs {
			// Whom no name leads to any more before it was asked, a stop does not reach.
			if d := &w.procs[i]; d.number != 0 && was(d.number) && !d.killed && d.where != nowhere {
				ok = false
			}
		}
	}
	if !ok {
		w.breaks("%s is answered as done, which it is not", r.verb)
	}
}

// check is what holds after each event.
func (w *world) check() {
	serving := 0
	for i := range w.procs {
		if d := &w.procs[i]; d.accepts() && d.where == ours && w.listener {
			serving++
		}
	}
	if serving > 1 {
		w.breaks("%d generations accept at one listener", serving)
	}
	if w.listener != w.m.Listener {
		w.breaks("the machine thinks that it has a listener: %v", w.m.Listener)
	}
	if w.queue && w.listener && w.server(ours) == nil && !w.watch && w.timer == 0 && !w.launching && !w.binding && w.heir == 0 {
		w.breaks("somebody waits, and nothing will ever happen")
	}
	if w.m.State == Ended {
		for _, r := range w.requests {
			if r.id != 0 {
				w.breaks("a request is never answered")
			}
		}
	}
}

// ends takes a process's end.
func (w *world) ends(n next, d *daemon, end End, byUser bool) {
	gone := *d
	*d = daemon{}
	if gone.where == theirs && w.at == theirs {
		w.at = nowhere
	}
	if gone.where == ours && w.at == ours && !w.listener && w.server(ours) == nil {
		w.at = nowhere
	}
	for i := range w.requests {
		for j := range w.requests[i].who {
			if w.requests[i].who[j] == gone.number {
				w.requests[i].who[j] = 0
			}
		}
	}
	if w.m.Run.Number == gone.number {
		asked := gone.asked || byUser
		// The rules in the package's description, said once more.
		if w.now-gone.launched >= w.m.Policy.BackoffReset && w.now-w.m.since >= w.m.Policy.BackoffReset {
			w.quick = 0
		}
		good := asked || end == EndClean && gone.ready && !w.queue && w.m.Policy.Restart != RestartAlways
		// A backend leaves its queue to the broker: who came then is no sign of a fault.
		left := end == EndClean && gone.ready && gone.backend && w.m.Policy.Restart != RestartAlways
		w.streakEnd = !good && !left || gone.killed && gone.captured
		if good {
			w.quick = 0
		}
		w.lastAsked = asked
		if !gone.ready && !gone.client && !asked && gone.where == ours && w.listener && end.counts(gone.backend) && !gone.killed {
			w.startFailed(gone.launched)
		}
	}
	w.deliver(n, Exited{Number: gone.number, End: end, Asked: byUser, Waiting: w.queue, Reason: "it is gone"})
}

// startFailed is one start that came to nothing: the fourth within 30 s is one too many.
func (w *world) startFailed(launched time.Duration) {
	times := append([]time.Duration{launched}, w.failed[:]...)
	slices.SortFunc(times, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	if oldest := times[BudgetFailures]; oldest != 0 && times[0] < oldest+BudgetWindow {
		w.breaks("more than %d starts failed within 30 s: %v", BudgetFailures, times)
	}
	copy(w.failed[:], times)
}

// actions are all that can happen now.
func (w *world) actions() (list []action) {
	add := func(name string, do func(*world, next)) { list = append(list, action{name, do}) }
	event := func(name string, e Event) { add(name, func(w *world, n next) { w.deliver(n, e) }) }
	if w.m.State == Ended {
		return nil
	}
	if w.timer != 0 && w.left.timers > 0 {
		add("timer", func(w *world, n next) {
			w.left.timers--
			w.now = max(w.now, w.timer)
			w.deliver(n, Timer{})
		})
	}
	if w.watch && w.queue {
		add("readable", func(w *world, n next) { w.watch = false; w.deliver(n, Readable{}) })
	}
	w.answers(add)
	for i := range w.procs {
		if w.procs[i].number != 0 {
			w.daemonActions(i, add)
		}
	}
	if w.left.clients > 0 && w.at == ours && w.listener && !w.queue {
		add("client", func(w *world, n next) { w.left.clients--; w.queue, w.served = true, false; w.check() })
	}
	if w.left.outsiders > 0 {
		if w.at == ours {
			add("names deleted", func(w *world, n next) {
				w.left.outsiders--
				w.at = nowhere
				if !w.listener {
					for i := range w.procs {
						if w.procs[i].where == ours {
							w.procs[i].where = nowhere
						}
					}
				}
			})
		}
		if w.at == nowhere {
			for _, backend := range []bool{true, false} {
				add(fmt.Sprintf("launched by a client, backend %v", backend), func(w *world, n next) {
					w.left.outsiders--
					if d := w.spawn(theirs, backend); d != nil {
						w.at, d.client = theirs, true
					}
				})
			}
		}
	}
	if w.at == theirs && !w.binding && !w.launching && w.m.State != Disabled {
		if d := w.server(theirs); d != nil && d.number != w.m.Run.Number {
			for _, listener := range []bool{false, true} {
				if !listener || d.backend {
					add(fmt.Sprintf("found, listener %v", listener), func(w *world, n next) { w.adopt(n, listener) })
				}
			}
		}
	}
	if w.at == nowhere && (w.listener && !w.launching || w.m.State == Following) {
		add("noticed", func(w *world, n next) {
			for i := range w.procs {
				if w.procs[i].where == ours {
					w.procs[i].where = nowhere
				}
			}
			w.streakEnd = false // what is launched now is launched for that
			w.deliver(n, Stranded{})
		})
	}
	for i, r := range w.requests {
		if r.id != 0 && w.left.changes > 0 {
			add("withdrawn", func(w *world, n next) {
				w.left.changes--
				w.requests[i] = asking{}
				w.deliver(n, Withdrawn{uint64(i + 1)})
			})
		}
	}
	if w.left.requests > 0 {
		for i, r := range w.requests {
			if r.id != 0 {
				continue
			}
			for v := range numVerbs {
				add(v.String(), func(w *world, n next) { w.left.requests--; w.request(n, i, v) })
			}
			break
		}
	}
	if w.left.changes > 0 {
		event("changed", Changed{Policy: w.m.Policy, Launch: true})
		if !w.m.Busy() {
			event("departed", Departed{})
		}
		for i := len(list) - 1; i >= 0 && (list[i].name == "changed" || list[i].name == "departed"); i-- {
			do := list[i].do
			list[i].do = func(w *world, n next) { w.left.changes--; do(w, n) }
		}
	}
	return list
}

func (w *world) request(n next, i int, v Verb) {
	r := asking{id: uint64(i + 1), verb: v}
	for j, d := range w.procs {
		known := d.where == ours || d.number == w.m.Run.Number || slices.Contains(w.m.Leaving(), d.number)
		if v != VerbStop || known { // one that a client has just launched elsewhere is not yet
			r.who[j] = d.number
		}
	}
	w.requests[i] = r
	w.quick, w.streakEnd = 0, false // what is launched now is launched for that
	w.deliver(n, Requested{ID: r.id, Verb: v})
}

// adopt tells of the daemon at the endpoint that a client has launched.
func (w *world) adopt(n next, listener bool) {
	d := w.server(theirs)
	if d == nil {
		d = w.server(ours)
	}
	if listener {
		for i := range w.procs {
			if w.procs[i].where == ours && w.procs[i].number != d.number {
				w.procs[i].where = nowhere
			}
		}
		d.where, w.at = ours, ours
	} else if d.where == theirs {
		for i := range w.procs {
			if w.procs[i].where == ours {
				w.procs[i].where = nowhere
			}
		}
	}
	w.binding, w.launching, w.streakEnd = false, false, false
	w.deliver(n, Adopted{Run: Run{d.number, d.backend, d.ready}, Listener: listener})
}

// answers are those to the effects under way.
func (w *world) answers(add func(string, func(*world, next))) {
	if w.binding {
		switch d := w.server(w.at); {
		case w.at == nowhere || d == nil:
			add("bound", func(w *world, n next) {
				for i := range w.procs {
					if w.procs[i].where == ours {
						w.procs[i].where = nowhere
					}
				}
				w.binding, w.listener, w.at, w.queue = false, true, ours, false
				w.deliver(n, Bound{})
			})
		default:
			add("somebody is there", func(w *world, n next) { w.adopt(n, false) })
			if d.backend {
				add("somebody is there, and hands over", func(w *world, n next) { w.adopt(n, true) })
			}
		}
		if w.left.faults > 0 {
			add("bind fails", func(w *world, n next) {
				w.left.faults--
				w.binding = false
				w.deliver(n, BindFailed{Reason: "no space"})
			})
		}
	}
	if w.launching {
		for _, backend := range []bool{true, false} {
			add(fmt.Sprintf("launched, backend %v", backend), func(w *world, n next) {
				where := ours
				d := w.spawn(where, backend)
				if d == nil {
					w.launching = false
					w.deliver(n, LaunchFailed{Reason: "too many processes"})
					return
				}
				w.launching = false
				w.deliver(n, Launched{Number: d.number, Backend: backend})
			})
		}
		if w.at == theirs && w.server(theirs) != nil {
			add("somebody else has bound", func(w *world, n next) { w.adopt(n, false) })
		}
		if w.left.faults > 0 {
			for _, died := range []bool{true, false} {
				add(fmt.Sprintf("launch fails, died %v", died), func(w *world, n next) {
					w.left.faults--
					w.launching = false
					if died {
						w.startFailed(w.now)
					}
					w.streakEnd = true
					w.deliver(n, LaunchFailed{Reason: "no such file", Died: died})
				})
			}
		}
	}
	if w.heir != 0 {
		add("no successor", func(w *world, n next) {
			number := w.heir
			w.heir, w.heirHere = 0, false
			w.deliver(n, SuccessorFailed{Number: number, Reason: "it failed"})
		})
		add("succeeded", func(w *world, n next) {
			number := w.heir
			w.heir, w.heirHere = 0, false
			old := w.find(number)
			where := ours
			if old != nil {
				where = old.where
			} else if w.m.State != Succeeding || !w.listener {
				where = theirs
				if w.server(theirs) != nil || w.server(ours) != nil {
					where = nowhere
				}
			}
			d := w.spawn(where, true)
			if d == nil {
				w.deliver(n, SuccessorFailed{Number: number, Reason: "too many processes"})
				return
			}
			if where == theirs {
				w.at = theirs
			}
			d.ready = true
			if old != nil && !old.leaving {
				old.leaving, old.drain, old.until = true, w.now, 0
			}
			w.deliver(n, Succeeded{Number: number, Run: Run{d.number, true, true}})
		})
	}
}

// daemonActions are what the ith process may do, and what may be seen of it.
func (w *world) daemonActions(i int, add func(string, func(*world, next))) {
	d := w.procs[i]
	act := func(name string, do func(*world, *daemon, next)) {
		add(fmt.Sprintf("%s %d", name, d.number), func(w *world, n next) { do(w, &w.procs[i], n) })
	}
	end := func(name string, end End, byUser, fault bool) {
		act(name, func(w *world, d *daemon, n next) {
			if fault {
				w.left.faults--
			}
			w.ends(n, d, end, byUser)
		})
	}
	if d.killed {
		end("is dead", EndKilled, false, false)
		return
	}
	if d.where == nowhere && d.backend && d.accepts() {
		act("stranded", func(w *world, d *daemon, n next) {
			d.leaving, d.drain, d.until = true, w.now, 0
			w.deliver(n, Leaving{d.number})
		})
	}
	if d.accepts() && !d.hung {
		if !d.ready {
			act("ready", func(w *world, d *daemon, n next) {
				d.ready, d.alive, d.until = true, w.now, 0
				w.deliver(n, Served{d.number})
			})
		}
		if (d.ready || !d.backend) && d.where == ours && w.listener && w.queue {
			act("accepts", func(w *world, d *daemon, n next) { w.queue, w.served = false, true })
		}
		if w.m.Policy.Watchdog > 0 && d.ready && d.alive != w.now {
			act("sign of life", func(w *world, d *daemon, n next) {
				d.alive = w.now
				w.deliver(n, Alive{Number: d.number})
			})
		}
	}
	if d.ready && d.accepts() && w.queue && d.where == ours && w.listener && !d.silent {
		act("unaccepted", func(w *world, d *daemon, n next) {
			d.silent = d.hung
			w.deliver(n, Unaccepted{Number: d.number, For: w.m.Policy.HangAfter, Answers: !d.hung})
		})
	}
	if d.capture != 0 && !d.captured {
		act("captured", func(w *world, d *daemon, n next) {
			d.captured = true
			w.deliver(n, Captured{Number: d.number})
		})
		if w.left.faults > 0 {
			act("captured under a debugger", func(w *world, d *daemon, n next) {
				w.left.faults--
				d.capture, d.silent = 0, false
				w.deliver(n, Captured{Number: d.number, Debugged: true})
			})
		}
	}
	if d.leaving {
		end("drained", EndClean, false, false)
	}
	if w.left.faults == 0 {
		return
	}
	end("crashes", EndSignal, false, true)
	end("is killed", EndKilled, false, true)
	end("vanishes", EndUnknown, false, true)
	end("is stopped by the user", EndTerminated, true, true)
	if (d.leaving || !d.ready) && !d.hung && d.until == 0 {
		act("asks for more time", func(w *world, d *daemon, n next) {
			w.left.faults--
			d.until = w.now + 30*time.Second
			w.deliver(n, Extended{d.number, 30 * time.Second})
		})
	}
	if !d.leaving {
		end("leaves", EndClean, false, true)
		act("drains by itself", func(w *world, d *daemon, n next) {
			w.left.faults--
			d.leaving, d.drain, d.until = true, w.now, 0
			w.deliver(n, Leaving{d.number})
		})
		if !d.hung {
			act("hangs", func(w *world, d *daemon, n next) { w.left.faults--; d.hung = true })
			act("despairs", func(w *world, d *daemon, n next) {
				w.left.faults--
				d.hung, d.despair = true, true
				w.deliver(n, Despaired{d.number})
			})
		}
	}
}

// calm lets everything go well from now on, and reports how long it took until a
// new client was served and all requests were answered, and what happened.
func (w *world) calm(n next) (trace []string, ok bool) {
	w.left = supplies{clients: 1, timers: 200}
	w.served = false
	began := w.now
	for range 300 {
		if w.broken != "" {
			return trace, false
		}
		for i := range w.procs {
			// Who is only reported is not replaced. Who loads for ever, and need not be
			// ready in time, cannot be told from one that loads. And who is a client's is
			// looked after by clients.
			d := &w.procs[i]
			if w.m.Policy.OnHang == definition.HangReport || !d.ready && w.m.Policy.ReadyWithin == 0 || d.where != ours || !w.listener {
				d.hung = false
			}
		}
		waiting := false
		for _, r := range w.requests {
			waiting = waiting || r.id != 0
		}
		d := w.server(theirs)
		elsewhere := w.at == theirs && d != nil && !d.hung
		if w.m.State == Ended || !waiting && (w.served || elsewhere || w.m.State == Disabled && !w.listener) {
			return trace, true
		}
		if w.now > began+10*time.Minute {
			return append(trace, "ten minutes are over"), false
		}
		if w.at == ours && w.listener && !w.queue && !w.served {
			w.left.clients = 1
		}
		list := w.actions()
		best := -1
		for i, a := range list {
			if best < 0 || calmness(a.name) < calmness(list[best].name) {
				best = i
			}
		}
		if best < 0 {
			return append(trace, "nothing will ever happen"), false
		}
		trace = append(trace, list[best].name)
		list[best].do(w, n)
	}
	return append(trace, "too many steps"), false
}

// calmness orders actions by how much one would wish for them; the timer comes when
// nothing else is left.
func calmness(name string) int {
	for i, prefix := range []string{"is dead", "drained", "captured", "bound", "somebody", "launched, backend true", "launched",
		"succeeded", "found", "noticed", "stranded", "ready", "readable", "accepts", "client", "sign of life", "unaccepted", "timer"} {
		if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			if name == "captured under a debugger" {
				break
			}
			return i
		}
	}
	return 100
}

// coarse is a policy whose times are few multiples of 5 s, so that a search has few
// of them.
func coarse(restart Restart) Policy {
	return Policy{
		Restart: restart, BackoffMin: 10 * time.Second, BackoffMax: 20 * time.Second, BackoffFactor: 2,
		BackoffReset: 20 * time.Second, ReadyWithin: 10 * time.Second, HangAfter: 10 * time.Second,
		OnHang: definition.HangReplace, StopWithin: 9 * time.Second,
	}
}

func newWorld(p Policy, left supplies) world {
	return world{m: New(p), now: time.Hour, left: left}
}
