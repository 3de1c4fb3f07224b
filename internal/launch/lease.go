package launch

import (
	"context"
	"errors"

	"github.com/fastbind/fastbind/internal/control"
)

var (
	errForeignLease = errors.New("a daemon that knows nothing of fastbind holds no lease")
	errOldLease     = errors.New("the daemon is of a release that holds no leases")
)

// control returns a client of the control endpoint of the generation that
// serves, NotRunning if there is none. The caller closes it.
func (b *Broker) control(ctx context.Context) (*control.Client, error) {
	place, err := b.find()
	if err != nil {
		return nil, err
	}
	entries, err := Generations(place.Dir)
	if err != nil {
		return nil, b.fault(LaunchFailed, StageDirectory, err)
	}
	e := shown(place.Dir, entries)
	if e == nil || !e.Alive {
		return nil, b.fault(NotRunning, StageControl, errNotRunning)
	}
	if e.Record.Definition.Foreign && !e.Record.Backend {
		return nil, b.fault(Refusal, StageControl, errForeign)
	}
	c, err := DialControl(ctx, place, e.Name)
	if err != nil {
		return nil, b.fault(LaunchFailed, StageControl, err)
	}
	return c, nil
}

var errForeign = errors.New("a daemon that knows nothing of fastbind has no control endpoint")

// Lease ties the life of the generation that serves to l. Of a connection's
// lease, the zero one, the client is returned that holds it until it is closed;
// of the others it is nil. It blocks until the daemon has answered, which it
// does while it loads, or until ctx ends.
func (b *Broker) Lease(ctx context.Context, l control.Lease) (held *control.Client, err error) {
	c, err := b.control(ctx)
	if f, ok := errors.AsType[*Fault](err); ok && f.Err == errForeign {
		f.Err = errForeignLease
	}
	if err != nil {
		return nil, err
	}
	err = c.Lease(ctx, l)
	if err == nil && l == (control.Lease{}) {
		return c, nil
	}
	_ = c.Close()
	return nil, b.controlFault(ctx, err, errOldLease)
}

// LeaseFault is the refusal of a lease of what is not there.
func (b *Broker) LeaseFault(err error) *Fault { return b.fault(Refusal, StageControl, err) }

// Stacks returns the stacks of the daemon's goroutines, which it writes to its
// log too; cut reports that the log has more.
func (b *Broker) Stacks(ctx context.Context) (text string, cut bool, err error) {
	c, err := b.control(ctx)
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	text, cut, err = c.Stacks(ctx)
	return text, cut, b.controlFault(ctx, err, errors.New("the daemon is of a release that does not tell its stacks"))
}

// Hash returns the SHA-256, in hexadecimal, of the file that the daemon runs,
// which may be at no path any more.
func (b *Broker) Hash(ctx context.Context) (string, error) {
	c, err := b.control(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	sum, err := c.Hash(ctx)
	return sum, b.controlFault(ctx, err, errors.New("the daemon is of a release that does not hash its executable"))
}

// controlFault tells a refusal by the daemon from one that does not know the
// method, from a caller's deadline and from a connection that broke.
func (b *Broker) controlFault(ctx context.Context, err, unknown error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return b.DeadlineFault(ctx)
	}
	r, ok := errors.AsType[*control.RemoteError](err)
	if !ok {
		return b.fault(LaunchFailed, StageControl, err)
	}
	if reason := control.Refusal(r); reason != "" {
		return b.fault(Refusal, StageControl, errors.New(reason))
	}
	return b.fault(Refusal, StageControl, unknown)
}
