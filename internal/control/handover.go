package control

import (
	"context"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/jsonlite"
)

const (
	errHandoverRefused = "io.fastbind.Daemon.HandoverRefused"
	errNoHandover      = "io.fastbind.Daemon.NoHandover"
)

// giveOver answers Handover: the listener goes along with the reply's first byte
// (SCM_RIGHTS, unix(7)). The peer is the successor from then on, until it hangs
// up. On Windows nothing goes along: the successor makes what it listens on.
func giveOver(p *peer, c call) error {
	conn, ok := p.conn.(*endpoint.Conn)
	if !ok {
		return p.fail(c, errHandoverRefused, "reason", "the connection carries no descriptors")
	}
	if p.succession != nil {
		return p.fail(c, errHandoverRefused, "reason", "this connection has the listener already")
	}
	succession, err := p.server.state.Handover()
	if err != nil {
		return p.fail(c, errHandoverRefused, "reason", err.Error())
	}
	p.succession = succession // ended when the peer is gone
	p.server.keep(p)
	frame := appendReply(nil, false, "", jsonlite.Object().Append)
	if err := conn.SetWriteDeadline(time.Now().Add(p.server.writeTimeout)); err != nil {
		return err
	}
	return sendWith(conn, frame, succession.Listener)
}

// takeOver answers TakeOver, once the daemon does not accept any more.
func takeOver(p *peer, c call) error {
	if p.succession == nil {
		return p.fail(c, errNoHandover, "reason", "the listener was not handed over on this connection")
	}
	p.succession.TakeOver()
	return p.reply(c, false, jsonlite.Object().Append)
}

// A Succession is a handover that is under way.
type Succession struct {
	// Listener is what is handed over. It stays the daemon's.
	Listener *endpoint.Listener

	// TakeOver stops the daemon's accepting and returns when nothing is accepted
	// any more.
	TakeOver func()

	// End says that the successor's connection has ended. If the successor has
	// taken over, the daemon drains; else it goes on alone, and accepts again.
	End func()
}

// TakeOver orders the daemon, which has handed its listener over on this
// connection, to accept no more, and returns when it does not. The end of the
// connection says that the takeover is done, or given up.
func (c *Client) TakeOver(ctx context.Context) error {
	return c.ask(ctx, call{method: "io.fastbind.Daemon.TakeOver"}, false, heard)
}
