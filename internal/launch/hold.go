package launch

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Holding is the listeners of a service that a standing broker has, whoever accepts
// from them. Connections wait in their queues for as long as any process has a copy.
// It is not safe for concurrent use, but for Copy, which may be called while it is
// closed.
type Holding struct {
	Place runtimedir.Place
	Inode record.Inode // of both names of the service's own endpoint

	sock    *endpoint.Socket
	further []*further
	holder  string // the directory of the broker's generation
	told    <-chan struct{}

	closing sync.Mutex // held by Copy and Close
}

// Copy returns another holding of the same listeners, for whoever does not know when
// this one is closed: the numbers of its descriptors may be others' then. It is
// net.ErrClosed if that is so.
func (h *Holding) Copy() (*Holding, error) {
	h.closing.Lock()
	defer h.closing.Unlock()
	if h.sock == nil || h.sock.IsClosed() {
		return nil, net.ErrClosed
	}
	c := &Holding{Place: h.Place, Inode: h.Inode, holder: h.holder, told: h.told}
	var err error
	if c.sock, err = h.sock.Copy(); err != nil {
		return nil, err
	}
	for _, f := range h.further {
		sock, err := f.sock.Copy()
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		c.further = append(c.further, &further{f.name, sock, f.inode})
	}
	return c, nil
}

// Told is closed when whoever serves tells no more of its queue; nil where there is no
// such telling, since the queue is the listener's.
func (h *Holding) Told() <-chan struct{} { return h.told }

// Socket is the listener of the service's own endpoint; it stays the holding's.
func (h *Holding) Socket() *endpoint.Socket { return h.sock }

// Leads reports whether a name of the endpoint leads to the listener.
func (h *Holding) Leads() bool { return IsNamed(h.Place.Dir, h.Inode) }

// Sockets are all listeners, the service's own first; they stay the holding's.
func (h *Holding) Sockets() []*endpoint.Socket {
	all := []*endpoint.Socket{h.sock}
	for _, f := range h.further {
		all = append(all, f.sock)
	}
	return all
}

// A Left is a listener of a holding that passes from one broker to the next.
type Left struct {
	Endpoint string // the further endpoint's name, "" for the service's own
	Inode    record.Inode
	File     *os.File
}

// Copies returns a copy of each listener, the service's own first, whose files are
// called what name says. The files are the caller's.
func (h *Holding) Copies(name func(Left) string) ([]Left, error) {
	all := []Left{{Inode: h.Inode}}
	for _, f := range h.further {
		all = append(all, Left{Endpoint: f.name, Inode: f.inode})
	}
	for i, sock := range h.Sockets() {
		var err error
		if all[i].File, err = sock.File(name(all[i])); err != nil {
			for _, l := range all[:i] {
				_ = l.File.Close()
			}
			return nil, err
		}
	}
	return all, nil
}

// Leads reports whether a name of the endpoint in a service's directory leads to the
// listener.
func (l Left) Leads(dir string) bool {
	if l.Endpoint == "" {
		return IsNamed(dir, l.Inode)
	}
	return leadsTo(dir, l.Inode, runtimedir.FurtherSock(l.Endpoint), runtimedir.FurtherKeep(l.Endpoint))
}

func leadsTo(dir string, inode record.Inode, names ...string) bool {
	for _, name := range names {
		if at, err := endpoint.Inode(filepath.Join(dir, name)); err == nil && at == inode {
			return true
		}
	}
	return false
}

// Waits reports whether somebody is in the queue of any of them, or nobody can come
// any more. It does not block.
func (h *Holding) Waits() bool { return slices.ContainsFunc(h.Sockets(), (*endpoint.Socket).Waits) }

// Shut makes the kernel refuse newcomers at all of them.
func (h *Holding) Shut() error {
	var errs []error
	for _, s := range h.Sockets() {
		errs = append(errs, s.Shut())
	}
	return errors.Join(errs...)
}

// Close gives the broker's copies up. It touches neither the names nor the copies of
// others.
func (h *Holding) Close() error {
	h.closing.Lock()
	defer h.closing.Unlock()
	closeFurther(h.further)
	if h.sock == nil {
		return nil
	}
	return h.sock.Close()
}

// Holder is the directory of the standing broker's generation that holds the
// endpoint of the service in dir, "" if none does. Whoever only looks must not
// connect to a held endpoint: the broker would launch its daemon for that.
func Holder(dir string) string {
	holder, err := runtimedir.ReadHolder(dir)
	if err != nil || !filepath.IsAbs(holder) {
		return ""
	}
	if !HolderLives(holder) {
		return ""
	}
	return holder
}

// HolderLives reports whether the broker lives whose generation has the directory. A
// fault of the file system is taken for no.
func HolderLives(holder string) bool {
	alive, err := lock.Held(filepath.Join(holder, runtimedir.LifeName))
	return err == nil && alive
}

// leaves reports whether a generation has said that it accepts nobody any more. Its
// process may live for a while.
func leaves(e Entry) bool { return e.Record.Phase == record.Draining || e.Record.Phase.Final() }

// Serving returns the living generation that serves in a service's directory, or will:
// the one that current names; if that is dead or leaves, a successor of it that
// loads, for the listener is that one's too; and where an outsider has deleted current,
// the newest that has the listener at the endpoint's name.
func Serving(dir string, entries []Entry) (Entry, bool) {
	find := func(is func(Entry) bool) (Entry, bool) {
		if i := slices.IndexFunc(entries, func(e Entry) bool { return e.Alive && is(e) }); i >= 0 {
			return entries[i], true
		}
		return Entry{}, false
	}
	name := current(dir)
	if name == "" {
		return find(func(e Entry) bool {
			return IsNamed(dir, e.Record.Inode) && (e.Record.Succeeds == "" || e.Record.TookOver)
		})
	}
	e, ok := find(func(e Entry) bool { return e.Name == name })
	if ok && !leaves(e) {
		return e, true
	}
	if heir, loads := find(func(e Entry) bool { return e.Record.Succeeds == name && !leaves(e) }); loads {
		return heir, true
	}
	return e, ok
}

// Hold binds the service's endpoint and listens, and launches nobody: Outlook.Held
// is the listener then. With Result Attached somebody accepts there already, whose
// listener may be had through its control endpoint.
//
// holder is the directory of the calling broker's own generation.
// It blocks as Ensure does. The error is errors.ErrUnsupported where the system has no
// listener that can be held.
func (b *Broker) Hold(ctx context.Context, holder string) (Outlook, error) {
	if stands.listen == nil {
		return Outlook{Result: Gave}, b.fault(Refusal, StageBind, errors.ErrUnsupported)
	}
	with := *b
	with.holder, with.standing = holder, &stands
	o, err := with.Ensure(ctx, Holds, StepLock, proc.BootTime())
	if o.Held != nil {
		o.Held.holder = holder
	}
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
	return b.adopt(ctx, place, e, holder)
}

// Inherit makes a holding of a listener that another broker has held, and takes f over
// whatever it returns; inode is that of its names, and others are those of the
// service's further endpoints. Whoever serves from them serves on. It fails if the endpoint's names
// do not lead to it any more; what else the further ones should be, the next launch sees
// to.
//
// It blocks until it has had the launch lock, or until ctx ends.
func (b *Broker) Inherit(ctx context.Context, f *os.File, inode record.Inode, holder string, others ...Left) (*Holding, error) {
	h := &Holding{Inode: inode, holder: holder}
	var err error
	h.sock, err = endpoint.TakeFile(f)
	for _, l := range others {
		sock, terr := endpoint.TakeFile(l.File)
		if err = cmp.Or(err, terr); terr == nil {
			h.further = append(h.further, &further{l.Endpoint, sock, l.Inode})
		}
	}
	if err == nil {
		h.Place, err = b.find()
	}
	if err == nil {
		err = b.markHeld(ctx, h)
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
	if at, err := runtimedir.ReadHolder(place.Dir); err != nil || at != holder {
		return nil // somebody else does
	}
	return os.Remove(filepath.Join(place.Dir, runtimedir.HolderName))
}

// markHeld says who holds, under the launch lock, if the endpoint's names lead to the
// listener.
func (b *Broker) markHeld(ctx context.Context, h *Holding) error {
	dir, err := b.lockDir(ctx, h.Place)
	if err != nil {
		return err
	}
	if dir == nil {
		return b.fault(LaunchFailed, StageDirectory, fs.ErrNotExist)
	}
	defer func() { _ = lock.Release(dir) }()
	if !IsNamed(h.Place.Dir, h.Inode) {
		return errElsewhere
	}
	return leadHolder(dir, h.Place.Dir, h.holder)
}

// Deny puts on record why nobody will accept who waits in the queue of the held
// listener, as the failure of a generation that came to no process: whoever then loses
// its connection finds that. Where an outsider has deleted the service's directory it
// makes another. It is called before the listener is closed, and blocks for the launch
// lock until ctx ends.
func (b *Broker) Deny(ctx context.Context, h *Holding, why *Fault) error {
	b = b.now()
	dir, err := b.lockDir(ctx, h.Place)
	if dir == nil && err == nil {
		if err = b.Env.MakeService(h.Place); err == nil {
			dir, err = b.lockDir(ctx, h.Place)
		}
	}
	if err != nil {
		return err
	}
	if dir == nil {
		return b.fault(LaunchFailed, StageDirectory, fs.ErrNotExist)
	}
	defer func() { _ = lock.Release(dir) }()
	entries, err := Generations(h.Place.Dir)
	if err != nil {
		return err
	}
	at := proc.BootTime()
	number := admit(entries, current(h.Place.Dir), at, at, false).next
	name := genName(number, environ.Digest(b.Contract()), at, buildDigest(b.build()))
	gen := filepath.Join(h.Place.Dir, name)
	if err := makeDir(gen); err != nil {
		return err
	}
	lines := record.LaunchLines(record.Record{Generation: number, Definition: b.Def, Launcher: os.Getpid(),
		Launched: time.Now(), LaunchedBoot: at, BootID: proc.BootID()})
	return record.Create(filepath.Join(gen, record.FileName),
		append(lines, record.FailureLines(newFailure(why.Stage, why.Err, at, time.Now()))...))
}

// AloneName is a file in the directory of a generation on Windows that has taken clients
// from its queue without telling the broker that holds it.
const AloneName = "alone"

var errElsewhere = errors.New("the endpoint's names do not lead to the listener that was handed over")

// A standing is what a standing broker does in the steps of a launch, and nobody else.
// It is called through here so that a client's program does not have it.
type standing struct {
	// Mode Holds.
	bind   func(*system) error   // StepBind
	listen func(*system) Outcome // StepListen
	drop   func(*system)         // StepAbandon

	// Mode Activates.
	own      func(*system) Outcome              // StepOwn
	inherit  func(*system) Outcome              // of StepPrepare: copies what is handed down
	become   func(*system, []string, []uintptr) // of StepSpawn: what a process that was made ahead is told
	start    func(*system) (int, error)         // of StepSpawn: has it become the daemon, or forks
	refitted func(*system, Result) *Holding     // when the launch has ended so: what is held from now on, if that has changed
}

// Activate launches a daemon that inherits copies of the held listeners, with whoever
// waits in their queues. With Result Attached it launched nobody: somebody accepts from
// them, or the names do not lead to the first any more.
//
// Where the definition has other further endpoints than are held, Outlook.Held is what
// is to be held in place of h, which stays the caller's to close.
//
// It blocks as Ensure does.
func (b *Broker) Activate(ctx context.Context, h *Holding) (Outlook, error) {
	if stands.own == nil {
		return Outlook{Result: Gave}, b.fault(Refusal, StageBind, errors.ErrUnsupported)
	}
	with := *b
	with.held, with.standing = h, &stands
	return with.Ensure(ctx, Activates, StepLock, proc.BootTime())
}
