// Package explore searches every interleaving of clients, daemons, an idle exit
// and an upgrade for one that breaks an invariant of the launch protocol.
//
// What decides is the real code: launch.Machine and launch.Admits for who dials
// and launches, launch.Taking for a successor, generation.Tenure, Gate and Need
// for a daemon. What they decide about is simulated: a kernel with directories,
// locks, sockets, queues and fork copies, and the effects of package launch and
// daemon on it, written after the real drivers one step at a time.
//
// A search is explicit and breadth-first, so that what it finds first is a
// shortest way to break something; it ends when there is no new state. States
// are kept as 64-bit hashes, so that one in a hundred million searches of ten million
// states overlooks one.
package explore

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unsafe"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// A Config is what is searched.
type Config struct {
	Clients   int   // that dial, once each; at most 3
	NoUpgrade bool  // nobody starts a successor
	Warm      bool  // begin with a daemon that serves, too
	Kills     uint8 // of any process, anywhere, with SIGKILL
	Deletions uint8 // by an outsider
	Failures  uint8 // of one effect each
	Idles     uint8 // daemons that find themselves idle
	Brokers   uint8 // standing brokers, one after the other
	Spent     bool  // begin with two launches that have failed just now
	Strays    uint8 // forks in a client's program that copy its descriptors
	Backlog   int   // connections that a queue holds
	Split     bool  // a connect looks its name up first, and things can change before it connects

	MaxStates int // gives up beyond, 0: never
}

// A Report is what a search has found.
type Report struct {
	States  int
	Edges   int
	Depth   int
	Fixed   bool // nothing is left to search
	Outcome Outcome
	Trace   []string // a shortest way to it
	Seen    Seen
}

// Seen counts the outcomes of launch steps that a search has come by.
type Seen map[launch.Step]map[launch.Outcome]int

// An Outcome is the first broken invariant, zero without one.
type Outcome struct{ Invariant, How string }

// A kind says what kind of transition one is.
type kind uint8

const (
	progress kind = iota // what is running goes on
	option               // something that need not happen
	fault
)

// A label tells a transition in a trace.
type label struct {
	who  byte // 'd' a daemon, 'w' its launcher, 'o' an outsider, else a process's number
	id   id
	what string
	how  string
}

var clientNames = [numClients]string{"client A", "client B", "client C"}

func (l label) String() string {
	var b strings.Builder
	switch l.who {
	case 'd':
		fmt.Fprintf(&b, "generation %d: ", l.id)
	case 'w':
		fmt.Fprintf(&b, "launcher of generation %d: ", l.id)
	case 'o':
		b.WriteString("outsider: ")
	case 's':
		b.WriteString("fork copy: ")
	case upgrader:
		b.WriteString("upgrader: ")
	case broker:
		b.WriteString("broker: ")
	default:
		b.WriteString(clientNames[l.who] + ": ")
	}
	b.WriteString(l.what)
	if l.how != "" {
		b.WriteString(" " + l.how)
	}
	return b.String()
}

// rules are the decisions and effects that a mutant can replace one of.
type rules struct {
	backlog   int
	deletions uint8 // that there can be

	next  func(launch.Machine, launch.Outcome) launch.Machine
	step  func(*world, int, launch.Step) (launch.Outcome, bool)
	take  func(launch.Taking, launch.Outcome) launch.Taking
	order func(generation.Tenure) (generation.Tenure, bool)
	part  func(generation.Tenure, bool) (generation.Tenure, generation.Parting)
	ends  func(generation.Tenure, generation.Reason) (generation.Tenure, bool)
	drain func(generation.Tenure, bool) (generation.Tenure, generation.Drain)

	end      func(*world, id, generation.Drain)
	lose     func(*world, id)
	taken    func(*world, id)
	takeStep func(*world, id, launch.TakeStep) launch.Outcome
	accepts  func(*gen) bool
	holds    func(generation.Tenure) (generation.Tenure, error)
	adopt    func(*world) // a broker asks who serves for the listener

	heldStill func(*state, id) generation.Tenure // of a daemon that comes to end
	loseHold  func(generation.Tenure, generation.Hold) generation.Tenure
	server    func(*state) id // who serves, as a broker finds it
	mark      func(*world)
	asked     func(*gen) bool // whether a daemon can be asked for a hold
	blind     bool            // a broker does not watch its names

	upgraderDrives bool // a takeover goes on only while the upgrader lives
	ignoresLock    bool // a takeover waits for no lock
	impatient      bool // a daemon exits whoever is connected
	lockFile       bool // an outsider can delete the lock and leave the rest

	// fused steps are taken in one where their order among themselves is all that
	// anybody can tell: see calm.
	fused bool
}

func realRules() *rules {
	return &rules{
		next: launch.Machine.Next, step: step, take: launch.Taking.Next,
		order: generation.Tenure.Order, part: generation.Tenure.Lose, ends: generation.Tenure.End, drain: generation.Tenure.Drain,
		end: end, lose: lose, taken: taken, takeStep: takeStep, accepts: accepts,
		holds: generation.Tenure.TakeHold, adopt: adopt, heldStill: (*state).heldStill,
		mark: mark, loseHold: generation.Tenure.LoseHold, server: (*state).server, asked: asked,
		fused: true,
	}
}

// An explorer is one search.
type explorer struct {
	config Config
	rules  *rules

	seed    maphash.Seed
	visited table
	parents []uint32 // of each state, itself for a first one
	ends    []uint32 // where a state's edges end
	edges   []uint32 // that progress alone takes
	quiet   []bool   // nothing is left to do
	states  []state  // of this depth
	later   []state
	outcome Outcome
	lastBad uint32 // the state before the broken invariant
	seen    Seen

	current uint32
	emit    func(label, kind, *world) // what to do with a transition

	onAdd, onQuiet func(*state) // for tests, or nil
}

// Run searches.
func Run(c Config) Report { return run(c, realRules()) }

func run(c Config, r *rules) Report {
	return newExplorer(c, r).search()
}

func newExplorer(c Config, r *rules) *explorer {
	r.backlog, r.deletions = c.Backlog, c.Deletions
	return &explorer{config: c, rules: r, seed: maphash.MakeSeed(), seen: Seen{}}
}

func (x *explorer) search() Report {
	c := x.config
	x.emit = x.visit
	for _, s := range x.first() {
		x.add(&s, uint32(len(x.parents)))
	}
	report := Report{Fixed: true, Seen: x.seen}
	done := uint32(0)
	for len(x.later) > 0 && x.outcome == (Outcome{}) {
		x.states, x.later = x.later, x.states[:0]
		report.Depth++
		for i := range x.states {
			x.current = done
			x.expand(&x.states[i])
			x.ends = append(x.ends, uint32(len(x.edges)))
			done++
			if x.outcome != (Outcome{}) {
				break
			}
		}
		if c.MaxStates > 0 && len(x.parents) > c.MaxStates {
			report.Fixed = false
			break
		}
	}
	report.States, report.Edges = len(x.parents), len(x.edges)
	if x.outcome == (Outcome{}) && report.Fixed {
		x.live()
	}
	if report.Outcome = x.outcome; x.outcome != (Outcome{}) {
		report.Fixed = false
		report.Trace = x.trace()
	}
	return report
}

// first are the states that a search begins with.
func (x *explorer) first() []state {
	c := x.config
	var cold state
	cold.left = faults{c.Kills, c.Deletions, c.Failures, c.Idles, c.Strays, c.Brokers}
	for p := c.Clients; p < numClients; p++ {
		cold.procs[p].status = final
	}
	if c.Spent {
		cold.path = 1
		for i := range 2 {
			cold.gens[i] = gen{used: true, life: dead, onDisk: true, pid: true, backend: true, phase: phFailed, failure: failLoad}
		}
		return []state{cold}
	}
	if !c.Warm {
		return []state{cold}
	}
	warm := cold
	warm.path = 1
	warm.dirs[0] = dir{sock: 1, keep: 1, current: 1}
	warm.socks[0] = sock{used: true, listening: true}
	g := gen{used: true, sock: 1, launcher: foreign, onDisk: true, pid: true, backend: true, tenure: generation.Tenure{Bound: true}}
	g.serve()
	warm.gens[0] = g
	return []state{cold, warm}
}

// try makes one transition of a copy of the state.
func (x *explorer) try(s *state, l label, k kind, f func(*world)) {
	t := *s
	w := world{state: &t, rules: x.rules}
	f(&w)
	w.settle()
	w.check()
	x.emit(l, k, &w)
}

// faulty reports whether more may be disturbed: not when the last dial has ended.
// What can be seen then, a search of one client less has seen, whose dial is still
// to come.
func (x *explorer) faulty(s *state) bool {
	for c := range numClients {
		if s.procs[c].status != final {
			return true
		}
	}
	return false
}

// calm reports whether no disturbance is left. Then what a process does under the
// launch lock between two steps that others can see is one step to them, and so is
// what a daemon does between its exec and Load: only a fault in the midst of it
// would show the rest what is half done.
func (x *explorer) calm(s *state) bool {
	l := s.left
	return x.rules.fused && l.kills+l.deletions+l.failures+l.strays == 0
}

// expand makes every transition of a state.
func (x *explorer) expand(s *state) {
	faulty := x.faulty(s)
	for p := range numProcs {
		x.stepProc(s, p)
		if faulty && s.left.kills > 0 && s.procs[p].status == running {
			x.try(s, label{who: byte(p), what: "killed with SIGKILL"}, fault, func(w *world) {
				w.left.kills--
				w.killProc(p)
			})
		}
		if pr := &s.procs[p]; faulty && s.left.strays > 0 && pr.dir != 0 && s.dir(pr.dir).lock == uint8(p+1) {
			x.try(s, label{who: byte(p), what: "forks in another thread"}, fault, func(w *world) {
				w.left.strays--
				w.stray = stray{dir: pr.dir, sock: pr.sock}
			})
		}
	}
	for i := range numGens {
		g := id(i + 1)
		x.stepGen(s, g)
		if faulty && s.left.kills > 0 && s.gens[i].alive() {
			x.try(s, label{'d', g, "killed with SIGKILL", ""}, fault, func(w *world) {
				w.left.kills--
				w.excuse = true
				w.die(g)
			})
		}
	}
	x.stepBroker(s)
	if s.stray != (stray{}) {
		x.try(s, label{who: 's', what: "exec"}, progress, func(w *world) {
			d := w.stray.dir
			w.stray = stray{}
			w.dropCopy(d)
		})
	}
	if faulty && s.left.deletions > 0 && s.path != 0 {
		x.meddle(s)
	}
}

// meddle emits what an outsider can delete.
func (x *explorer) meddle(s *state) {
	do := func(what string, f func(*world, *dir)) {
		x.try(s, label{who: 'o', what: what}, fault, func(w *world) {
			w.left.deletions--
			f(w, w.at())
		})
	}
	d := s.at()
	if d.sock != 0 {
		do("deletes sock", func(w *world, d *dir) { d.sock = 0 })
	}
	if d.keep != 0 {
		do("deletes keep", func(w *world, d *dir) { d.keep = 0 })
	}
	if d.sock != 0 && d.keep != 0 {
		do("deletes sock and keep", func(w *world, d *dir) { d.sock, d.keep = 0, 0 })
	}
	if d.current != 0 {
		do("deletes current", func(w *world, d *dir) { d.current = 0 })
	}
	gone := func(w *world) {
		w.at().holder = false
		w.path = 0
		for i := range w.gens {
			w.gens[i].onDisk = false
		}
	}
	do("deletes the directory", func(w *world, d *dir) {
		d.sock, d.keep, d.current, d.removed = 0, 0, 0, true
		gone(w)
	})
	do("moves the directory away", func(w *world, d *dir) { gone(w) })
	if x.rules.lockFile && d.lock != 0 {
		do("deletes the lock file", func(w *world, d *dir) { d.lock = 0 })
	}
}

// visit takes up a transition's state.
func (x *explorer) visit(_ label, k kind, w *world) {
	if x.outcome != (Outcome{}) {
		return
	}
	if w.invariant != "" {
		x.outcome, x.lastBad = Outcome{w.invariant, w.broken}, x.current
		return
	}
	w.canon(true)
	to := x.add(w.state, x.current)
	if k == progress && to != x.current {
		x.edges = append(x.edges, to)
	}
}

// add returns the number of a state in canonical form, a new one if it is new.
func (x *explorer) add(s *state, parent uint32) uint32 {
	n := uint32(len(x.parents))
	at, found := x.visited.put(maphash.Bytes(x.seed, s.bytes()), n)
	if found {
		return at
	}
	x.parents = append(x.parents, parent)
	quiet := s.isQuiet()
	x.quiet = append(x.quiet, quiet)
	if x.onAdd != nil {
		x.onAdd(s)
	}
	if quiet && x.onQuiet != nil {
		x.onQuiet(s)
	}
	x.later = append(x.later, *s)
	return n
}

var stuck = Outcome{"I4", "whatever goes on, a dial waits for ever, or a daemon that nobody can reach lives on"}

// live looks for a state from which progress alone does not lead to quiet. It
// marks what does, against the direction of the edges: a state's edges lead to
// later ones mostly, so that few rounds do.
func (x *explorer) live() {
	good := slices.Clone(x.quiet)
	for changed := true; changed; {
		changed = false
		for i := len(good) - 1; i >= 0; i-- {
			if good[i] {
				continue
			}
			begin := uint32(0)
			if i > 0 {
				begin = x.ends[i-1]
			}
			for _, to := range x.edges[begin:x.ends[i]] {
				if good[to] {
					good[i], changed = true, true
					break
				}
			}
		}
	}
	if i := slices.Index(good, false); i >= 0 {
		x.outcome = stuck
		x.lastBad = uint32(i)
	}
}

// trace tells the way to the broken invariant. Clients keep their names in it, as
// they do not in the search.
func (x *explorer) trace() []string {
	var way []uint32
	for i := x.lastBad; ; i = x.parents[i] {
		way = append(way, i)
		if x.parents[i] == i {
			break
		}
	}
	slices.Reverse(way)
	s := x.first()[way[0]]
	var told []string
	if way[0] != 0 {
		told = append(told, "a daemon, generation 1, serves")
	}
	for i := 0; ; i++ {
		var next *state
		var how string
		last := i == len(way)-1
		x.emit = func(l label, _ kind, w *world) {
			if next != nil {
				return
			}
			if w.invariant != "" {
				if last {
					next, how = w.state, l.String()
				}
				return
			}
			if last {
				return
			}
			same := *w.state
			same.canon(true)
			if at, found := x.visited.get(maphash.Bytes(x.seed, same.bytes())); found && at == way[i+1] {
				w.canon(false)
				next, how = w.state, l.String()
			}
		}
		x.expand(&s)
		if next == nil {
			return told // it is about the state, not about a transition
		}
		told = append(told, how)
		if last {
			return told
		}
		s = *next
	}
}

// machineBytes is a machine's encoding.
func machineBytes(m *launch.Machine) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}

// A table maps hashes to the numbers of states, by open addressing.
type table struct {
	keys []uint64
	at   []uint32
	used int
}

// find returns the place of a hash, which is never 0 there.
func (t *table) find(h uint64) int {
	for i := h & uint64(len(t.keys)-1); ; i = (i + 1) & uint64(len(t.keys)-1) {
		if t.keys[i] == h || t.keys[i] == 0 {
			return int(i)
		}
	}
}

func (t *table) get(h uint64) (uint32, bool) {
	h |= 1
	i := t.find(h)
	return t.at[i], t.keys[i] == h
}

// put returns the number of a hash, n if it is new.
func (t *table) put(h uint64, n uint32) (at uint32, found bool) {
	h |= 1
	if 4*t.used >= 3*len(t.keys) {
		old := *t
		size := max(1<<16, 2*len(old.keys))
		*t = table{keys: make([]uint64, size), at: make([]uint32, size), used: old.used}
		for i, k := range old.keys {
			if k != 0 {
				j := t.find(k)
				t.keys[j], t.at[j] = k, old.at[i]
			}
		}
	}
	i := t.find(h)
	if t.keys[i] == h {
		return t.at[i], true
	}
	t.keys[i], t.at[i] = h, n
	t.used++
	return n, false
}
