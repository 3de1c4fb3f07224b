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
// goroutines are pipelined. When it is lost, every outstanding request and every
// later one fails at once. Safe for concurrent use.
type link struct {
	conn   net.Conn
	out    chan []byte   // frames to write
	ending chan struct{} // closed: write what is queued, then end
	down   chan struct{} // closed: lost, why says why
	wrote  chan struct{} // closed: the writer has ended
	ended  chan struct{} // closed: the reader has, and the connection is closed

	mu      sync.Mutex // guards the fields below
	pending map[uint32]chan frame
	next    uint32
	why     error
}

// answerWithin is how long the daemon may take for one request before the
// client goes on without. It answers while it loads; the longest it does is to
// read the largest body once.
const answerWithin = 5 * time.Second

var errSilent = errors.New("no answer for " + answerWithin.String())

// newLink takes over a connection. lost is called once if the link goes down
// before it was closed.
func newLink(conn net.Conn, lost func(*link, error)) *link {
	l := &link{conn: conn, out: make(chan []byte, 256), ending: make(chan struct{}), down: make(chan struct{}),
		wrote: make(chan struct{}), ended: make(chan struct{}), pending: map[uint32]chan frame{}}
	l.out <- appendFrame(nil, frame{opHello, 0, append([]byte{wireVersion}, strconv.Itoa(os.Getpid())...)})
	go l.write()
	go func() {
		err := l.read()
		l.fail(err)
		_ = conn.Close()
		close(l.ended)
		select {
		case <-l.ending:
		default:
			lost(l, l.why)
		}
	}()
	return l
}

func (l *link) read() error {
	r := bufio.NewReaderSize(l.conn, 32<<10)
	for {
		f, err := readFrame(r, maxReply, nil)
		if errors.Is(err, io.EOF) {
			return errors.New("the daemon closed the connection")
		}
		if err != nil {
			return err
		}
		if f.id == 0 { // the answer to the greeting
			if f.op != opOK {
				return errors.New(string(f.payload))
			}
			continue
		}
		l.mu.Lock()
		ch := l.pending[f.id]
		delete(l.pending, f.id)
		l.mu.Unlock()
		if ch != nil {
			ch <- f
		}
	}
}

func (l *link) write() {
	defer close(l.wrote)
	w := bufio.NewWriterSize(l.conn, 32<<10)
	put := func(b []byte) bool {
		_, err := w.Write(b)
		for err == nil {
			select {
			case b = <-l.out:
				_, err = w.Write(b)
				continue
			default:
			}
			err = w.Flush()
			break
		}
		if err != nil {
			l.fail(err)
		}
		return err == nil
	}
	for {
		select {
		case b := <-l.out:
			if !put(b) {
				return
			}
		case <-l.down:
			return
		case <-l.ending:
			select {
			case b := <-l.out:
				put(b)
			default:
			}
			return
		}
	}
}

// fail takes the link down.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return
	}
	l.why = err
	close(l.down)
	_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // ends read, which closes
}

// ask sends a request and returns its answer.
func (l *link) ask(op byte, payload []byte, within time.Duration) (frame, error) {
	ch := make(chan frame, 1)
	l.mu.Lock()
	if l.next++; l.next == 0 {
		l.next = 1
	}
	n := l.next
	l.pending[n] = ch
	l.mu.Unlock()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case l.out <- appendFrame(nil, frame{op, n, payload}):
	case <-l.down:
		return frame{}, l.why
	case <-timeout.C:
		l.fail(errSilent)
		return frame{}, errSilent
	}
	select {
	case f := <-ch:
		if f.op == opError {
			return f, errors.New(string(f.payload))
		}
		return f, nil
	case <-l.down:
		return frame{}, l.why
	case <-timeout.C:
		l.fail(errSilent)
		return frame{}, errSilent
	}
}

// get asks for an action's entry.
func (l *link) get(action id) (e entry, hit bool, err error) {
	f, err := l.ask(opGet, action[:], answerWithin)
	if err != nil || f.op == opMiss {
		return entry{}, false, err
	}
	if f.op != opHit {
		return entry{}, false, errFrame
	}
	e, err = entryOf(f.payload)
	return e, err == nil, err
}

// tell sends what needs no answer. If the daemon is far behind it is not told:
// it finds the entry in the store when it is asked for.
func (l *link) tell(op byte, payload []byte) {
	select {
	case l.out <- appendFrame(nil, frame{op, 0, payload}):
	default:
	}
}

// close ends the link; what was told is delivered.
func (l *link) close() {
	_ = l.conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	close(l.ending)
	<-l.wrote
	select {
	case <-l.down:
		// Its read is about to end, and asks before whether the daemon hangs: a client
		// that left earlier would leave a hung daemon to all who come.
		<-l.ended
	default:
		_ = l.conn.Close()
	}
}

// An uplink is a client's way to the daemon: it connects at the start, says once
// if there is none, and tries again some time. Safe for concurrent use.
type uplink struct {
	cfg   config
	warn  func(reason error)
	first chan struct{} // closed after the first try

	mu      sync.Mutex // guards the fields below
	link    *link
	dialing bool
	closed  bool
	last    time.Time
	tries   sync.WaitGroup
}

// redialAfter is the least time between two tries to reach a daemon.
const redialAfter = 3 * time.Second

func newUplink(cfg config, warn func(error)) *uplink {
	u := &uplink{cfg: cfg, warn: warn, first: make(chan struct{}), dialing: true, last: time.Now()}
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
	l := newLink(conn, u.lost)
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
