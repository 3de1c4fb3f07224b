package control

import (
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/varlink"
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

	// Hold makes the asking peer the standing broker that holds the listener, of
	// which there is at most one.
	Hold(holder string) (*Succession, error)
}

// A Server answers on one control endpoint, within the bounds of a
// [varlink.Server]: 64 peers, and 512 more whose connection is a lease, so that they
// keep nobody from asking; a further one is refused. It is safe for concurrent use.
//
// Close ends a peer's watch with the present state as its last reply, so that the
// phase Gone or Failed, entered before Close, reaches those who wait. It may not be
// called by State's methods.
type Server struct {
	*varlink.Server
	state State
}

// NewServer returns a server that answers with state. It runs check on every
// opened connection before it reads a byte of it, and closes the connection if
// check returns an error or if the connection is not one that an endpoint's listener
// has accepted; check must not block. With a nil check whoever can connect is answered.
func NewServer(state State, check func(*endpoint.Conn) error) *Server {
	s := &Server{state: state}
	s.Server = varlink.NewServer(varlink.Service{
		Info: func() varlink.Info {
			id, _ := state.Current()
			return varlink.Info{Product: id.Service, Version: id.Version}
		},
		Interfaces: []varlink.Interface{{Name: "io.fastbind.Daemon", Description: daemonDescription, Methods: s.methods()}},
		Check:      varlink.CheckOf(check),
		End: func(p *varlink.Peer) {
			if succession, ok := p.Data.(*Succession); ok {
				succession.End()
			}
		},
	})
	return s
}

// methods are what the server can be asked for.
func (s *Server) methods() []varlink.Method {
	return []varlink.Method{
		{Name: "Identify", Answer: s.identify},
		{Name: "Drain", Answer: s.drain},
		{Name: "Handover", Answer: s.handover},
		{Name: "Hash", Answer: s.hash},
		{Name: "Hold", Answer: s.hold},
		{Name: "Lease", Answer: s.lease},
		{Name: "Stacks", Answer: s.stacks},
		{Name: "TakeOver", Answer: takeOver},
	}
}
