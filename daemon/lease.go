package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// maxLeases bounds the directories and processes that one daemon watches.
const maxLeases = 256

// leases are what the daemon's life is tied to. Those of directories and
// processes are in the record too: the next generation takes them over, for its
// clients do not know that there was a crash. Safe for concurrent use.
type leases struct {
	need   *need
	append func(...record.Line) error

	ctx    context.Context // ended by close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the watches

	mu      sync.Mutex // guards the fields below
	held    map[record.Lease]bool
	written int // bytes of leases in the record
}

// maxLeaseBytes bounds what leases add to the record, which is never rewritten. One
// more is held all the same, but no next generation knows of it.
const maxLeaseBytes = 128 << 10

func newLeases(n *need, append func(...record.Line) error) *leases {
	l := &leases{need: n, append: append, held: map[record.Lease]bool{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *leases) close() {
	l.cancel()
	l.wg.Wait()
}

var errTooManyLeases = errors.New("the daemon holds " + strconv.Itoa(maxLeases) + " leases already")

// add takes a lease. One of a directory or process ends by itself, and is held
// once however often it is asked for; one of neither kind until end is called.
func (l *leases) add(want control.Lease) (end func(), err error) {
	if want.Directory == "" && want.PID == 0 {
		return l.need.lease(), nil
	}
	lease := record.Lease{Directory: want.Directory, PID: want.PID, Start: want.StartedTicks}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[lease] {
		return nil, nil
	}
	if len(l.held) >= maxLeases {
		return nil, errTooManyLeases
	}
	if err := l.ctx.Err(); err != nil {
		return nil, errors.New("the daemon is ending")
	}
	await, err := opened(lease)
	if err != nil {
		return nil, err
	}
	if line := record.LeaseLine(lease); l.written < maxLeaseBytes {
		if err := l.append(line); err != nil {
			return nil, err
		}
		l.written += len(line.Key) + len(line.Value)
	}
	l.held[lease] = true
	release := l.need.lease()
	l.wg.Go(func() {
		await(l.ctx)
		l.mu.Lock()
		delete(l.held, lease)
		l.mu.Unlock()
		release()
	})
	return nil, nil
}

// inherit takes over what the generation before was tied to and is still there.
// If none of it is, the daemon is needed by nobody but who launched it just now.
func (l *leases) inherit(h *handover.Handover) {
	list := launch.LeasesBefore(h.Dir, h.Generation)
	if h.Succeeds != "" {
		old, _ := record.Read(filepath.Join(h.Dir, h.Succeeds, record.FileName))
		list = old.Leases
	}
	for _, lease := range list {
		_, _ = l.add(control.Lease{Directory: lease.Directory, PID: lease.PID, StartedTicks: lease.Start})
	}
}

// opened opens what a lease is of and returns what waits for its end.
func opened(lease record.Lease) (await func(context.Context), err error) {
	if lease.Directory == "" {
		id, err := proc.Of(lease.PID)
		if err == nil && lease.Start != 0 && id.Start != lease.Start {
			err = proc.ErrGone
		}
		if err != nil {
			return nil, errors.New("process " + strconv.Itoa(lease.PID) + ": " + err.Error())
		}
		h, err := proc.Open(id)
		if err != nil {
			return nil, errors.New("process " + strconv.Itoa(lease.PID) + ": " + err.Error())
		}
		return func(ctx context.Context) {
			defer h.Close()
			_ = h.Wait(ctx)
		}, nil
	}
	if !filepath.IsAbs(lease.Directory) {
		return nil, errors.New("directory " + strconv.Quote(lease.Directory) + ": the path is not absolute")
	}
	fi, err := os.Lstat(lease.Directory)
	if err == nil && !fi.IsDir() {
		err = &os.PathError{Op: "lease", Path: lease.Directory, Err: errors.New("it is no directory")}
	}
	if err != nil {
		return nil, err
	}
	inode, err := endpoint.Inode(lease.Directory)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) { awaitDirectoryGone(ctx, lease.Directory, inode) }, nil
}

// leaseLookEvery bounds how long the loss of a directory goes unnoticed that no
// event tells, such as the renaming of one far above it.
const leaseLookEvery = 3 * time.Second

func awaitDirectoryGone(ctx context.Context, path string, inode record.Inode) {
	w, _ := watchWhatCanBe(path, filepath.Dir(path))
	defer w.Close()
	tick := time.NewTicker(leaseLookEvery)
	defer tick.Stop()
	for {
		// Only what says that it is gone is believed, not a lack of descriptors.
		now, err := endpoint.Inode(path)
		if err == nil && now != inode || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return
		}
		select {
		case <-w.C():
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
