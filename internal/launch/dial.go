package launch

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
	"github.com/fastbind/fastbind/internal/version"
)

// Dial returns a connection to the service's endpoint, launching a daemon if
// nobody can accept there. start is when the caller began to dial.
//
// What a running daemon costs is the first connect of the loop, and the getsockopt
// by which the peer is checked. Everything else is behind it.
func (b *Broker) Dial(ctx context.Context, start time.Time) (*endpoint.Conn, error) {
	paths := b.Env.Guess(b.Def.Instance, b.DirName())
	var since time.Duration
	for pause := minDialPause; ; pause = min(2*pause, maxDialPause) {
		conn, busy, err := b.attempt(ctx, paths)
		if conn != nil || err != nil {
			return conn, err
		}
		if !busy {
			if since == 0 {
				since = proc.BootTime() - time.Since(start)
			}
			o, err := b.join(ctx, since)
			if o.Conn != nil && b.judged() {
				_ = o.Conn.Close() // made before anybody asked to which build
				o.Conn = nil
			}
			if o.Conn != nil || err != nil {
				return o.Conn, err
			}
			paths = []string{o.Place.Sock()}
			continue
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return nil, b.DeadlineFault(ctx)
		}
	}
}

// A spot is where an endpoint may be, made ready for dialling again and again.
type spot struct {
	address *endpoint.Address
	dir     string // of the service, where builds are compared; "" if there was none yet
}

func (b *Broker) spotAt(path string) *spot {
	at := &spot{address: endpoint.AddressOf(path)}
	if b.own != "" { // to find it takes files on Windows
		at.dir = b.dirOf(path)
	}
	return at
}

// Reach is the warm path, all of it: it returns a connection to a daemon that runs
// where the last one did, and is of the build that is wanted. Where it returns nil Dial
// says why, or does something about it.
func (b *Broker) Reach(ctx context.Context) *endpoint.Conn {
	if b.likely == nil {
		return nil
	}
	at := b.likely.Load()
	conn, reach, _ := endpoint.ConnectTo(ctx, at.address)
	if reach != endpoint.Reached {
		return nil
	}
	if b.own != "" && !runtimedir.CurrentEndsIn(at.dir, b.own) {
		_ = conn.Close()
		return nil
	}
	return conn
}

// Bounds of the pause before a full queue is tried again. A queue is emptied by
// a daemon's accept loop within microseconds, or stays full for long.
const (
	minDialPause = 200 * time.Microsecond
	maxDialPause = 20 * time.Millisecond
)

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// attempt connects once to each path until somebody answers.
func (b *Broker) attempt(ctx context.Context, paths []string) (conn *endpoint.Conn, busy bool, err error) {
	for i, path := range paths {
		conn, reach, cerr := b.connect(ctx, path)
		switch reach {
		case endpoint.Reached:
			if err := b.admitted(path); err != nil {
				_ = conn.Close()
				return nil, false, err
			}
			if b.likely != nil {
				if at := b.likely.Load(); at.address.Name != path || b.own != "" && at.dir == "" {
					b.likely.Store(b.spotAt(path))
				}
			}
			if !b.judged() {
				return conn, false, nil
			}
			return b.suited(ctx, conn, path)
		case endpoint.Busy:
			return nil, true, nil
		case endpoint.Absent, endpoint.Refused:
			continue
		case endpoint.Broken:
			if ctx.Err() != nil {
				return nil, false, b.DeadlineFault(ctx)
			}
		}
		// A foreign or forbidden path among several guesses decides nothing: the
		// place is agreed on in the launch, which passes over what others squat.
		if i == 0 && len(paths) == 1 {
			return nil, false, b.connectFault(reach, cerr)
		}
	}
	return nil, false, nil
}

// suited returns a connection whose generation suits this client. One that is
// excluded is not kept waiting: it may serve one client after the other.
func (b *Broker) suited(ctx context.Context, conn *endpoint.Conn, path string) (_ *endpoint.Conn, again bool, err error) {
	dir := b.dirOf(path)
	switch action, _ := b.judge(dir); action {
	case version.Use:
		if b.unlimited() {
			return conn, false, nil
		}
		// The connection may be to an excluded one that was replaced before it
		// was looked at. One that is made now is not: that accepts no more.
		_ = conn.Close()
		conn, reach, _ := endpoint.Connect(ctx, path)
		return conn, reach != endpoint.Reached, nil
	case version.UseAndReplace:
		_ = b.Suit(ctx, dir) // it is served whatever comes of that
		return conn, false, nil
	}
	_ = conn.Close()
	if err := b.Suit(ctx, dir); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}

// admitted applies the definition's policy to the generation that answered at
// the path: policy refuse pays one readlink, the others nothing.
func (b *Broker) admitted(sock string) error {
	if b.Def.EnvPolicy != definition.EnvRefuse {
		return nil
	}
	dir := b.dirOf(sock)
	contract := b.Contract()
	name, err := runtimedir.ReadCurrent(dir)
	if err == nil && genIdentity(name) == environ.Digest(contract) {
		return nil
	}
	if err != nil || genNumber(name) == 0 {
		if name = b.owner(dir); genIdentity(name) == environ.Digest(contract) {
			return nil
		}
	}
	f := b.fault(Refusal, StagePolicy, errEnvironment)
	if name == "" {
		f.Err = errWhichEnvironment
	}
	if r, err := record.Read(filepath.Join(dir, name, record.FileName)); err == nil {
		f.Generation = r.Generation
		f.Differences = environ.Diff(r.Variables, contract)
	}
	f.Cure = "run: fastbind restart " + b.Def.Service + ", or use env_policy = \"coexist\""
	b.Note(filepath.Dir(filepath.Dir(dir)), refusedEvent(f))
	return f
}

var errWhichEnvironment = errors.New("nothing tells which environment the daemon runs with")

// owner finds the generation at the endpoint where an outsider has removed
// current: the newest that lives, "" if none is on record. It makes current again
// if nobody is launching, so that the next client pays one readlink.
func (b *Broker) owner(dir string) string {
	place, err := b.find()
	if err != nil || place.Dir != dir && place.Addr != dir {
		place = runtimedir.Place{Root: filepath.Dir(filepath.Dir(dir)), Dir: dir, Addr: dir}
	}
	entries, err := b.generations(place)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.Alive {
			b.restoreCurrent(place, e)
			return e.Name
		}
	}
	return ""
}

// restoreCurrent makes current lead to the living generation, under the launch
// lock if that is free.
func (b *Broker) restoreCurrent(place runtimedir.Place, e Entry) {
	f, err := openLocked(place.Dir)
	if err != nil {
		return
	}
	ok, err := lock.Try(f)
	if err != nil || !ok {
		_ = f.Close()
		return
	}
	defer lock.Release(f)
	// Whoever had the lock before us may have launched another one.
	if h, err := e.Open(); err == nil && atPath(f, place.Dir) {
		if h.Alive() && current(place.Dir) == "" {
			_ = createCurrent(place.Dir, e.Name)
		}
		_ = h.Close()
	}
}

// flights are the launches that this process waits for, one for each service:
// however many goroutines dial, one runs the protocol.
var flights = struct {
	mu sync.Mutex
	m  map[string]*flight // guarded by mu
}{m: map[string]*flight{}}

// A flight is one run of the launch protocol for all its waiters.
type flight struct {
	key     string
	done    chan struct{} // closed when outlook and err are set
	cancel  context.CancelFunc
	waiters int // guarded by flights.mu

	outlook Outlook // Conn goes to the first who takes it, guarded by flights.mu
	err     error
}

// join makes sure that the endpoint is bound. Its result has the flight's
// connection for one of the waiters; the others connect themselves.
func (b *Broker) join(ctx context.Context, since time.Duration) (Outlook, error) {
	key := b.key()
	flights.mu.Lock()
	f := flights.m[key]
	if f == nil {
		f = &flight{key: key, done: make(chan struct{})}
		flights.m[key] = f
		// The flight outlives a waiter that gives up while others wait.
		fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		f.cancel = cancel
		go f.run(fctx, b, since)
	}
	f.waiters++
	flights.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		f.leave()
		return Outlook{}, b.DeadlineFault(ctx)
	}
	flights.mu.Lock()
	defer flights.mu.Unlock()
	o := f.outlook
	f.outlook.Conn = nil
	return o, f.err
}

func (f *flight) run(ctx context.Context, b *Broker, since time.Duration) {
	defer f.cancel()
	proc.GrowStack()
	o, err := b.Ensure(ctx, b.Mode(), StepLock, since)
	flights.mu.Lock()
	defer flights.mu.Unlock()
	f.unlistLocked()
	if f.waiters == 0 && o.Conn != nil {
		_ = o.Conn.Close()
		o.Conn = nil
	}
	f.outlook, f.err = o, err
	close(f.done)
}

// leave ends the flight when nobody waits for it any more. What is under the
// launch lock is finished all the same.
func (f *flight) leave() {
	flights.mu.Lock()
	defer flights.mu.Unlock()
	f.waiters--
	if f.waiters == 0 {
		f.unlistLocked() // who comes now must not join what was cancelled
		f.cancel()
		if f.outlook.Conn != nil {
			_ = f.outlook.Conn.Close()
			f.outlook.Conn = nil
		}
	}
}

func (f *flight) unlistLocked() {
	if flights.m[f.key] == f {
		delete(flights.m, f.key)
	}
}

func (b *Broker) key() string {
	e := b.Env
	return e.RuntimeDir + "\x00" + e.XDGRuntime + "\x00" + e.Home + "\x00" + b.Def.Instance + "\x00" + b.DirName()
}
