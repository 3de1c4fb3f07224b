package varlink

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// A Service is what a server answers with.
type Service struct {
	Info       func() Info
	Interfaces []Interface // beside org.varlink.service

	// Check is run on every opened connection before a byte of it is read. The
	// connection is closed if it returns an error. It must not block. With nil whoever
	// can connect is answered. See CheckOf.
	Check func(net.Conn) error

	// End, unless it is nil, is called when a peer is gone and nothing is being
	// answered to it any more.
	End func(*Peer)
}

// CheckOf makes a Service's Check of one that can tell of a C: no other connection
// passes. It is nil if check is.
func CheckOf[C any](check func(C) error) func(net.Conn) error {
	if check == nil {
		return nil
	}
	return func(conn net.Conn) error {
		c, ok := conn.(C)
		if !ok {
			return errors.New("nobody can tell whose the connection is")
		}
		return check(c)
	}
}

// Info is what GetInfo says, beside what is the same for all services of fastbind.
type Info struct{ Product, Version string }

// An Interface is a set of methods, as its description says.
type Interface struct {
	Name        string // such as io.fastbind.Daemon
	Description string // in Varlink's interface definition language
	Methods     []Method
}

// A Method answers one call of a name that Name is the last part of. Requests of one
// peer are answered one after the other. An error ends the connection.
type Method struct {
	Name   string
	Answer func(*Peer, Call) error
}

// Bounds are those of a server.
type Bounds struct {
	Peers int           // that are answered, but for those apart
	Apart int           // peers that are counted apart: see Peer.Apart
	Frame time.Duration // for a request, from its first byte
	Write time.Duration // for each reply
}

// The bounds of a new server.
const (
	DefaultPeers = 64
	DefaultApart = 512
	DefaultFrame = 30 * time.Second
	DefaultWrite = 5 * time.Second
)

// maxEnding is how many peers may be on their way out beside those who have a slot.
const maxEnding = 64

// A Server answers on one endpoint. It is safe for concurrent use.
//
// It holds a bounded number of peers. A peer that is asking for nothing may stay,
// since a client may keep its connection for a later question, and since the end of a
// connection is how some peers notice a death. But it stays only as long as nobody
// else needs its slot: a new peer then takes the place of the peer that has been idle
// for longest, which can dial again. If none is idle, it takes that of the peer whose
// request has been incomplete for longest, or of whom a reply is being written to for
// longest: both are small, and over at once with a peer that means it. If there is no
// such either, the new peer is turned away by closing it, because the others are being
// answered. A crowd that waits for something slow can so keep newcomers out; they see
// their connection end without a reply.
//
// A request must be complete within a time from its first byte, and each reply must
// be written within another; a peer that misses either is closed. So is one that sends
// what is not a Varlink request, which has no error for that.
type Server struct {
	// Bounds may be changed before Serve.
	Bounds Bounds

	service Service

	closing  chan struct{} // closed when no more is accepted or read
	finished chan struct{} // closed when Serve returns

	mu       sync.Mutex // guards what follows; nothing blocks under it
	listener net.Listener
	closed   bool // closing is closed
	closeErr error
	peers    map[*Peer]struct{}
	apart    int    // peers that are counted apart
	turn     uint64 // counts what peers begin
}

// NewServer returns a server that answers with service.
func NewServer(service Service) *Server {
	return &Server{
		Bounds:   Bounds{DefaultPeers, DefaultApart, DefaultFrame, DefaultWrite},
		service:  service,
		closing:  make(chan struct{}),
		finished: make(chan struct{}),
		peers:    make(map[*Peer]struct{}),
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
		return errors.New("the server serves already")
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

// Close ends Serve and waits for it. Replies under way are completed; a method that
// waits is told by Peer.Closing and may write one more. Requests that nobody has begun
// to answer are dropped. Close takes no time if all peers read, and two replies' time
// at most. It may be called before Serve and more than once, but not by a method; its
// error is the listener's.
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

// accept serves each peer until the listener fails or is closed. Newcomers are not
// accepted faster than those end who have made room for them.
func (s *Server) accept(ln net.Listener, peers *sync.WaitGroup) error {
	room := make(chan struct{}, s.Bounds.Peers+s.Bounds.Apart+maxEnding)
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
			room <- struct{}{}
			peers.Go(func() {
				defer func() { <-room }()
				p.serve()
			})
		} else {
			conn.Close()
		}
	}
}

// ServeConn answers one peer until it is gone. Close does not wait for it. A
// connection for which there is no slot is closed at once.
func (s *Server) ServeConn(conn net.Conn) {
	if p := s.add(conn); p != nil {
		p.serve()
	} else {
		conn.Close()
	}
}

// Peers returns how many there are, and how many of them are counted apart.
func (s *Server) Peers() (all, apart int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers), s.apart
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
	return s.service.Check == nil || s.service.Check(conn) == nil
}

// add gives conn a slot, if need be that of another. It returns nil if there is none.
func (s *Server) add(conn net.Conn) *Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if len(s.peers)-s.apart >= s.Bounds.Peers {
		out := s.leastLocked()
		if out == nil {
			return nil
		}
		delete(s.peers, out)
		out.conn.Close() // which ends its goroutines: they only read and write
	}
	p := newPeer(s, conn)
	s.peers[p] = struct{}{}
	s.stampLocked(p)
	return p
}

// slowAfter is how long a request may be incomplete, or a reply be written, before its
// peer makes room for others. Either takes a moment with a peer that means it, but it
// must have that: a watcher is not to lose its place with each change that it is told.
const slowAfter = 100 * time.Millisecond

// leastLocked returns the peer that makes room, nil if none does.
func (s *Server) leastLocked() *Peer {
	var idle, slow *Peer
	now := time.Now()
	for p := range s.peers {
		switch {
		case p.kept, p.apart:
		case p.pending == 0:
			if idle == nil || p.since < idle.since {
				idle = p
			}
		case now.Sub(p.began) < slowAfter:
		case p.writing, p.pending == 1 && p.receiving:
			if slow == nil || p.since < slow.since {
				slow = p
			}
		}
	}
	if idle != nil {
		return idle
	}
	return slow
}

// write writes a frame to p within its time.
func (s *Server) write(p *Peer, frame []byte) error {
	s.mu.Lock()
	p.writing, p.began = true, time.Now()
	s.stampLocked(p)
	s.mu.Unlock()
	err := p.BeginReply()
	if err == nil {
		_, err = p.conn.Write(frame)
	}
	s.mu.Lock()
	p.writing = false
	s.mu.Unlock()
	return err
}

func (s *Server) stampLocked(p *Peer) {
	s.turn++
	p.since = s.turn
}

// remove closes p and frees its slot.
func (s *Server) remove(p *Peer) {
	p.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
}

// begin notes that p's next request has begun. It fails if nothing more is to be
// read of p, whose deadline then stays as it is.
func (s *Server) begin(p *Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.peers[p]; !ok || s.closed {
		return net.ErrClosed
	}
	p.pending++
	p.receiving, p.began = true, time.Now()
	s.stampLocked(p)
	return p.conn.SetReadDeadline(time.Now().Add(s.Bounds.Frame))
}

// received notes that the request p began is complete: p may be silent for as
// long as it likes.
func (s *Server) received(p *Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	p.receiving = false
	return p.conn.SetReadDeadline(time.Time{})
}

// end notes that a request of p has been dealt with.
func (s *Server) end(p *Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.pending--; p.pending == 0 {
		s.stampLocked(p)
	}
}
