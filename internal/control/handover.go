package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"

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
	return share(p, c, func() (*Succession, error) { return s.state.Hold(holder) })
}

// share gives the peer a copy of the listener, which goes along with the reply's
// first byte (SCM_RIGHTS, unix(7)).
func share(p *varlink.Peer, c varlink.Call, with func() (*Succession, error)) error {
	conn, ok := p.Conn().(*net.UnixConn)
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
	raw, err := succession.Listener.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Control(func(fd uintptr) {
		var n int
		// A short frame into an empty buffer: it is written whole.
		if n, _, werr = conn.WriteMsgUnix(frame, rights(int(fd)), nil); werr == nil && n < len(frame) {
			werr = errors.New("the reply was cut")
		}
	})
	if err == nil {
		err = werr
	}
	return err
}

// takeOver answers TakeOver, once the daemon does not accept any more.
func takeOver(p *varlink.Peer, c varlink.Call) error {
	succession, ok := p.Data.(*Succession)
	if !ok || succession.TakeOver == nil {
		return p.Fail(c, errNoHandover, "reason", "the listener was not handed over on this connection")
	}
	holder := succession.TakeOver()
	if holder == "" {
		return p.Reply(c, false, jsonlite.Object().Append)
	}
	return p.Reply(c, false, jsonlite.Object(jsonlite.Member{Name: "holder", Value: jsonlite.String(holder)}).Append)
}

// A Succession is a handover that is under way, or a broker's hold.
type Succession struct {
	// Listener is what is handed over. It stays the daemon's.
	Listener syscall.Conn

	// TakeOver stops the daemon's accepting and returns when nothing is accepted
	// any more; nil of a hold. holder is the directory of the broker that holds the
	// listener as well, "" if none does.
	TakeOver func() (holder string)

	// End says that the successor's connection has ended. If the successor has
	// taken over, the daemon drains; else it goes on alone, and accepts again.
	End func()
}

// Handover asks the daemon for its listener, as its successor. The file is the
// caller's. The daemon takes this connection for the successor's life: until it
// is closed it neither ends by itself nor refuses anybody.
func (c *Client) Handover(ctx context.Context) (*os.File, error) {
	return c.share(ctx, varlink.Call{Method: "io.fastbind.Daemon.Handover"})
}

// Hold asks the daemon for its listener, as the standing broker that holds it. The
// file is the caller's. Until this connection is closed, the daemon leaves its queue
// to the caller when it ends, and does not shut the listener down. holder is the
// directory of the broker's generation, whose life lock shows that the broker lives.
func (c *Client) Hold(ctx context.Context, holder string) (*os.File, error) {
	return c.share(ctx, varlink.Call{Method: "io.fastbind.Daemon.Hold",
		Parameters: jsonlite.Object(jsonlite.Member{Name: "holder", Value: jsonlite.String(holder)})})
}

func (c *Client) share(ctx context.Context, request varlink.Call) (*os.File, error) {
	conn, ok := c.wire.Conn().(*net.UnixConn)
	if !ok {
		return nil, errors.New("the connection carries no descriptors")
	}
	r := &rightsReader{conn: conn}
	err := c.of(c.wire.AskThrough(ctx, r, request, false, nil))
	if err == nil && r.file == nil {
		err = errors.New("the daemon replied without its listener")
	}
	if err != nil && r.file != nil {
		_ = r.file.Close()
		return nil, err
	}
	return r.file, err
}

// TakeOver orders the daemon, which has handed its listener over on this
// connection, to accept no more, and returns when it does not. holder is the
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

// A rightsReader reads a stream and keeps the first descriptor that comes along;
// further ones are closed.
type rightsReader struct {
	conn *net.UnixConn
	file *os.File
}

func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, rightsSpace)
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	for _, f := range filesIn(oob[:oobn]) {
		if r.file == nil {
			r.file = f
		} else {
			_ = f.Close()
		}
	}
	return max(n, 0), err // of an error ReadMsgUnix says -1
}
