package fastbind

import (
	"context"
	"path/filepath"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// A Lease is what a daemon's life is tied to. A second after the last of its
// leases has ended the daemon drains as in a stop, whoever else is connected; a
// daemon that never had one lives on. When the daemon crashes, the next one takes
// its leases over, but for those of connections.
//
// The zero Lease is that of the connection.
type Lease struct{ lease control.Lease }

// DirectoryLease ends when the directory is deleted, moved or replaced: for a
// daemon that belongs to a project or a worktree.
func DirectoryLease(path string) Lease { return Lease{control.Lease{Directory: path}} }

// ProcessLease ends with the process, however it ends: for a daemon that belongs
// to a session, a CI job or an editor.
func ProcessLease(pid int) Lease { return Lease{control.Lease{PID: pid}} }

// ConnectionLease ends when the connection that Dial returned is closed, or its
// process ends. A daemon holds at most 512 of them.
func ConnectionLease() Lease { return Lease{} }

// WithLease makes the call take a lease of the daemon that it reached. It then
// also waits until the daemon has begun to run. It is refused by foreign daemons,
// and for a directory or process that is not there.
func WithLease(l Lease) Option {
	return func(o *options) { o.take = append(o.take, l.take) }
}

// lease takes the leases. Those of the connection are returned, to be closed with it.
func (o options) lease(ctx context.Context, b *launch.Broker) (held []*control.Client, err error) {
	for _, take := range o.take {
		c, err := take(ctx, b)
		if err != nil {
			closeAll(held)
			return nil, err
		}
		if c != nil {
			held = append(held, c)
		}
	}
	return held, nil
}

// take takes the lease. It returns what holds that of the connection.
func (l Lease) take(ctx context.Context, b *launch.Broker) (*control.Client, error) {
	want := l.lease
	var err error
	if want.Directory != "" {
		// The daemon has a directory of its own, and a link is not what ends.
		if want.Directory, err = filepath.Abs(want.Directory); err == nil {
			want.Directory, err = filepath.EvalSymlinks(want.Directory)
		}
	} else if want.PID != 0 {
		var id proc.ID
		id, err = proc.Of(want.PID)
		want.StartedTicks = id.Start
	}
	if err != nil {
		return nil, b.LeaseFault(err)
	}
	return b.Lease(ctx, want)
}

func closeAll(held []*control.Client) {
	for _, c := range held {
		_ = c.Close()
	}
}
