package standing

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A broker's listeners outlive it in two ways, and who waits in their queues with
// them: its successor is sent them when it ends, over a socket in its generation's
// directory to which the successor connected before; and systemd keeps them over a
// crash. In both each has a label, its endpoint and its inode: a listener is of use
// only where its name still leads to it.

// heirName is the socket's name; it is as short as the control endpoint's.
const heirName = "fds"

// passWithin bounds the passing on of all listeners.
const passWithin = 10 * time.Second

// label names a listener: DIRNAME@DEVICE.INODE, or DIRNAME/ENDPOINT@DEVICE.INODE of a
// further endpoint.
func label(dirName string, l launch.Left) string {
	if l.Endpoint != "" {
		dirName += "/" + l.Endpoint
	}
	return dirName + "@" + strconv.FormatUint(l.Inode.Dev, 10) + "." + strconv.FormatUint(l.Inode.Ino, 10)
}

// maxLabel is longer than any label.
const maxLabel = 255

func parseLabel(s string) (dirName string, l launch.Left, ok bool) {
	of, rest, _ := strings.Cut(s, "@")
	dirName, l.Endpoint, _ = strings.Cut(of, "/")
	dev, ino, found := strings.Cut(rest, ".")
	var err1, err2 error
	l.Inode.Dev, err1 = strconv.ParseUint(dev, 10, 64)
	l.Inode.Ino, err2 = strconv.ParseUint(ino, 10, 64)
	return dirName, l, found && err1 == nil && err2 == nil && dirName != "" && label(dirName, l) == s
}

// A Legacy is what the broker before leaves. It is safe for concurrent use.
type Legacy struct {
	dir func(dirName string) (string, error) // where a service's names are

	mu       sync.Mutex
	conn     *net.UnixConn          // to the broker that will end, or nil
	same     map[string]broker.Left // of this process's former program
	left     map[string][]launch.Left
	count    int      // of left, bounded by maxLeft
	unwanted []string // labels of what was closed
}

// maxLeft bounds the listeners of a legacy: most services have one. The service manager
// keeps as many (FileDescriptorStoreMax= in internal/broker/unit).
const maxLeft = 2 * maxServices

func newLegacy(env runtimedir.Env, instance string) *Legacy {
	return &Legacy{left: map[string][]launch.Left{}, dir: func(dirName string) (string, error) {
		place, err := env.Find(instance, dirName)
		return place.Dir, err
	}}
}

// Claim makes this process the heir of the instance's broker that lives, if there is
// one: what it holds when it ends is the caller's then. It returns when that broker knows
// of it, or does not say so within heirWithin.
func Claim(ctx context.Context, env runtimedir.Env, instance string) *Legacy {
	return claim(ctx, env, instance, "")
}

// claim is Claim of a broker whose own generation is that of the name.
func claim(ctx context.Context, env runtimedir.Env, instance, own string) *Legacy {
	l := newLegacy(env, instance)
	place, err := env.Find(instance, Service)
	if err != nil {
		return l
	}
	entries, _ := launch.Generations(place.Dir)
	e, ok := launch.Current(place.Dir, entries)
	if !ok || !e.Alive || e.Name == own {
		return l
	}
	conn, _, err := endpoint.Connect(ctx, filepath.Join(place.Addr, e.Name, heirName))
	if err != nil {
		return l
	}
	uc, ok := any(conn).(*net.UnixConn)
	if !ok { // no descriptor comes through a pipe
		_ = conn.Close()
	} else if isHeir(ctx, uc) {
		l.conn = uc
	}
	return l
}

// isHeir waits until the broker at the other end says that we are its heir: one that is
// asked to end before it has accepted the connection would leave us nothing. Else conn is
// closed.
func isHeir(ctx context.Context, conn *net.UnixConn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(heirWithin))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	said := make([]byte, len(youAreHeir))
	if _, err := io.ReadFull(conn, said); err != nil || string(said) != youAreHeir {
		_ = conn.Close()
		return false
	}
	return true
}

// youAreHeir is what a broker says to who connects, at once.
const youAreHeir = "\n"

// heirWithin bounds the wait for that: a broker that hangs has nothing to leave.
const heirWithin = 2 * time.Second

// stored takes what the service manager has kept.
func (l *Legacy) stored(sockets []activation.Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sockets {
		l.add(s.Name, s.File)
	}
}

// receive waits for what the broker before sends, which it does when it ends.
func (l *Legacy) receive(ctx context.Context) {
	if l.conn == nil {
		return
	}
	defer l.conn.Close()
	_ = l.conn.SetReadDeadline(time.Now().Add(passWithin))
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = receiveFiles(l.conn, l.add)
}

// add takes a file over.
func (l *Legacy) add(name string, f *os.File) {
	dirName, left, ok := parseLabel(name)
	if left.File = f; !ok || l.count == maxLeft {
		l.drop(name, left)
		return
	}
	l.count++
	l.left[dirName] = append(l.left[dirName], left)
}

func (l *Legacy) drop(name string, left launch.Left) {
	_ = left.File.Close()
	if len(l.unwanted) < maxLeft {
		l.unwanted = append(l.unwanted, name)
	}
}

// take returns what is left of a service, once: of each endpoint the listener that a name
// leads to. There may be another: a service manager keeps what a broker that was killed
// had no time to take back.
func (l *Legacy) take(dirName string) broker.Left {
	dir, err := l.dir(dirName)
	l.mu.Lock()
	defer l.mu.Unlock()
	if left, ok := l.same[dirName]; ok {
		delete(l.same, dirName)
		return left
	}
	var left broker.Left
	for _, one := range l.left[dirName] {
		switch {
		case err != nil || !one.Leads(dir):
			l.drop(label(dirName, one), one)
		case one.Endpoint != "":
			left.Further = append(left.Further, one)
		case left.File == nil:
			left.File, left.Inode = one.File, one.Inode
		default: // the same one twice
			_ = one.File.Close()
		}
	}
	if left.File == nil { // nothing else decides
		for _, one := range left.Further {
			l.drop(label(dirName, one), one)
		}
		left.Further = nil
	}
	l.count -= len(l.left[dirName])
	delete(l.left, dirName)
	return left
}

// close closes what nobody has taken, and returns the labels of all that was closed.
func (l *Legacy) close() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for dirName, all := range l.left {
		for _, left := range all {
			l.drop(label(dirName, left), left)
		}
	}
	for dirName, left := range l.same {
		for _, one := range append(left.Further, launch.Left{Inode: left.Inode, File: left.File}) {
			if one.File != nil {
				l.drop(label(dirName, one), one)
			}
		}
		left.File, left.Further = nil, nil
		left.Close()
	}
	clear(l.same)
	clear(l.left)
	labels := l.unwanted
	l.count, l.unwanted = 0, nil
	return labels
}

// An estate is what this broker will leave.
type estate struct {
	manager *activation.Manager
	managed bool
	say     func(string)
	ln      *net.UnixListener // nil if there is none to be had

	kept map[string][]string // labels that the manager was told of; by whoever calls keep and leave

	mu   sync.Mutex
	heir *net.UnixConn
	left []launch.Left // the files are called by their labels

	// What the service manager is told, in order: it answers nothing, but may be
	// slow to read.
	told chan told
}

// told is that the manager is to keep a listener that is called by its label, or, without
// a file, to keep it no longer.
type told struct {
	label string
	file  *os.File
}

// newEstate waits for an heir at the generation's directory, whose short address is
// addr.
func newEstate(c *Config, addr string) *estate {
	e := &estate{manager: c.Manager, managed: len(c.Manager.Sockets) > 0 || c.Manager.Watchdog > 0, say: c.Say, kept: map[string][]string{}, told: make(chan told, maxLeft)}
	path := filepath.Join(addr, heirName)
	ln, err := listenHeir(path)
	if errors.Is(err, errors.ErrUnsupported) {
		return e
	}
	if err != nil {
		c.Say("a successor will find nobody to take listeners over from: " + err.Error())
		return e
	}
	_ = os.Chmod(path, 0o600) // as all sockets are; nobody else gets into the directory
	e.ln = ln
	return e
}

// serve waits for heirs, of which the last one counts, and tells the manager what it
// is to keep, until ctx ends.
func (e *estate) serve(ctx context.Context) {
	var accepting, watching sync.WaitGroup
	defer func() {
		accepting.Wait()
		e.mu.Lock()
		if e.heir != nil { // it is the heir still
			_ = e.heir.SetReadDeadline(time.Unix(1, 0))
		}
		e.mu.Unlock()
		watching.Wait()
	}()
	if e.ln != nil {
		defer e.ln.Close()
		accepting.Go(func() { e.accept(&watching) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-e.told:
			if t.file == nil {
				_ = e.manager.Drop(t.label)
				continue
			}
			_ = e.manager.Keep(t.label, t.file)
			_ = t.file.Close()
		}
	}
}

// untold closes what the manager is not told of any more.
func (e *estate) untold() {
	for {
		select {
		case t := <-e.told:
			if t.file != nil {
				_ = t.file.Close()
			}
		default:
			return
		}
	}
}

func (e *estate) accept(watching *sync.WaitGroup) {
	for {
		conn, err := e.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pauseAccept)
			continue
		}
		if peer.Check(conn) != nil {
			_ = conn.Close()
			continue
		}
		e.mu.Lock()
		if e.heir != nil {
			_ = e.heir.Close()
		}
		e.heir = conn
		e.mu.Unlock()
		_, _ = conn.Write([]byte(youAreHeir)) // there is room; who has hung up is seen below
		watching.Go(func() { e.watch(conn) })
	}
}

// watch forgets an heir that hangs up, or says something: it takes nothing over. It
// returns at the connection's deadline, which is set when the broker ends.
func (e *estate) watch(conn *net.UnixConn) {
	_, err := conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heir == conn {
		e.heir = nil
	}
	_ = conn.Close()
}

// pauseAccept is the time until the next attempt when descriptors have run out.
const pauseAccept = 100 * time.Millisecond

// keep has the service manager keep the listeners of a service.
func (e *estate) keep(dirName string, h *launch.Holding) {
	if !e.managed {
		return
	}
	copies, err := h.Copies(func(l launch.Left) string { return label(dirName, l) })
	if err != nil {
		return
	}
	before := e.kept[dirName]
	e.kept[dirName] = nil
	for _, l := range copies {
		e.kept[dirName] = append(e.kept[dirName], l.File.Name())
		e.tell(told{l.File.Name(), l.File})
	}
	e.takeBack(before, e.kept[dirName])
}

// takeBack has the manager keep no longer what is not among those that are kept now.
func (e *estate) takeBack(before, now []string) {
	for _, name := range before {
		if !slices.Contains(now, name) {
			e.tell(told{label: name})
		}
	}
}

// leave keeps the listeners of a service for the heir when the broker ends, if there is
// one, and else has nobody keep them. What a service manager keeps over a restart is no
// promise: it does not say whether there will be one.
func (e *estate) leave(dirName string, h *launch.Holding, departs bool) bool {
	if !departs {
		if !slices.Contains(e.kept[dirName], label(dirName, launch.Left{Inode: h.Inode})) {
			return false // others are kept in their place
		}
		e.takeBack(e.kept[dirName], nil)
		delete(e.kept, dirName)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heir == nil {
		return false
	}
	copies, err := h.Copies(func(l launch.Left) string { return label(dirName, l) })
	e.left = append(e.left, copies...)
	return err == nil
}

// tell tells the manager in its turn, or not at all if it does not keep up: then a
// listener is lost with a crash, which it would be without a manager.
func (e *estate) tell(t told) {
	select {
	case e.told <- t:
	default:
		if t.file != nil {
			_ = t.file.Close()
		}
	}
}

// pass sends everything to the heir, if there is one, when nobody holds it any more.
func (e *estate) pass() {
	e.untold()
	e.mu.Lock()
	defer e.mu.Unlock()
	if heir := e.heir; heir != nil {
		defer heir.Close()
		_ = heir.SetWriteDeadline(time.Now().Add(passWithin))
	}
	for _, l := range e.left {
		if e.heir != nil {
			if err := sendFile(e.heir, l.File.Name(), l.File); err != nil {
				e.say("passing listeners on: " + err.Error())
				_ = e.heir.Close()
				e.heir = nil
			}
		}
		_ = l.File.Close()
	}
	e.left = nil
}

var errLabel = errors.New("a listener came without its label, or a label without its listener")
