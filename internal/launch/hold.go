package launch

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Holding is a listener that a standing broker has, whoever accepts from it.
// Connections wait in its queue for as long as any process has a copy. It is not
// safe for concurrent use.
type Holding struct {
	Place runtimedir.Place
	Inode record.Inode // of both names

	sock *endpoint.Socket
}

// Socket is the listener; it stays the holding's.
func (h *Holding) Socket() *endpoint.Socket { return h.sock }

// Close gives the broker's copy up. It touches neither the names nor the copies of
// others.
func (h *Holding) Close() error { return h.sock.Close() }

// Holder is the directory of the standing broker's generation that holds the
// endpoint of the service in dir, "" if none does. Whoever only looks must not
// connect to a held endpoint: the broker would launch its daemon for that.
func Holder(dir string) string {
	holder, err := os.Readlink(filepath.Join(dir, runtimedir.HolderName))
	if err != nil || !filepath.IsAbs(holder) {
		return ""
	}
	if alive, err := lock.Held(filepath.Join(holder, runtimedir.LifeName)); err != nil || !alive {
		return ""
	}
	return holder
}

// Hold binds the service's endpoint and listens, and launches nobody: Outlook.Held
// is the listener then. With Result Attached somebody accepts there already, whose
// listener may be had through its control endpoint.
//
// holder is the directory of the calling broker's own generation.
// It blocks as Ensure does.
func (b *Broker) Hold(ctx context.Context, holder string) (Outlook, error) {
	with := *b
	with.holder = holder
	o, err := with.Ensure(ctx, Holds, StepLock, proc.BootTime())
	if o.Conn != nil {
		_ = o.Conn.Close()
		o.Conn = nil
	}
	return o, err
}

// Adopt gets a copy of the listener of a generation that serves, as the broker that
// holds it. The client is the hold's life: until it is closed, the generation leaves
// its queue to the caller when it ends.
//
// It blocks until the daemon has answered, which a stopped one never does, or until
// ctx ends.
func (b *Broker) Adopt(ctx context.Context, place runtimedir.Place, e Entry, holder string) (*Holding, *control.Client, error) {
	f, c, err := TakeHold(ctx, place, e)
	if err != nil {
		return nil, nil, err
	}
	h := &Holding{Place: place}
	if h.sock, err = endpoint.TakeFile(f); err == nil {
		// Under the lock the name leads to the listener that current's generation has.
		if h.Inode, err = b.markHeld(ctx, place, holder); err != nil {
			_ = h.Close()
		}
	}
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return h, c, nil
}

// TakeHold is what Adopt asks the generation, for who has its listener already: the
// file is another copy. It blocks as Adopt does.
func TakeHold(ctx context.Context, place runtimedir.Place, e Entry) (*os.File, *control.Client, error) {
	// One that was launched a moment ago has nothing to hand over yet. Who has heard
	// enough is hung up on, so the hold gets a connection of its own.
	c, err := DialControl(ctx, place, e.Name)
	if err != nil {
		return nil, nil, err
	}
	err = c.Watch(ctx, Nonce(), func(id control.Identity) bool { return id.Phase != control.Phase(record.Launching) })
	_ = c.Close()
	if err != nil {
		return nil, nil, err
	}
	if c, err = DialControl(ctx, place, e.Name); err != nil {
		return nil, nil, err
	}
	f, err := c.Hold(ctx)
	if err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	return f, c, nil
}

// Inherit makes a holding of a listener that another broker has held, and takes f over
// whatever it returns; inode is that of its names. Whoever serves from it serves on.
// The error is ErrMoved if the endpoint's name does not lead to it any more.
//
// It blocks until it has had the launch lock, or until ctx ends.
func (b *Broker) Inherit(ctx context.Context, f *os.File, inode record.Inode, holder string) (*Holding, error) {
	h := &Holding{Inode: inode}
	var err error
	if h.sock, err = endpoint.TakeFile(f); err != nil {
		return nil, err
	}
	if h.Place, err = b.find(); err == nil {
		var at record.Inode
		if at, err = b.markHeld(ctx, h.Place, holder); err == nil && at != inode {
			err = ErrMoved
		}
	}
	if err != nil {
		_ = h.Close()
		return nil, err
	}
	return h, nil
}

// LetGo says that the broker whose generation has the given directory holds the service
// no more, though it lives on. It blocks until it has had the launch lock, or until ctx
// ends.
func (b *Broker) LetGo(ctx context.Context, holder string) error {
	place, err := b.find()
	if err != nil {
		return err
	}
	dir, err := b.lockDir(ctx, place)
	if dir == nil || err != nil {
		return err
	}
	defer func() { _ = lock.Release(dir) }()
	path := filepath.Join(place.Dir, runtimedir.HolderName)
	if at, err := os.Readlink(path); err != nil || at != holder {
		return nil // somebody else does
	}
	return os.Remove(path)
}

// ErrMoved says that an endpoint's name leads to another listener.
var ErrMoved = errors.New("the endpoint's name leads to another listener")

// Activate launches a daemon that inherits a copy of the held listener, with whoever
// waits in its queue. With Result Attached it launched nobody: somebody accepts from
// it, or the names do not lead to it any more.
//
// It blocks as Ensure does.
func (b *Broker) Activate(ctx context.Context, h *Holding) (Outlook, error) {
	with := *b
	with.held = h
	return with.Ensure(ctx, Activates, StepLock, proc.BootTime())
}
