package control

import (
	"context"
	"path/filepath"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

const (
	errHandoverRefused = "io.fastbind.Daemon.HandoverRefused"
	errNoHandover      = "io.fastbind.Daemon.NoHandover"
)

// handover answers Handover. The peer is the successor from then on, until it hangs
// up.
func (s *Server) handover(p *varlink.Peer, c varlink.Call) error {
	return share(p, c, s.state.Handover)
}

// hold answers Hold. The peer is the broker that holds the listener from then on,
// until it hangs up.
func (s *Server) hold(p *varlink.Peer, c varlink.Call) error {
	f := varlink.FieldsOf(c.Parameters)
	holder := f.TextOrNull("holder")
	if f.Err != nil || holder != "" && !filepath.IsAbs(holder) || len(holder) >= maxPath {
		return p.Fail(c, varlink.InvalidParameter, "parameter", "holder")
	}
	return hold(p, c, func() (*Succession, error) { return s.state.Hold(holder) })
}

// share gives the peer a copy of the listener, which goes along with the reply's
// first byte (SCM_RIGHTS, unix(7)). On Windows nothing goes along: a successor makes
// what it listens on.
func share(p *varlink.Peer, c varlink.Call, with func() (*Succession, error)) error {
	conn, ok := p.Conn().(*endpoint.Conn)
	if !ok {
		return p.Fail(c, errHandoverRefused, "reason", "the connection carries no descriptors")
	}
	if p.Data != nil {
		return p.Fail(c, errHandoverRefused, "reason", "this connection has the listener already")
	}
	succession, err := with()
	if err != nil {
		return p.Fail(c, errHandoverRefused, "reason", err.Error())
	}
	p.Data = succession // ended when the peer is gone
	p.Keep()
	frame := varlink.AppendReply(nil, false, "", jsonlite.Object().Append)
	if err := p.BeginReply(); err != nil {
		return err
	}
	return sendWith(conn, frame, succession.Listener)
}

// takeOver answers TakeOver, once the daemon does not accept any more.
func takeOver(p *varlink.Peer, c varlink.Call) error {
	succession, ok := p.Data.(*Succession)
	if !ok || succession.TakeOver == nil {
		return p.Fail(c, errNoHandover, "reason", "the listener was not handed over on this connection")
	}
	holder, err := succession.TakeOver()
	if err != nil {
		return p.Fail(c, errHandoverRefused, "reason", err.Error())
	}
	if holder == "" {
		return p.Reply(c, false, jsonlite.Object().Append)
	}
	return p.Reply(c, false, jsonlite.Object(jsonlite.Member{Name: "holder", Value: jsonlite.String(holder)}).Append)
}

// A Succession is a handover that is under way, or a broker's hold.
type Succession struct {
	// Listener is what is handed over. It stays the daemon's.
	Listener *endpoint.Listener

	// TakeOver stops the daemon's accepting and returns when nothing is accepted
	// any more; nil of a hold. holder is the directory of the broker that holds the
	// listener as well, "" if none does. With an error it accepts as before, and the
	// successor must not.
	TakeOver func() (holder string, err error)

	// Lost says, of a hold on Windows, that the broker is not told any more of who is
	// taken. It is called before anybody is, and calls nothing of the daemon.
	Lost func()

	// End says that the successor's connection has ended. If the successor has
	// taken over, the daemon drains; else it goes on alone, and accepts again.
	End func()
}

// TakeOver orders the daemon, which has handed its listener over on this
// connection, to accept no more, and returns when it does not; a *RemoteError if it still
// does. holder is the
// directory of the broker that holds the listener as well, "" if none does. The end
// of the connection says that the takeover is done, or given up.
func (c *Client) TakeOver(ctx context.Context) (holder string, err error) {
	err = c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.TakeOver"}, false, func(v jsonlite.Value) (bool, error) {
		f := varlink.FieldsOf(v)
		holder = f.TextOrNull("holder")
		return false, f.Err
	})
	return holder, err
}
