package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// An Instance is this run of the daemon as Load sees it: its arguments, its
// endpoint, its directories, and how it reports. Safe for concurrent use; a
// backend may keep it in its state.
type Instance struct {
	service, instance string
	generation        uint64
	dir               string // the generation's directory, "" without a broker
	endpoint          fastbind.Endpoint
	inode             record.Inode // of the endpoint, zero until a backend has bound it itself
	args              []string

	need   *need   // whether anybody needs the daemon
	leases *leases // what its life is tied to
	giver  *giver  // hands the listener over to a successor
	stop   func()  // begins a drain, as a signal does

	mu          sync.Mutex // guards the fields below
	identity    control.Identity
	changed     chan struct{} // closed and replaced at each change
	phase       record.Phase
	readyLater  bool
	said        bool // that it is ready
	connections func() int
	started     time.Time

	// content is the record as this process knows it, to write it again if a
	// cleaner has removed it.
	content []byte
	life    *os.File // held until the process ends, then freed by the kernel
}

// Service returns the service's name.
func (i *Instance) Service() string { return i.service }

// Name returns the instance's name, such as "default".
func (i *Instance) Name() string { return i.instance }

// Generation returns the number of this run of the service.
func (i *Instance) Generation() uint64 { return i.generation }

// Endpoint returns where clients dial.
func (i *Instance) Endpoint() fastbind.Endpoint { return i.endpoint }

// Args returns the process's arguments without the program's name.
func (i *Instance) Args() []string { return slices.Clone(i.args) }

// RuntimeDir returns a private directory that belongs to this generation and is
// removed some time after its end; "" for a daemon that no broker launched.
func (i *Instance) RuntimeDir() string { return i.dir }

// Progress reports how far the daemon has loaded: what it is doing, and the
// fraction done from 0 to 1, negative if it cannot tell. Waiting clients and
// status see it at once. It never blocks on them.
func (i *Instance) Progress(message string, fraction float64) {
	if fraction < 0 || fraction != fraction {
		fraction = -1
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.identity.Progress = &control.Progress{Message: bounded(message), Fraction: min(fraction, 1)}
	i.changeLocked()
}

// bounded keeps a message within a control frame.
func bounded(s string) string {
	const limit = 1024
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// ReadyLater, called in Load, makes the daemon serve while it still loads: it
// stays in phase loading until Ready is called, and answers meanwhile as its
// protocol allows.
func (i *Instance) ReadyLater() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.readyLater = true
}

// Ready reports that the daemon is ready. It is needed only after ReadyLater and
// does nothing when it was said already.
func (i *Instance) Ready() {
	i.mu.Lock()
	ready := !i.said && (i.phase == record.Bound || i.phase == record.Loading)
	if ready {
		i.said = true
		i.identity.Progress = nil
	}
	i.mu.Unlock()
	if ready {
		i.enter(record.Ready)
		i.need.release() // it was needed by its own loading
	}
}

// Current is the truth that the control endpoint tells.
func (i *Instance) Current() (control.Identity, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	id := i.identity
	id.Phase = control.Phase(i.phase)
	id.Uptime = time.Since(i.started)
	if i.connections != nil {
		id.Connections = i.connections()
	}
	id.Leases, id.EndsIn = i.need.seen()
	id.Unused = i.need.unused()
	return id, i.changed
}

// Drain begins a drain, for the control endpoint.
func (i *Instance) Drain() { i.stop() }

// Lease takes a lease, for the control endpoint.
func (i *Instance) Lease(l control.Lease) (end func(), err error) { return i.leases.add(l) }

// Handover takes a successor, for the control endpoint.
func (i *Instance) Handover() (*control.Succession, error) { return i.giver.begin() }

// Hold takes a standing broker, for the control endpoint.
func (i *Instance) Hold(holder string) (*control.Succession, error) { return i.giver.hold(holder) }

// maxStacks bounds a dump of stacks: some thousand goroutines.
const maxStacks = 1 << 20

// Stacks returns the stacks of all goroutines and writes them to stderr, which
// is the log.
func (i *Instance) Stacks() string {
	buf := make([]byte, maxStacks)
	buf = buf[:runtime.Stack(buf, true)]
	_, _ = os.Stderr.Write(append(append([]byte("stacks of all goroutines, as asked for:\n"), buf...), '\n'))
	return string(buf)
}

func (i *Instance) changeLocked() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// enter changes the phase: first in the record, which outlives the process, then
// for everyone who watches.
func (i *Instance) enter(p record.Phase) {
	i.append(record.PhaseLines(p, proc.BootTime())...)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.phase = p
	i.changeLocked()
}

// fail writes the verdict.
func (i *Instance) fail(f record.Failure) {
	i.append(record.FailureLines(f)...)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.phase = record.Failed
	i.identity.Failure = bounded(f.Stage + ": " + f.Cause)
	i.changeLocked()
}

// append adds to the record. One that a cleaner removed is written again by
// heal; with its directory gone the daemon finds itself stranded.
func (i *Instance) append(lines ...record.Line) error {
	if i.dir == "" {
		return nil
	}
	i.mu.Lock()
	i.content = append(i.content, record.Encode(lines)...)
	i.mu.Unlock()
	err := record.Append(filepath.Join(i.dir, record.FileName), lines...)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// heal makes the record and the life lock's file again if an outsider removed
// them, as cleaners of temporary directories do: without them the daemon is
// invisible to status and stop. It does nothing without the directory.
func (i *Instance) heal() {
	if i.dir == "" {
		return
	}
	if _, err := os.Lstat(filepath.Join(i.dir, record.FileName)); os.IsNotExist(err) {
		i.mu.Lock()
		content := i.content
		i.mu.Unlock()
		_ = record.Restore(filepath.Join(i.dir, record.FileName), content)
	}
	if _, err := os.Lstat(filepath.Join(i.dir, runtimedir.LifeName)); os.IsNotExist(err) {
		if f, err := launch.CreateLife(i.dir); err == nil {
			i.mu.Lock()
			i.life = f // the old file's lock goes with its last descriptor
			i.mu.Unlock()
		}
	}
}
