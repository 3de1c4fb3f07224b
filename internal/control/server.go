package control

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// State is what the server asks for the truth.
type State interface {
	// Current returns the identity as it is now, its Format and Nonce left
	// empty, and a channel that is closed at or after the next change of phase,
	// progress or failure. It must not block and is called by many goroutines.
	// A channel that is closed although nothing changed costs a look, so one
	// that is always closed costs a processor.
	Current() (Identity, <-chan struct{})

	// Drain begins what a stop begins and returns at once.
	Drain()

	// Stacks returns the stacks of all goroutines, and has them written to the
	// log.
	Stacks() string

	// Hash returns the SHA-256 of the file that runs, in hexadecimal. The first
	// call may take as long as reading the file does.
	Hash() (string, error)

	// Lease ties the daemon's life to l. Of the connection's lease, the zero one,
	// the server calls end when the peer is gone; the others end by themselves
	// and end is nil.
	Lease(l Lease) (end func(), err error)

	// Handover makes the asking peer the daemon's successor, of which there is
	// at most one.
	Handover() (*Succession, error)
}

// Bounds of a server.
const (
	defaultMaxPeers     = 64
	defaultMaxLeases    = 512
	defaultFrameTimeout = 30 * time.Second
	defaultWriteTimeout = 5 * time.Second
)

// A Server answers on one control endpoint. It is safe for concurrent use.
//
// It holds at most 64 peers. A peer that is asking for nothing may stay, since a
// client may keep its connection for a later question, and since the end of a
// connection is how some peers notice a death. But it stays only as long as
// nobody else needs its slot: a new peer then takes the place of the peer that
// has been idle for longest, which can dial again. If none is idle, the new peer
// is turned away by closing it, because the others are in the middle of
// something. A crowd that watches a slow daemon can so keep newcomers out; they
// see their connection end without a reply.
//
// Peers whose connection is a lease are counted apart, at most 512, so that they
// keep nobody from asking; a further one is refused.
//
// A request must be complete 30 s after its first byte, and each reply must be
// written within 5 s; a peer that misses either is closed. So is one that
// sends what is not a Varlink request, which has no error for that. Requests of
// one connection are answered one after the other.
type Server struct {
	state State
	check func(*endpoint.Conn) error

	// Changed by tests, before Serve.
	maxPeers     int
	maxLeases    int
	frameTimeout time.Duration // for a request, from its first byte
	writeTimeout time.Duration // for each reply

	closing  chan struct{} // closed when no more is accepted or read
	finished chan struct{} // closed when Serve returns

	mu       sync.Mutex // guards what follows; nothing blocks under it
	listener net.Listener
	closed   bool // closing is closed
	closeErr error
	peers    map[*peer]struct{}
	leasing  int    // peers whose connection is a lease
	turn     uint64 // counts how often a peer became idle
}

// NewServer returns a server that answers with state. It runs check on every
// opened connection before it reads a byte of it, and closes the connection if
// check returns an error or if the connection is no endpoint's; check must
// not block. With a nil check whoever can connect is answered.
func NewServer(state State, check func(*endpoint.Conn) error) *Server {
	return &Server{
		state:        state,
		check:        check,
		maxPeers:     defaultMaxPeers,
		maxLeases:    defaultMaxLeases,
		frameTimeout: defaultFrameTimeout,
		writeTimeout: defaultWriteTimeout,
		closing:      make(chan struct{}),
		finished:     make(chan struct{}),
		peers:        make(map[*peer]struct{}),
	}
}

// Serve answers the peers that ln accepts and owns ln from then on. It returns
// nil after Close, and the listener's error if that fails for good; transient
// errors, such as too many open files, are waited out. When Serve returns, ln
// and every connection are closed and every goroutine has ended. A Server serves
// once: a second call closes its ln and returns an error.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	again, closed := s.listener != nil, s.closed
	if !again {
		s.listener = ln
	}
	s.mu.Unlock()
	if again {
		ln.Close()
		return errors.New("the control server serves already")
	}
	defer close(s.finished)
	if closed {
		return ln.Close()
	}
	var peers sync.WaitGroup
	err := s.accept(ln, &peers)
	s.shutdown()
	peers.Wait()
	return err
}

// Close ends Serve and waits for it. Replies under way are completed, and a peer
// that watches gets the present state as its last reply, so that the phase Gone
// or Failed, entered before Close, reaches those who wait. Requests that nobody
// has begun to answer are dropped. Close takes no time if all peers read, and
// 10 s, two replies' time, at most. It may be called before Serve and more than
// once, but not by State's methods; its error is the listener's.
func (s *Server) Close() error {
	s.shutdown()
	s.mu.Lock()
	serving, err := s.listener != nil, s.closeErr
	s.mu.Unlock()
	if serving {
		<-s.finished
	}
	return err
}

// longAgo as a deadline ends what is being read.
var longAgo = time.Unix(1, 0)

// shutdown ends accepting and reading, not writing.
func (s *Server) shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.closing)
	if s.listener != nil {
		s.closeErr = s.listener.Close()
		if errors.Is(s.closeErr, net.ErrClosed) {
			s.closeErr = nil
		}
	}
	for p := range s.peers {
		p.conn.SetReadDeadline(longAgo)
	}
}

// accept starts a goroutine for each peer until the listener fails or is closed.
func (s *Server) accept(ln net.Listener, peers *sync.WaitGroup) error {
	var pause time.Duration
	for {
		conn, err := ln.Accept()
		if err != nil {
			if s.isClosing() {
				return nil
			}
			if !endpoint.IsLack(err) {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.sleep(pause)
			continue
		}
		pause = 0
		// Strangers are turned away first: they must not cost anyone's slot.
		if !s.admits(conn) {
			conn.Close()
			continue
		}
		if p := s.add(conn); p != nil {
			peers.Go(p.serve)
		} else {
			conn.Close()
		}
	}
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Server) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closing:
	}
}

func (s *Server) admits(conn net.Conn) bool {
	if s.check == nil {
		return true
	}
	c, ok := conn.(*endpoint.Conn)
	return ok && s.check(c) == nil
}

// add gives conn a slot, if need be that of the longest idle peer. It returns
// nil if there is none.
func (s *Server) add(conn net.Conn) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if len(s.peers)-s.leasing >= s.maxPeers {
		idle := s.longestIdleLocked()
		if idle == nil {
			return nil
		}
		delete(s.peers, idle)
		idle.conn.Close() // which ends its goroutines: they are only reading
	}
	p := newPeer(s, conn)
	s.peers[p] = struct{}{}
	s.idleLocked(p)
	return p
}

// keep makes sure that p does not have to make room for others.
func (s *Server) keep(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.succeeds = true
}

// beginLease counts a peer among those whose connection is a lease, if there is
// room; endLease undoes it.
func (s *Server) beginLease() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leasing >= s.maxLeases {
		return false
	}
	s.leasing++
	return true
}

func (s *Server) endLease() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leasing--
}

func (s *Server) longestIdleLocked() *peer {
	var longest *peer
	for p := range s.peers {
		if p.pending == 0 && !p.succeeds && (longest == nil || p.idleSince < longest.idleSince) {
			longest = p
		}
	}
	return longest
}

func (s *Server) idleLocked(p *peer) {
	s.turn++
	p.idleSince = s.turn
}

// remove closes p and frees its slot.
func (s *Server) remove(p *peer) {
	p.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// begin notes that p's next request has begun. It fails if nothing more is to be
// read of p, whose deadline then stays as it is.
func (s *Server) begin(p *peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.peers[p]; !ok || s.closed {
		return net.ErrClosed
	}
	p.pending++
	return p.conn.SetReadDeadline(time.Now().Add(s.frameTimeout))
}

// received notes that the request p began is complete: p may be silent for as
// long as it likes.
func (s *Server) received(p *peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return p.conn.SetReadDeadline(time.Time{})
}

// end notes that a request of p has been dealt with.
func (s *Server) end(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.pending--; p.pending == 0 {
		s.idleLocked(p)
	}
}
