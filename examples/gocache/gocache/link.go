package gocache

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// A link is a client's connection to the daemon. Requests of any number of
// goroutines are pipelined. Nothing is handed from goroutine to goroutine: who
// asks writes, also for others that come meanwhile, and who reads an answer
// completes its request. When it is lost, every outstanding request and every
// later one fails at once. Safe for concurrent use.
type link struct {
	conn  net.Conn
	ended chan struct{} // closed: the reader has ended, and the connection is closed

	mu      sync.Mutex // guards the fields below
	idle    sync.Cond  // of mu: writing has become false
	out     []byte     // frames that wait to be written
	spare   []byte     // was out before
	writing bool       // a goroutine writes, without mu, until out is empty
	since   time.Time  // when it began with what it writes now
	calls   map[uint32]call
	next    uint32
	guesses map[id]guess // told ahead, at most maxGuesses
	own     map[id]bool  // actions that this client has put: a guess may be older
	watch   *time.Timer  // runs look
	watched bool         // it will run
	closed  bool
	why     error // lost
}

// A call is a request that is not answered yet.
type call struct {
	began time.Time
	done  func(frame, error)
}

// answerWithin is how long the daemon may take for one request before the
// client goes on without. It answers while it loads; the longest it does is to
// read the largest body once.
const answerWithin = 5 * time.Second

var errSilent = errors.New("no answer for " + answerWithin.String())

// maxUnsent bounds what waits to be written, in bytes, but for requests that
// want an answer, which are at most maxAnswering, and uses of at most maxGuesses.
const maxUnsent = 32 << 10

// newLink takes over a connection. rested is called by the goroutine that reads
// whenever it has read what there is; lost is called once if the link goes down
// before it was closed.
func newLink(conn net.Conn, rested func(), lost func(*link, error)) *link {
	l := &link{conn: conn, ended: make(chan struct{}), calls: map[uint32]call{}, guesses: map[id]guess{}, own: map[id]bool{}}
	l.idle.L = &l.mu
	l.watch = time.AfterFunc(answerWithin, l.look)
	l.watched = true
	l.out = appendFrame(nil, frame{opHello, 0, append([]byte{wireVersion}, strconv.Itoa(os.Getpid())...)}) // goes with the first request
	go func() {
		l.fail(l.read(rested))
		_ = conn.Close()
		close(l.ended)
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if !closed {
			lost(l, l.why)
		}
	}()
	return l
}

func (l *link) read(rested func()) error {
	r := bufio.NewReaderSize(l.conn, 32<<10)
	buf := make([]byte, maxRequest)
	for {
		if r.Buffered() == 0 {
			rested()
		}
		f, err := readFrame(r, maxReply, buf)
		if errors.Is(err, io.EOF) {
			return errors.New("the daemon closed the connection")
		}
		if err != nil {
			return err
		}
		if f.op == opAhead {
			if err := l.told(f.payload); err != nil {
				return err
			}
			continue
		}
		if f.id == 0 { // the answer to the greeting
			if f.op != opOK {
				return errors.New(string(f.payload))
			}
			continue
		}
		l.mu.Lock()
		c, ok := l.calls[f.id]
		delete(l.calls, f.id)
		l.mu.Unlock()
		switch {
		case !ok:
		case f.op == opError:
			go c.done(frame{}, errors.New(string(f.payload)))
		default:
			c.done(f, nil)
		}
	}
}

// told keeps a guess.
func (l *link) told(payload []byte) error {
	action, g, err := guessOf(payload)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.guesses) >= maxGuesses {
		clear(l.guesses)
	}
	if !l.own[action] {
		l.guesses[action] = g
	}
	return nil
}

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failLocked(err)
}

// failLocked takes the link down.
func (l *link) failLocked(err error) {
	if l.why != nil {
		return
	}
	l.why = err
	_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // ends read, which closes
	_ = l.conn.SetWriteDeadline(time.Unix(1, 0))
	for n, c := range l.calls {
		delete(l.calls, n)
		go c.done(frame{}, err)
	}
}

// look fails a link whose daemon has answered a request, or taken what was
// written, for too long not. One timer that mostly finds nothing is cheaper than
// one for each request.
func (l *link) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watched = false
	now := time.Now()
	oldest := now
	if l.writing {
		oldest = l.since
	}
	for _, c := range l.calls {
		if c.began.Before(oldest) {
			oldest = c.began
		}
	}
	switch {
	case l.why != nil || oldest.Equal(now):
	case now.Sub(oldest) >= answerWithin:
		l.failLocked(errSilent)
	default:
		l.watchLocked(oldest.Add(answerWithin).Sub(now))
	}
}

func (l *link) watchLocked(within time.Duration) {
	if !l.watched {
		l.watched = true
		l.watch.Reset(within)
	}
}

// ask sends a request at the next flush and calls done once: with the answer, by
// the goroutine that reads, which must not be made to wait, and the payload is
// valid until it returns; or with an error, by a goroutine of its own.
func (l *link) ask(op byte, payload []byte, done func(frame, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		go done(frame{}, l.why)
		return
	}
	if l.next++; l.next == 0 {
		l.next = 1
	}
	l.calls[l.next] = call{time.Now(), done}
	l.out = appendFrame(l.out, frame{op, l.next, payload})
	l.watchLocked(answerWithin)
}

// get asks for an action's entry, as ask does.
func (l *link) get(action id, done func(e entry, hit bool, err error)) {
	l.ask(opGet, action[:], func(f frame, err error) {
		if err != nil || f.op == opMiss {
			done(entry{}, false, err)
			return
		}
		e, err := entryOf(f.payload)
		if f.op != opHit || err != nil {
			go done(entry{}, false, errFrame)
			return
		}
		done(e, true, nil)
	})
}

// guess returns what the daemon has told ahead of an action, and forgets it.
func (l *link) guess(action id) (g guess, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, ok = l.guesses[action]
	delete(l.guesses, action)
	return g, ok && l.why == nil
}

// use tells the daemon that a guess was good: with the next request, when there
// are some, or at the end.
func (l *link) use(action id) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = appendFrame(l.out, frame{opUse, 0, action[:]})
	if len(l.out) >= leastTold*(4+frameHead+len(action)) {
		l.flushLocked()
	}
}

// put tells of an entry that was committed.
func (l *link) put(action id, e entry) {
	l.mu.Lock()
	l.own[action] = true
	delete(l.guesses, action)
	l.mu.Unlock()
	l.tell(opPut, appendEntry(action[:], e))
}

// tell sends what needs no answer. If the daemon is far behind it is not told:
// it finds the entry in the store when it is asked for.
func (l *link) tell(op byte, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out) < maxUnsent {
		l.out = appendFrame(l.out, frame{op, 0, payload})
	}
	l.flushLocked()
}

// flush writes what waits, unless another goroutine is about to. It blocks while
// the daemon does not read, and no longer than answerWithin.
func (l *link) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

func (l *link) flushLocked() {
	if l.writing {
		return
	}
	l.writing = true
	for len(l.out) > 0 && l.why == nil {
		b := l.out
		l.out, l.since = l.spare[:0], time.Now()
		l.watchLocked(answerWithin)
		l.mu.Unlock()
		_, err := l.conn.Write(b)
		l.mu.Lock()
		l.spare = b
		if err != nil {
			l.failLocked(err)
		}
	}
	l.writing = false
	l.idle.Broadcast()
}

// close ends the link; what was told is delivered.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	if l.why == nil {
		_ = l.conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	}
	for l.writing {
		l.idle.Wait()
	}
	l.flushLocked()
	l.watch.Stop()
	down := l.why != nil
	l.mu.Unlock()
	if down {
		// Its read is about to end, and asks before whether the daemon hangs: a client
		// that left earlier would leave a hung daemon to all who come.
		<-l.ended
	} else {
		_ = l.conn.Close()
	}
}

// An uplink is a client's way to the daemon: it connects at the start, says once
// if there is none, and tries again some time. Safe for concurrent use.
type uplink struct {
	cfg    config
	warn   func(reason error)
	rested func()        // of each link
	first  chan struct{} // closed after the first try

	mu      sync.Mutex // guards the fields below
	link    *link
	dialing bool
	closed  bool
	last    time.Time
	tries   sync.WaitGroup
}

// redialAfter is the least time between two tries to reach a daemon.
const redialAfter = 3 * time.Second

func newUplink(cfg config, warn func(error), rested func()) *uplink {
	u := &uplink{cfg: cfg, warn: warn, rested: rested, first: make(chan struct{}), dialing: true, last: time.Now()}
	u.tries.Go(func() {
		u.dial()
		close(u.first)
	})
	return u
}

// get returns the link, or nil to go on without. It waits for the first try,
// which TryDial bounds, and for no later one.
func (u *uplink) get() *link {
	<-u.first
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.link == nil && !u.dialing && !u.closed && time.Since(u.last) > redialAfter {
		u.dialing, u.last = true, time.Now()
		u.tries.Go(u.dial)
	}
	return u.link
}

func (u *uplink) dial() {
	conn, reason := dial(context.Background(), service(u.cfg))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dialing = false
	if reason != nil {
		u.warn(reason)
		return
	}
	l := newLink(conn, u.rested, u.lost)
	if u.closed {
		l.close()
		return
	}
	u.link = l
}

func (u *uplink) lost(l *link, why error) {
	u.mu.Lock()
	if u.link == l {
		u.link = nil
	}
	u.mu.Unlock()
	u.warn(why)
	service(u.cfg).Fallback(why)
}

func (u *uplink) close() {
	u.mu.Lock()
	l := u.link
	u.link, u.closed = nil, true
	u.mu.Unlock()
	if l != nil {
		l.close()
	}
}
