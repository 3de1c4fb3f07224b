package control

import (
	"context"
	"math"

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

// A Lease is what a daemon's life is to be tied to: a directory, a process, or,
// the zero Lease, the connection on which it is asked for.
type Lease struct {
	Directory    string // absolute path
	PID          int
	StartedTicks uint64 // start of the process, so that the pid is no stranger's
}

// maxPath bounds a lease's directory: PATH_MAX, of which no system has more.
const maxPath = 4096

const errLeaseRefused = "io.fastbind.Daemon.LeaseRefused"

// lease answers Lease.
func (s *Server) lease(p *varlink.Peer, c varlink.Call) error {
	f := varlink.FieldsOf(c.Parameters)
	l := Lease{Directory: f.TextOrNull("directory")}
	pid := f.IntegerOr("pid", 0)
	l.StartedTicks = uint64(f.IntegerOr("started_ticks", 0))
	switch {
	case f.Err != nil, l.Directory != "" && pid != 0, len(l.Directory) >= maxPath:
		return p.Fail(c, varlink.InvalidParameter, "parameter", "directory")
	case pid < 0 || pid > math.MaxInt32:
		return p.Fail(c, varlink.InvalidParameter, "parameter", "pid")
	case pid == 0 && l.StartedTicks != 0:
		// The start of no process: it would be nothing's lease, which never ends.
		return p.Fail(c, varlink.InvalidParameter, "parameter", "started_ticks")
	}
	l.PID = int(pid)
	if l == (Lease{}) {
		return s.leaseConnection(p, c)
	}
	if _, err := s.state.Lease(l); err != nil {
		return p.Fail(c, errLeaseRefused, "reason", err.Error())
	}
	return p.Reply(c, false, jsonlite.Object().Append)
}

// leaseConnection makes the peer's connection the lease: it ends when the peer
// hangs up, and carries no other request.
func (s *Server) leaseConnection(p *varlink.Peer, c varlink.Call) error {
	if !c.More {
		return p.Fail(c, varlink.InvalidParameter, "parameter", "directory") // nothing to tie it to
	}
	back, ok := p.Apart()
	if !ok {
		return p.Fail(c, errLeaseRefused, "reason", "too many connections hold a lease")
	}
	defer back()
	end, err := s.state.Lease(Lease{})
	if err != nil {
		return p.Fail(c, errLeaseRefused, "reason", err.Error())
	}
	defer end()
	if err := p.Reply(c, true, jsonlite.Object().Append); err != nil {
		return err
	}
	select {
	case <-p.HungUp():
	case <-p.Another(): // it was told that the connection carries nothing else
	case <-p.Closing():
	}
	return varlink.ErrHungUp
}

// drain answers Drain.
func (s *Server) drain(p *varlink.Peer, c varlink.Call) error {
	s.state.Drain()
	return p.Reply(c, false, jsonlite.Object().Append)
}

// stacks answers Stacks.
func (s *Server) stacks(p *varlink.Peer, c varlink.Call) error {
	text := s.state.Stacks()
	cutShort := len(text) > maxStacks
	return p.Reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "stacks", Value: jsonlite.String(varlink.Cut(text, maxStacks))},
		jsonlite.Member{Name: "cut", Value: jsonlite.Bool(cutShort)}).Append)
}

// hash answers Hash.
func (s *Server) hash(p *varlink.Peer, c varlink.Call) error {
	sum, err := s.state.Hash()
	if err != nil {
		return p.Fail(c, errHashFailed, "reason", err.Error())
	}
	return p.Reply(c, false, jsonlite.Object(jsonlite.Member{Name: "sha256", Value: jsonlite.String(sum)}).Append)
}

const errHashFailed = "io.fastbind.Daemon.HashFailed"

// maxStacks keeps a reply with goroutine stacks below MaxFrame: few of their
// bytes have to be escaped, newlines and tabs, each with one more.
const maxStacks = MaxFrame / 2

// Lease ties the daemon's life to l. A lease of this connection lasts until
// Close; nothing else can be asked on it then. A daemon that refuses says why in
// a *RemoteError, one of an older release that it knows no such method.
func (c *Client) Lease(ctx context.Context, l Lease) error {
	if l == (Lease{}) {
		return c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Lease", More: true}, true, nil)
	}
	var m []jsonlite.Member
	if l.Directory != "" {
		m = append(m, jsonlite.Member{Name: "directory", Value: jsonlite.String(l.Directory)})
	}
	if l.PID != 0 {
		m = append(m, jsonlite.Member{Name: "pid", Value: jsonlite.Int(int64(l.PID))},
			jsonlite.Member{Name: "started_ticks", Value: jsonlite.Int(int64(l.StartedTicks))})
	}
	return c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Lease", Parameters: jsonlite.Object(m...)}, false, nil)
}

// Drain asks the daemon to end as a stop does. It returns when the daemon has
// heard.
func (c *Client) Drain(ctx context.Context) error {
	return c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Drain"}, false, nil)
}

// Hash returns the SHA-256, in hexadecimal, of the file that the daemon runs.
func (c *Client) Hash(ctx context.Context) (sum string, err error) {
	err = c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Hash"}, false, func(v jsonlite.Value) (bool, error) {
		f := varlink.FieldsOf(v)
		sum = f.Text("sha256")
		return true, f.Err
	})
	return sum, err
}

// Stacks returns the stacks of the daemon's goroutines, which it also writes to
// its log; cut reports that the log has more.
func (c *Client) Stacks(ctx context.Context) (text string, cut bool, err error) {
	err = c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Stacks"}, false, func(v jsonlite.Value) (bool, error) {
		f := varlink.FieldsOf(v)
		text, cut = f.Text("stacks"), f.Flag("cut")
		return true, f.Err
	})
	return text, cut, err
}
