package control

import (
	"errors"
	"net"
	"time"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// A peer is one connection to a server. Two goroutines serve it: one reads, one
// answers, so that a peer's end is noticed while it is being answered. Nothing
// is queued between them; the reader reads the next request while one is being
// answered, and then waits.
type peer struct {
	server *Server
	conn   net.Conn
	calls  chan call
	hungUp chan struct{} // closed when nothing more will be read
	ended  chan struct{} // closed when nothing more will be answered

	succession *Succession // of the successor, else nil; used by serve alone

	// Guarded by server.mu.
	succeeds  bool   // its connection is the successor's life
	pending   int    // requests that began and are not dealt with; 0: idle
	idleSince uint64 // server.turn when pending became 0
}

func newPeer(s *Server, conn net.Conn) *peer {
	return &peer{
		server: s,
		conn:   conn,
		calls:  make(chan call),
		hungUp: make(chan struct{}),
		ended:  make(chan struct{}),
	}
}

// serve answers the peer's requests until one of the two is done with the other.
func (p *peer) serve() {
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
	if p.succession != nil {
		p.succession.End()
	}
	p.server.remove(p)
	close(p.ended)
	<-p.hungUp
}

// read passes the peer's requests on until the peer hangs up, sends something
// else, or is closed.
func (p *peer) read() {
	defer close(p.hungUp)
	frames := frameReader{r: p.conn}
	for {
		frame, err := frames.next(func() error { return p.server.begin(p) })
		if err != nil {
			return
		}
		c, err := parseCall(frame)
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

// A method answers one call. An error ends the connection.
type method func(*peer, call) error

// methods are what the server can be asked for.
var methods = [...]struct {
	name string
	run  method
}{
	{"org.varlink.service.GetInfo", getInfo},
	{"org.varlink.service.GetInterfaceDescription", getInterfaceDescription},
	{"io.fastbind.Daemon.Identify", identify},
	{"io.fastbind.Daemon.Drain", drainNow},
	{"io.fastbind.Daemon.Handover", giveOver},
	{"io.fastbind.Daemon.Hash", hash},
	{"io.fastbind.Daemon.Hold", hold},
	{"io.fastbind.Daemon.Lease", lease},
	{"io.fastbind.Daemon.Stacks", stacks},
	{"io.fastbind.Daemon.TakeOver", takeOver},
}

// maxEcho bounds, in bytes, what an error repeats of a request.
const maxEcho = 256

func (p *peer) answer(c call) error {
	for _, m := range methods {
		switch {
		case m.name != c.method:
		case c.upgrade:
			// To answer would be to agree to leave Varlink.
			return p.fail(c, errMethodNotImplemented, "method", c.method)
		default:
			return m.run(p, c)
		}
	}
	if name, ok := interfaceOf(c.method); !ok {
		return p.fail(c, errInterfaceNotFound, "interface", name)
	}
	return p.fail(c, errMethodNotFound, "method", c.method)
}

// fail replies with a Varlink error whose one parameter is a string.
func (p *peer) fail(c call, err, parameter, value string) error {
	return p.failWith(c, err, jsonlite.Object(
		jsonlite.Member{Name: parameter, Value: jsonlite.String(cut(value, maxEcho))}))
}

func (p *peer) failWith(c call, err string, parameters jsonlite.Value) error {
	return p.send(c, false, err, parameters.Append)
}

// reply replies with the object that parameters appends.
func (p *peer) reply(c call, continues bool, parameters func([]byte) []byte) error {
	return p.send(c, continues, "", parameters)
}

func (p *peer) send(c call, continues bool, err string, parameters func([]byte) []byte) error {
	if c.oneway {
		return nil // the caller would take it for the reply to its next call
	}
	frame := appendReply(nil, continues, err, parameters)
	if len(frame) > MaxFrame+1 {
		return errors.New("reply too long")
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(p.server.writeTimeout)); err != nil {
		return err
	}
	_, writeErr := p.conn.Write(frame)
	return writeErr
}
