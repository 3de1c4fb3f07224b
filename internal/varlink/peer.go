package varlink

import (
	"errors"
	"net"
	"time"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// ErrHungUp is what a method returns that has waited for a peer who is gone.
var ErrHungUp = errors.New("the peer has hung up")

// A Peer is one connection to a server. Two goroutines serve it: one reads, one
// answers, so that a peer's end is noticed while it is being answered. Nothing
// is queued between them; the reader reads the next request while one is being
// answered, and then waits.
//
// Its methods are for whoever answers, and are called by that goroutine alone.
type Peer struct {
	// Data is whatever the methods of the service keep about the peer.
	Data any

	server *Server
	conn   net.Conn
	calls  chan Call
	hungUp chan struct{} // closed when nothing more will be read
	ended  chan struct{} // closed when nothing more will be answered

	// Guarded by server.mu.
	kept      bool      // it makes room for nobody
	pending   int       // requests that began and are not dealt with; 0: idle
	receiving bool      // the last of them is not complete
	writing   bool      // a reply is being written
	began     time.Time // when the last of these two did
	apart     bool      // it is counted apart
	since     uint64    // server.turn when it became idle, or began the last of these
}

func newPeer(s *Server, conn net.Conn) *Peer {
	return &Peer{
		server: s,
		conn:   conn,
		calls:  make(chan Call),
		hungUp: make(chan struct{}),
		ended:  make(chan struct{}),
	}
}

// Conn is the connection, for what goes along with a reply. It stays the server's.
func (p *Peer) Conn() net.Conn { return p.conn }

// HungUp is closed when the peer has hung up, or has sent what is no request. It may
// only have shut down its writing side, but from here that looks like a death, and who
// is dead must not keep a slot until the next change. Closing hangs up too.
func (p *Peer) HungUp() <-chan struct{} { return p.hungUp }

// Closing is closed when the server closes.
func (p *Peer) Closing() <-chan struct{} { return p.server.closing }

// IsClosing reports whether the server closes.
func (p *Peer) IsClosing() bool { return p.server.isClosing() }

// Another is readable when the peer has asked for something else meanwhile. What is
// received is answered by nobody.
func (p *Peer) Another() <-chan Call { return p.calls }

// Keep makes sure that the peer does not have to make room for others.
func (p *Peer) Keep() {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.kept = true
}

// Apart counts the peer apart from those who ask, until end is called, so that it
// keeps nobody from asking. It reports whether there was room. The peer has a request
// that is being answered until then.
func (p *Peer) Apart() (end func(), ok bool) {
	s := p.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apart >= s.Bounds.Apart {
		return nil, false
	}
	s.apart++
	p.apart = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.apart--
		p.apart = false
	}, true
}

// serve answers the peer's requests until one of the two is done with the other.
func (p *Peer) serve() {
	go p.read()
	for {
		select {
		case c := <-p.calls:
			// Close waits for one reply, not for those to requests behind it.
			if !p.server.isClosing() && p.answer(c) == nil {
				p.server.end(p)
				continue
			}
		case <-p.hungUp:
		}
		break
	}
	if end := p.server.service.End; end != nil {
		end(p)
	}
	p.server.remove(p)
	close(p.ended)
	<-p.hungUp
}

// read passes the peer's requests on until the peer hangs up, sends something
// else, or is closed.
func (p *Peer) read() {
	defer close(p.hungUp)
	frames := NewFrameReader(p.conn)
	for {
		frame, err := frames.Next(func() error { return p.server.begin(p) })
		if err != nil {
			return
		}
		c, err := ParseCall(frame)
		if err != nil {
			return
		}
		if p.server.received(p) != nil {
			return
		}
		select {
		case p.calls <- c:
		case <-p.ended:
			return
		}
	}
}

// Fail replies with a Varlink error whose one parameter is a string.
func (p *Peer) Fail(c Call, err, parameter, value string) error {
	return p.FailWith(c, err, jsonlite.Object(
		jsonlite.Member{Name: parameter, Value: jsonlite.String(Cut(value, MaxEcho))}))
}

// FailWith replies with a Varlink error and its parameters, an object.
func (p *Peer) FailWith(c Call, err string, parameters jsonlite.Value) error {
	return p.send(c, false, err, parameters.Append)
}

// Reply replies with the object that parameters appends. With continues there will
// be another reply to the same call, which must have More.
func (p *Peer) Reply(c Call, continues bool, parameters func([]byte) []byte) error {
	return p.send(c, continues, "", parameters)
}

func (p *Peer) send(c Call, continues bool, err string, parameters func([]byte) []byte) error {
	if c.Oneway {
		return nil // the caller would take it for the reply to its next call
	}
	frame := AppendReply(nil, continues, err, parameters)
	if len(frame) > MaxFrame+1 {
		return errors.New("reply too long")
	}
	return p.server.write(p, frame)
}

// BeginReply sets the deadline for a reply that is written by other means.
func (p *Peer) BeginReply() error {
	return p.conn.SetWriteDeadline(time.Now().Add(p.server.Bounds.Write))
}
