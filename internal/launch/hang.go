package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A generation is hung if it answers neither a client nor, however long that is
// asked, its control endpoint, which package daemon serves apart from the
// backend's work. Who answers there is busy, whatever its clients wait for (R25).
//
// An overloaded machine can make anything slow, so one that runs has to be
// silent for hangConfirm, and then once more under the launch lock. Only the
// kernel's word that all its threads are stopped makes waiting pointless.

// Bounds of what is done about a silent generation.
const (
	hangConfirm = 5 * time.Second  // silence at the control endpoint of a process that runs
	hangRecheck = time.Second      // more of it, under the launch lock
	hangLock    = 2 * time.Second  // for the launch lock, which a successor that hangs may hold
	hangStacks  = 2 * time.Second  // for a Go program to write its goroutines' stacks
	hangDeath   = 5 * time.Second  // for the kernel to end it
	hangWithin  = 30 * time.Second // for all of it, with lock and launch
	hangEvery   = time.Minute      // between two reports on one generation
)

// A control reply is what came of asking a generation's control endpoint.
type controlReply uint8

const (
	controlSilent   controlReply = iota // connected, or its queue is full, and no word
	controlAnswered                     // it said something, or hung up
	controlUnasked                      // there is nobody to ask: a cleaner took its name, or it ends
)

// hangSeen is what was seen of a generation that left a client unanswered.
type hangSeen struct {
	alive    bool
	foreign  bool // it has no control endpoint
	adopting bool // it was launched so recently that it need not have adopted yet
	stopped  bool // the kernel says that no thread of it runs
	traced   bool // a debugger holds it
	handle   bool // its process can be signalled
	control  controlReply
	silence  time.Duration // how long its control endpoint was asked in vain
	policy   definition.HangPolicy
	reported time.Duration // since the last report on it, negative without one
}

// hangAct is what is to be done.
type hangAct uint8

const (
	hangLeave   hangAct = iota // it is not hung, or nobody can tell
	hangAskOn                  // not known yet
	hangKnown                  // hung, and everything was done about it
	hangReport                 // hung: evidence
	hangReplace                // hung: evidence, kill, next generation
)

// decideHang decides from what was seen. It is all there is to decide: the
// effects are in inquiry.act.
func decideHang(o hangSeen) hangAct {
	switch {
	case !o.alive, o.foreign:
		return hangLeave
	case o.stopped:
		// No answer can come.
	case o.adopting, o.control != controlSilent:
		return hangLeave
	case o.silence < hangConfirm:
		return hangAskOn
	}
	if o.policy == definition.HangReplace && o.handle && !o.traced {
		return hangReplace
	}
	// Who looks at it with a debugger is not to lose it.
	if o.reported >= 0 && o.reported < hangEvery {
		return hangKnown
	}
	return hangReport
}

// A Silence is a connection whose daemon has not answered.
type Silence struct {
	Peer int           // pid of who listened when it was made, 0 if unknown
	For  time.Duration // since its first write
}

// generation picks the living one that the connection was to, as Lost does. A
// connection that is open is to one that lives: if that is nobody's listener who
// was there when it was made, then the heir's of one that has died since.
func (s Silence) generation(dir string, entries []Entry) *Entry {
	name := current(dir)
	matches := []func(*Entry) bool{
		func(e *Entry) bool { return s.Peer != 0 && e.Record.PID == s.Peer },
		func(e *Entry) bool { return s.Peer != 0 && e.Record.Launcher == s.Peer },
		func(e *Entry) bool { return s.Peer == 0 && e.Name == name },
	}
	for _, match := range matches {
		for i := range entries {
			if e := &entries[i]; e.known() && match(e) {
				return e
			}
		}
	}
	for _, match := range matches {
		for i := range entries {
			if !match(&entries[i]) {
				continue
			}
			if h := heir(entries, &entries[i]); h != nil {
				return h
			}
		}
	}
	return nil
}

// known reports whether the generation lives and says who it is.
func (e *Entry) known() bool { return e.Alive && e.Err == nil && thisBoot(e.Record) }

// heir is the living generation that has, or will have, the listener of one that
// is dead: its successor, or that one's.
func heir(entries []Entry, of *Entry) *Entry {
	for i := range entries {
		e := &entries[i]
		if e.Record.Succeeds != of.Name || e.Number <= of.Number {
			continue
		}
		if e.known() {
			return e
		}
		if h := heir(entries, e); h != nil {
			return h
		}
	}
	return nil
}

// Hang asks whether the generation that left a client unanswered is hung, and
// does what the definition says about one that is. It returns nil for one that
// is not, or of which nobody can tell: a foreign daemon has nothing to be asked at.
//
// It waits until that is known and done, or until ctx ends: then it returns what
// is known, and what was begun goes on within its bounds, since most callers
// give up at about this time. However many ask in a process, one acts; of
// several processes one acts, by the launch lock, and the others find it done.
func (b *Broker) Hang(ctx context.Context, s Silence) *Fault {
	q := b.inquire(s)
	select {
	case <-q.done:
		return q.fault
	case <-ctx.Done():
	}
	select {
	case <-q.done:
		return q.fault
	case <-q.certain:
		return q.suspected
	default:
		return nil
	}
}

// An inquiry is one look at a silent generation, for all who ask in a process.
type inquiry struct {
	b *Broker
	s Silence

	certain   chan struct{} // closed when suspected is set: it is hung
	suspected *Fault
	done      chan struct{} // closed when fault is set
	fault     *Fault        // nil: it is not hung
}

type inquiryKey struct {
	service string
	peer    int
}

// inquiries are those under way, one for each generation that is asked about.
var inquiries = struct {
	mu sync.Mutex
	m  map[inquiryKey]*inquiry // guarded by mu
}{m: map[inquiryKey]*inquiry{}}

func (b *Broker) inquire(s Silence) *inquiry {
	key := inquiryKey{b.key(), s.Peer}
	inquiries.mu.Lock()
	defer inquiries.mu.Unlock()
	q := inquiries.m[key]
	if q == nil {
		q = &inquiry{b: b, s: s, certain: make(chan struct{}), done: make(chan struct{})}
		inquiries.m[key] = q
		go q.run(key)
	}
	return q
}

func (q *inquiry) run(key inquiryKey) {
	ctx, cancel := context.WithTimeout(context.Background(), hangWithin)
	defer cancel()
	q.fault = q.inquire(ctx)
	inquiries.mu.Lock()
	delete(inquiries.m, key)
	inquiries.mu.Unlock()
	close(q.done)
}

func (q *inquiry) inquire(ctx context.Context) *Fault {
	b := q.b
	place, err := b.find()
	if err != nil {
		return nil
	}
	entries, err := Generations(place.Dir)
	if err != nil {
		return nil
	}
	e := q.s.generation(place.Dir, entries)
	if e == nil {
		return nil
	}
	seen := b.lookAt(ctx, place, *e, 0)
	answers := decideHang(seen) == hangLeave
	if answers {
		// It may accept nobody because a successor has ordered it so, and hangs.
		if e = heir(entries, e); e == nil {
			return nil
		}
		seen = b.lookAt(ctx, place, *e, 0)
	}
	switch act := decideHang(seen); {
	case act == hangLeave, act == hangAskOn:
		return nil
	case answers: // whether it is the successor's doing shows under the launch lock
	case act == hangKnown:
		return b.hungFault(*e, q.s, seen)
	default:
		q.suspected = b.hungFault(*e, q.s, seen)
		close(q.certain)
	}
	next, fault := q.act(ctx, place, *e, answers, seen.silence)
	if next && len(b.Def.Command) > 0 {
		// So that the next dial is warm. One that fails is in the journal.
		o, _ := b.Ensure(ctx, b.Mode(), StepLock, proc.BootTime())
		if o.Conn != nil {
			_ = o.Conn.Close()
		}
	}
	return fault
}

// lookAt looks at a generation and asks its control endpoint for as long as it
// takes to be sure. asked is how long that was silent before.
func (b *Broker) lookAt(ctx context.Context, place runtimedir.Place, e Entry, asked time.Duration) hangSeen {
	r := e.Record
	def := r.Definition.Complete()
	now := proc.BootTime()
	o := hangSeen{
		alive: e.Alive, foreign: def.Foreign && !r.Backend,
		adopting: !r.Backend && now-r.LaunchedBoot < def.AdoptWithin+def.BoundWithin,
		policy:   definition.HangReplace, reported: -1, silence: asked,
	}
	// Of two tools that share a daemon either may want it left alone.
	if b.Def.OnHang == definition.HangReport || def.OnHang == definition.HangReport {
		o.policy = definition.HangReport
	}
	if r.HungAt != 0 && r.HungAt <= now {
		o.reported = now - r.HungAt
	}
	if h, err := e.Open(); err == nil {
		st, _ := h.State()
		o.handle, o.stopped, o.traced = true, st.Stopped, st.Tracer != 0
		_ = h.Close()
	} else if errors.Is(err, proc.ErrGone) && r.PID != 0 {
		o.alive = false
	}
	if !o.alive || o.foreign || o.stopped || o.adopting {
		return o // what is asked would change nothing
	}
	patience := hangConfirm
	if asked > 0 {
		patience = hangRecheck
	}
	began := time.Now()
	o.control = askControl(ctx, place, e.Name, patience)
	o.silence += time.Since(began)
	return o
}

// askControl asks a generation's control endpoint who it is. One question is
// asked for all of the time: it waits in the daemon's queue, to be answered when
// the daemon next runs.
func askControl(ctx context.Context, place runtimedir.Place, name string, patience time.Duration) controlReply {
	actx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path := place.Ctl(name)
	for {
		conn, reach, _ := endpoint.Connect(actx, path)
		switch reach {
		case endpoint.Reached:
			c := control.NewClient(conn)
			_, err := c.Identify(actx, Nonce())
			c.Close()
			if ctx.Err() != nil {
				return controlUnasked
			}
			if errors.Is(err, context.DeadlineExceeded) {
				return controlSilent
			}
			return controlAnswered
		case endpoint.Busy:
			// Many ask, and nobody is answered.
			if sleep(actx, maxDialPause) == nil {
				continue
			}
			if ctx.Err() == nil {
				return controlSilent
			}
		}
		return controlUnasked
	}
}

// act looks again under the launch lock, since others may have acted meanwhile,
// and does what is left to do. It reports whether a next generation is to be
// launched.
//
// beside is whether the generation is the successor of one that answers: it is left
// alone unless it is taking over, since until then that one serves.
func (q *inquiry) act(ctx context.Context, place runtimedir.Place, e Entry, beside bool, asked time.Duration) (next bool, f *Fault) {
	b := q.b
	taking := e.Record.Succeeds != "" && !e.Record.WasReady // or is about to
	unlock, err := b.lockBeside(ctx, place, taking)
	if err != nil {
		return false, q.suspected
	}
	locked := unlock != nil
	if locked {
		defer unlock()
	}
	entries, err := Generations(place.Dir)
	if err != nil {
		return false, q.suspected
	}
	name, old := e.Name, e.Record.Succeeds
	e = Entry{}
	served := false // by its predecessor, which accepts again when it is dead
	for _, have := range entries {
		if have.Name == name {
			e = have
		}
		served = served || taking && have.Name == old && have.Alive
	}
	switch {
	case !e.Alive && served: // somebody else has ended it
		return false, nil
	case !e.Alive:
		return false, b.hungBefore(e)
	case beside && locked && IsNamed(place.Dir, e.Record.Inode):
		return false, nil // it loads
	}
	seen := b.lookAt(ctx, place, e, asked)
	fault := b.hungFault(e, q.s, seen)
	if !locked && fault.Cure != "" {
		fault.Cure = "end process " + strconv.Itoa(e.Record.PID) + ", which may hold the launch lock"
	}
	act := decideHang(seen)
	switch act {
	case hangLeave, hangAskOn:
		return false, b.hungBefore(Entry{})
	case hangKnown:
		return false, fault
	}
	h, err := e.Open()
	if err == nil {
		defer h.Close()
	} else if act == hangReplace {
		return false, b.hungBefore(e) // it has ended this instant
	}
	path := filepath.Join(e.Dir, record.FileName)
	log := b.evidence(place, e, h, fault)
	if act == hangReport {
		_ = record.Append(path, record.Int("hung-at", proc.BootTime()))
		b.Note(place.Root, hungEvent(e, q.s, fault, "left as it is"))
		fault.tail(log, e.Record.LogOffset)
		return false, fault
	}
	b.Note(place.Root, hungEvent(e, q.s, fault, "killed, to be replaced"))
	failure := newFailure(fault.Stage, fault.Err, proc.BootTime(), time.Now())
	failure.Kind = KindHung
	// Before the kill: whoever sees it die writes as well, and the first cause is
	// the one that is kept.
	_ = record.Append(path, record.CauseLines(failure)...)
	if !seen.stopped {
		// The Go runtime writes the stacks of all goroutines, and ends.
		endBy(ctx, h, syscall.SIGQUIT, hangStacks)
	}
	if !endBy(ctx, h, syscall.SIGKILL, hangDeath) {
		// It waits in the kernel and takes no signal yet, and holds a listener that
		// clients would go on connecting to: they get another one.
		if locked {
			removeNamesLocked(place.Dir, e.Record.Inode)
		}
		fault.tail(log, e.Record.LogOffset)
		return locked, fault
	}
	if exit, ended := h.Exit(); ended && exit.Known {
		setExit(&failure, exit)
	}
	_ = record.Append(path, record.FailureLines(failure)...)
	if served {
		return false, nil
	}
	fault.Status, fault.Signal = failure.Status, failure.Signal
	fault.tail(log, e.Record.LogOffset)
	return true, fault
}

// lockBeside takes the launch lock. A successor that hangs while it takes over has
// it, and nobody else will: unlock is nil if there may be such a one, and the lock
// was not to be had for hangLock. Several processes may act then: each writes its
// evidence, and what more the second one does is done already.
func (b *Broker) lockBeside(ctx context.Context, place runtimedir.Place, taking bool) (unlock func(), err error) {
	within, cancel := context.WithTimeout(ctx, hangLock)
	defer cancel()
	if !taking {
		within = ctx
	}
	unlock, err = b.lockService(within, place)
	switch {
	case err != nil && within.Err() != nil && ctx.Err() == nil:
		return nil, nil
	case err == nil && unlock == nil:
		return nil, fs.ErrNotExist
	}
	return unlock, err
}

// hungBefore is the fault of a generation that was found dead, or answering: nil,
// unless somebody else has killed it for its hanging.
func (b *Broker) hungBefore(e Entry) *Fault {
	if f := e.Record.Failure; f != nil && f.Kind == KindHung {
		return RecordedFault(e.Record)
	}
	return nil
}

// endBy sends a signal and waits for the process's end.
func endBy(ctx context.Context, h *proc.Handle, sig syscall.Signal, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := h.Signal(sig); err != nil && !errors.Is(err, proc.ErrGone) {
		return false
	}
	return h.Wait(ctx) == nil
}

// hungFault is the fault of a generation that is hung.
func (b *Broker) hungFault(e Entry, s Silence, seen hangSeen) *Fault {
	text := "hung: no answer for " + s.For.Round(time.Millisecond).String() + ", nor from its control endpoint; last phase " +
		string(e.Record.Phase)
	if e.Record.PID != 0 {
		text += "; process " + strconv.Itoa(e.Record.PID) + " is " + seen.process()
	}
	f := b.fault(Hung, stageOf(e.Record), errors.New(text))
	f.Generation, f.Log = e.Number, e.Record.Log
	if seen.policy == definition.HangReport || seen.traced {
		f.Cure = "end it: fastbind restart " + b.Def.Service
	}
	return f
}

func (o hangSeen) process() string {
	switch {
	case o.traced:
		return "held by a debugger"
	case o.stopped:
		return "stopped"
	}
	return "running"
}

// tail takes the last lines of the log, which the evidence has lengthened.
func (f *Fault) tail(log string, offset int64) {
	if log != "" {
		f.Log = log
		f.LogTail, _ = journal.Tail(log, offset, tailLines, tailBytes)
	}
}

// hungEvent is what the journal keeps of a hang.
func hungEvent(e Entry, s Silence, f *Fault, done string) journal.Event {
	reason := strings.TrimPrefix(f.Err.Error(), "hung: ")
	return journal.Event{Kind: "hung", Generation: e.Number, PID: e.Record.PID, Reason: reason + "; " + done,
		Fields: []journal.Field{
			{Key: "stage", Value: f.Stage}, {Key: "phase", Value: string(e.Record.Phase)},
			{Key: "silent_ms", Value: strconv.FormatInt(s.For.Milliseconds(), 10), Number: true},
		}}
}

// evidence writes what is known of a hung process into the service's log and
// returns its path, "" if it cannot be written. h may be nil.
func (b *Broker) evidence(place runtimedir.Place, e Entry, h *proc.Handle, f *Fault) string {
	path := e.Record.Log
	if path == "" { // started by hand: its output is its user's, the evidence ours
		state, err := b.Env.State(place.Root, b.Def.Instance)
		if err != nil {
			return ""
		}
		path = logPath(state, b.DirName())
	}
	var text strings.Builder
	say := func(s string) { text.WriteString("fastbind: " + s + "\n") }
	say(time.Now().Format(time.RFC3339) + " generation " + strconv.FormatUint(e.Number, 10) + " " + f.Err.Error())
	if h != nil {
		for _, l := range h.Evidence() {
			say("  " + l)
		}
	}
	log, err := journal.Open(path, os.O_WRONLY)
	if err != nil {
		return ""
	}
	defer log.Close()
	_, _ = log.WriteString(text.String())
	return path
}
