package control

import (
	"context"
	"math"

	"github.com/fastbind/fastbind/internal/jsonlite"
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
func lease(p *peer, c call) error {
	f := fields{object: c.parameters}
	l := Lease{Directory: f.textOrNull("directory")}
	pid := f.integerOr("pid", 0)
	l.StartedTicks = uint64(f.integerOr("started_ticks", 0))
	switch {
	case f.err != nil, l.Directory != "" && pid != 0, len(l.Directory) >= maxPath:
		return p.fail(c, errInvalidParameter, "parameter", "directory")
	case pid < 0 || pid > math.MaxInt32:
		return p.fail(c, errInvalidParameter, "parameter", "pid")
	case pid == 0 && l.StartedTicks != 0:
		// The start of no process: it would be nothing's lease, which never ends.
		return p.fail(c, errInvalidParameter, "parameter", "started_ticks")
	}
	l.PID = int(pid)
	if l == (Lease{}) {
		return p.leaseConnection(c)
	}
	if _, err := p.server.state.Lease(l); err != nil {
		return p.fail(c, errLeaseRefused, "reason", err.Error())
	}
	return p.reply(c, false, jsonlite.Object().Append)
}

// leaseConnection makes the peer's connection the lease: it ends when the peer
// hangs up, and carries no other request.
func (p *peer) leaseConnection(c call) error {
	if !c.more {
		return p.fail(c, errInvalidParameter, "parameter", "directory") // nothing to tie it to
	}
	if !p.server.beginLease() {
		return p.fail(c, errLeaseRefused, "reason", "too many connections hold a lease")
	}
	defer p.server.endLease()
	end, err := p.server.state.Lease(Lease{})
	if err != nil {
		return p.fail(c, errLeaseRefused, "reason", err.Error())
	}
	defer end()
	if err := p.reply(c, true, jsonlite.Object().Append); err != nil {
		return err
	}
	select {
	case <-p.hungUp:
	case <-p.calls: // it was told that the connection carries nothing else
	case <-p.server.closing:
	}
	return errHungUp
}

// drainNow answers Drain.
func drainNow(p *peer, c call) error {
	p.server.state.Drain()
	return p.reply(c, false, jsonlite.Object().Append)
}

// stacks answers Stacks.
func stacks(p *peer, c call) error {
	text := p.server.state.Stacks()
	cutShort := len(text) > maxStacks
	return p.reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "stacks", Value: jsonlite.String(cut(text, maxStacks))},
		jsonlite.Member{Name: "cut", Value: jsonlite.Bool(cutShort)}).Append)
}

// hash answers Hash.
func hash(p *peer, c call) error {
	sum, err := p.server.state.Hash()
	if err != nil {
		return p.fail(c, errHashFailed, "reason", err.Error())
	}
	return p.reply(c, false, jsonlite.Object(jsonlite.Member{Name: "sha256", Value: jsonlite.String(sum)}).Append)
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
		return c.ask(ctx, call{method: "io.fastbind.Daemon.Lease", more: true}, true, heard)
	}
	var m []jsonlite.Member
	if l.Directory != "" {
		m = append(m, jsonlite.Member{Name: "directory", Value: jsonlite.String(l.Directory)})
	}
	if l.PID != 0 {
		m = append(m, jsonlite.Member{Name: "pid", Value: jsonlite.Int(int64(l.PID))},
			jsonlite.Member{Name: "started_ticks", Value: jsonlite.Int(int64(l.StartedTicks))})
	}
	return c.ask(ctx, call{method: "io.fastbind.Daemon.Lease", parameters: jsonlite.Object(m...)}, false, heard)
}

// heard takes a reply that has nothing to say.
func heard(jsonlite.Value) (stop bool, err error) { return true, nil }

// Drain asks the daemon to end as a stop does. It returns when the daemon has
// heard.
func (c *Client) Drain(ctx context.Context) error {
	return c.ask(ctx, call{method: "io.fastbind.Daemon.Drain"}, false, heard)
}

// Hash returns the SHA-256, in hexadecimal, of the file that the daemon runs.
func (c *Client) Hash(ctx context.Context) (sum string, err error) {
	err = c.ask(ctx, call{method: "io.fastbind.Daemon.Hash"}, false, func(v jsonlite.Value) (bool, error) {
		f := fields{object: v}
		sum = f.text("sha256")
		return true, f.err
	})
	return sum, err
}

// Stacks returns the stacks of the daemon's goroutines, which it also writes to
// its log; cut reports that the log has more.
func (c *Client) Stacks(ctx context.Context) (text string, cut bool, err error) {
	err = c.ask(ctx, call{method: "io.fastbind.Daemon.Stacks"}, false, func(v jsonlite.Value) (bool, error) {
		f := fields{object: v}
		text, cut = f.text("stacks"), f.flag("cut")
		return true, f.err
	})
	return text, cut, err
}
