package explore

import (
	"math/bits"
	"unsafe"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// The size of the simulated world. A search that needs more says so; nothing is
// dropped silently.
const (
	numClients = 3
	upgrader   = numClients     // the process that starts a successor, once
	broker     = numClients + 1 // the standing broker, one at a time
	numProcs   = numClients + 2
	numGens    = 6
	numSocks   = 5
	numDirs    = 2
)

// An id names a directory, a socket or a generation, from 1 on; 0 is none.
type id = uint8

// What a name or a process can lead to besides an id.
const (
	stale   id = 0xFF // a socket that nobody holds any more
	foreign id = 0xFE // a generation that is not on disk any more
)

// Who holds a directory's lock: a process, a generation that takes over, or
// nobody but copies of a descriptor whose owner is gone.
const (
	lockGen    uint8 = 0x40
	lockOrphan uint8 = 0xFF
)

// A state is the simulated kernel, everything on disk and every process. It is
// made of bytes alone, without padding, so that its memory is its encoding.
type state struct {
	path  id // the directory at the service's path
	left  faults
	dirs  [numDirs]dir
	socks [numSocks]sock
	gens  [numGens]gen // by number, the oldest first
	procs [numProcs]proc
	bro   bro
	stray stray
}

// faults are the disturbances that may still come.
type faults struct{ kills, deletions, failures, idles, strays, brokers uint8 }

// A dir is a directory inode and the names in it.
type dir struct {
	lock       uint8 // 0 if free
	sock, keep id
	current    id
	removed    bool // nothing can be made in it any more
	holder     bool // its link to the holder names a broker that lives
}

// A sock is a socket inode. It lives while a process has a descriptor of it.
type sock struct {
	used, listening, shut bool
	excused               bool  // who would have served it was killed, or failed
	queue                 uint8 // clients that are connected and not accepted
}

// A life is how far a generation's process is.
type life uint8

const (
	unspawned life = iota
	forked         // before its exec it has a copy of every descriptor of its launcher
	adopting
	loading
	taking  // a successor's takeover
	took    // the takeover is over, the connection to the old generation still open
	said    // its record says so
	serving // Serve runs from here on, and
	ending  // has a reason to end
	awaiting
	draining  // until its queue is empty
	lingering // for its open connections
	failing   // the verdict is written, the listener is open still
	dead
)

// A gen is a generation: its process, and its record.
type gen struct {
	used bool

	life     life
	sock     id // the listener
	open     uint8
	tenure   generation.Tenure
	gate     generation.Gate
	lost     bool // its successor's connection has ended
	hold     bool // a broker's connection for its hold is open
	holdLost bool // it has ended
	unheard  bool // whom it has succeeded died without a word who holds
	old      id   // whom it is to succeed
	linked   bool // its connection to the old one is open
	taking   launch.Taking
	takeDir  id    // the directory it has locked for that
	launcher uint8 // process + 1, 0xFE one that has ended well, 0 one that was killed
	reason   generation.Reason
	injected bool // it fails because a failure was injected

	onDisk    bool // its directory is in the one at the path
	pid       bool // its record names a process
	backend   bool
	wasReady  bool
	tookOver  bool
	phase     phase
	failure   failure
	launchedS uint8 // clients whose dial had begun when it was launched
	failedS   uint8 // and when it failed
}

// A phase is record.Phase as a byte.
type phase uint8

const (
	phLaunching phase = iota
	phBound
	phLoading
	phReady
	phDraining
	phGone
	phFailed
)

// A failure is what a record says of one.
type failure uint8

const (
	noFailure   failure = iota
	failLaunch          // the launcher's, in stage prepare, bind or spawn
	failAdopt           // the daemon's own words
	failLoad            //
	failKilled          // its launcher saw it die of SIGKILL
	failUnknown         // settled by a later launch
)

// A status is how far a process is with its one dial.
type status uint8

const (
	unborn status = iota
	running
	final // answered, told why not, or killed
)

// A proc is a client or the upgrader.
type proc struct {
	m      launch.Machine
	status status
	caused bool // what it fails with is an injected failure, or on record
	conn   bool // it is connected: queued at a socket or accepted by a generation
	broken bool // it was, and the connection was reset for a good reason
	look   id   // the socket that its connect has found by name
	dir    id   // the directory it has opened and locked
	gen    id   // the generation it makes
	sock   id   // the socket it has bound
	inode  id   // what it knows of it
	old    id   // whom it starts a successor for
	before id   // what current named when the launch was admitted
}

// A stray is a process that another part of a client's program has forked: until
// its exec it has copies of the client's descriptors.
type stray struct {
	dir  id // the directory whose lock it carries
	sock id
}

func (g *gen) alive() bool { return g.used && g.life > unspawned && g.life < dead }

// bytes is the state's encoding.
func (s *state) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
}

func (s *state) dir(d id) *dir {
	if d == 0 {
		return &dir{removed: true}
	}
	return &s.dirs[d-1]
}

// at is the directory at the path; of none, one without names.
func (s *state) at() *dir { return s.dir(s.path) }

// listens reports whether a connect to a socket can succeed.
func (s *state) listens(k id) bool {
	if k == 0 || k == stale {
		return false
	}
	o := &s.socks[k-1]
	return o.listening && !o.shut && s.held(k)
}

// held reports whether a process has a descriptor of the socket.
func (s *state) held(k id) bool { return s.stray.sock == k || s.heldBut(k) }

// heldBut is held without the stray.
func (s *state) heldBut(k id) bool {
	for i := range s.gens {
		if g := &s.gens[i]; g.sock == k && g.alive() {
			return true
		}
	}
	for i := range s.procs {
		if s.procs[i].sock == k {
			return true
		}
	}
	return s.bro.held == k
}

// willServe reports whether somebody has the socket who serves it, or is about to
// spawn who does.
func (s *state) willServe(k id) bool {
	for i := range s.gens {
		g := &s.gens[i]
		ceded := g.gate.Handed || g.gate.Paused && s.at().current != id(i+1) // its successor is the owner
		leaves := g.life == awaiting && g.tenure.Hold != generation.NotHeld && !g.tenure.Stranded
		if g.sock == k && g.alive() && g.life != failing && !ceded && !leaves {
			return true
		}
	}
	if s.bro.held == k && k != 0 {
		return true // who waits there is launched for
	}
	for i := range s.procs {
		if pr := &s.procs[i]; pr.sock == k && (pr.gen == 0 || s.gens[pr.gen-1].life == unspawned) {
			return true
		}
	}
	return false
}

// named reports whether a name at the path leads to the socket.
func (s *state) named(k id) bool {
	d := s.at()
	return k != 0 && k != stale && (d.sock == k || d.keep == k)
}

// active are the clients whose dial has begun and not ended.
func (s *state) active() (mask uint8) {
	for c := range numClients {
		if s.procs[c].status == running {
			mask |= 1 << c
		}
	}
	return mask
}

// A world is a state in a transition, and what the transition breaks.
type world struct {
	*state
	rules     *rules
	invariant string // "" if nothing is broken
	broken    string
	excuse    bool // what this transition closes was killed, or failed by an injected failure
}

// breaks notes the first broken invariant.
func (w *world) breaks(invariant, how string) {
	if w.invariant == "" {
		w.invariant, w.broken = invariant, how
	}
}

// bind makes a socket, not yet listening.
func (w *world) bind() id {
	for i := range w.socks {
		if !w.socks[i].used {
			w.socks[i] = sock{used: true}
			return id(i + 1)
		}
	}
	panic("explore: more sockets than the model has room for")
}

// generation makes a generation.
func (w *world) generation() id {
	for i := range w.gens {
		if !w.gens[i].used {
			w.gens[i] = gen{used: true}
			return id(i + 1)
		}
	}
	panic("explore: more generations than the model has room for")
}

// copied reports whether a fork copy carries the directory's lock.
func (w *world) copied(d id, owner uint8) bool {
	if w.stray.dir == d {
		return true
	}
	for i := range w.gens {
		if g := &w.gens[i]; g.used && g.life == forked && g.takeDir == d && (owner == lockOrphan || g.launcher == owner) {
			return true
		}
	}
	return false
}

// unlock frees the lock through whatever descriptors it is shared.
func (w *world) unlock(d id) {
	if d == 0 {
		return
	}
	w.dirs[d-1].lock = 0
	if w.stray.dir == d {
		w.stray.dir = 0 // it has a copy still, which carries nothing
	}
}

// closeDir closes a descriptor that carries the directory's lock.
func (w *world) closeDir(d id, owner uint8, killed bool) {
	if d == 0 || w.dirs[d-1].lock != owner {
		return
	}
	if !w.copied(d, owner) {
		w.dirs[d-1].lock = 0
		return
	}
	w.dirs[d-1].lock = lockOrphan
	if !killed {
		w.breaks("I4", "a launch lock outlives its holder, who was not killed, in a fork copy")
	}
}

// dropCopy is what an exec does to a fork copy of a lock.
func (w *world) dropCopy(d id) {
	if d != 0 && w.dirs[d-1].lock == lockOrphan && !w.copied(d, lockOrphan) {
		w.dirs[d-1].lock = 0
	}
}

// removeName unlinks a name, or puts another one over it. R7: nobody takes a
// name from a listener at the path that can be connected to.
func (w *world) removeName(d id, name *id) {
	if k := *name; k != 0 && k != stale && d == w.path && w.listens(k) && w.heldBut(k) {
		w.breaks("I1", "a listener that accepts loses its name")
	}
	*name = 0
}

// hangUp is the client closing its connection.
func (w *world) hangUp(c int) {
	w.procs[c].conn = false
	for i := range w.socks {
		w.socks[i].queue &^= 1 << c
	}
	for i := range w.gens {
		w.gens[i].open &^= 1 << c
	}
}

// reset is a client losing its connection before the first byte.
func (w *world) reset(c int, excused bool) {
	if !excused {
		w.breaks("I3", "a connection is dropped although nobody was killed and no launch failed")
	}
	w.hangUp(c)
	if w.procs[c].m.Step != launch.StepDone {
		w.procs[c].broken = true // it has the lock to give back first
		return
	}
	w.end(c, false)
}

// settle closes what lost its last descriptor in this transition.
func (w *world) settle() {
	for i := range w.socks {
		k := id(i + 1)
		o := &w.socks[i]
		if !o.used {
			continue
		}
		if w.excuse && !w.willServe(k) {
			o.excused = true
		}
		if w.held(k) {
			continue
		}
		for o.queue != 0 {
			c := bits.TrailingZeros8(o.queue)
			o.queue &^= 1 << c
			w.reset(c, o.excused)
		}
	}
}

// end ends a process, well or by a kill. What is left of it on record is whether
// it lives to see its daemon die.
func (w *world) end(p int, killed bool) {
	w.procs[p] = proc{status: final}
	for i := range w.gens {
		g := &w.gens[i]
		if p < numClients {
			g.launchedS &^= 1 << p
			g.failedS &^= 1 << p
		}
		if g.launcher == uint8(p+1) {
			if g.launcher = foreign; killed {
				g.launcher = 0
			}
		}
	}
}

// killProc ends a process with SIGKILL: the kernel closes what it has.
func (w *world) killProc(p int) {
	pr := w.procs[p]
	if pr.conn {
		w.hangUp(p)
	}
	w.excuse = true
	w.procs[p].sock, w.procs[p].dir = 0, 0
	w.closeDir(pr.dir, uint8(p+1), true)
	w.end(p, true)
	if p == broker {
		w.brokerGone()
	}
}

// die ends a generation's process.
func (w *world) die(g id) {
	o := &w.gens[g-1]
	if o.life == forked {
		d := o.takeDir
		o.life, o.takeDir = dead, 0
		w.dropCopy(d)
	}
	w.closeDir(o.takeDir, lockGen+g, true)
	o.life, o.sock, o.takeDir, o.hold, o.holdLost = dead, 0, 0, false, false
	if o.linked {
		o.linked = false
		w.gens[o.old-1].lost = true
	}
	for o.open != 0 {
		c := bits.TrailingZeros8(o.open)
		o.open &^= 1 << c
		w.reset(c, w.excuse)
	}
}
