package standing

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A broker's listeners outlive it in two ways, and who waits in their queues with
// them: its successor is sent them when it ends, over a socket in its generation's
// directory to which the successor connected before; and systemd keeps them over a
// crash. In both each has a label, its service and its inode: a listener is of use
// only where its name still leads to it.

// heirName is the socket's name; it is as short as the control endpoint's.
const heirName = "fds"

// passWithin bounds the passing on of all listeners.
const passWithin = 10 * time.Second

// label names a listener: DIRNAME@DEVICE.INODE.
func label(dirName string, inode record.Inode) string {
	return dirName + "@" + strconv.FormatUint(inode.Dev, 10) + "." + strconv.FormatUint(inode.Ino, 10)
}

// maxLabel is longer than any label.
const maxLabel = 255

func parseLabel(s string) (dirName string, inode record.Inode, ok bool) {
	dirName, rest, _ := strings.Cut(s, "@")
	dev, ino, found := strings.Cut(rest, ".")
	var err1, err2 error
	inode.Dev, err1 = strconv.ParseUint(dev, 10, 64)
	inode.Ino, err2 = strconv.ParseUint(ino, 10, 64)
	return dirName, inode, found && err1 == nil && err2 == nil && dirName != "" && label(dirName, inode) == s
}

// A Legacy is what the broker before leaves. It is safe for concurrent use.
type Legacy struct {
	mu   sync.Mutex
	conn *net.UnixConn // to the broker that will end, or nil
	left map[string]broker.Left
}

// Claim makes this process the heir of the instance's broker that lives, if there is
// one: what it holds when it ends is the caller's then.
func Claim(ctx context.Context, env runtimedir.Env, instance string) *Legacy {
	return claim(ctx, env, instance, "")
}

// claim is Claim of a broker whose own generation is that of the name.
func claim(ctx context.Context, env runtimedir.Env, instance, own string) *Legacy {
	l := &Legacy{left: map[string]broker.Left{}}
	place, err := env.Find(instance, Service)
	if err != nil {
		return l
	}
	entries, _ := launch.Generations(place.Dir)
	e, ok := launch.Current(place.Dir, entries)
	if !ok || !e.Alive || e.Name == own {
		return l
	}
	if conn, _, err := endpoint.Connect(ctx, filepath.Join(place.Addr, e.Name, heirName)); err == nil {
		l.conn = conn
	}
	return l
}

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
	dirName, inode, ok := parseLabel(name)
	if _, twice := l.left[dirName]; !ok || twice || len(l.left) >= maxServices {
		_ = f.Close()
		return
	}
	l.left[dirName] = broker.Left{File: f, Inode: inode}
}

// take returns what is left of a service, once.
func (l *Legacy) take(dirName string) broker.Left {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.left[dirName]
	delete(l.left, dirName)
	return left
}

// close closes what nobody has taken, and returns the labels.
func (l *Legacy) close() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var labels []string
	for dirName, left := range l.left {
		labels = append(labels, label(dirName, left.Inode))
		_ = left.File.Close()
	}
	clear(l.left)
	return labels
}

// An estate is what this broker will leave.
type estate struct {
	manager *activation.Manager
	managed bool
	say     func(string)
	ln      *net.UnixListener // nil if there is none to be had

	mu   sync.Mutex
	heir *net.UnixConn
	left []func(*net.UnixConn) error // sends one each

	// What the service manager is told, in order: it answers nothing, but may be
	// slow to read.
	told chan func()
}

// newEstate waits for an heir at the generation's directory, whose short address is
// addr.
func newEstate(c *Config, addr string) *estate {
	e := &estate{manager: c.Manager, managed: len(c.Manager.Sockets) > 0 || c.Manager.Watchdog > 0, say: c.Say, told: make(chan func(), maxServices)}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(addr, heirName), Net: "unix"})
	if err != nil {
		c.Say("a successor will find nobody to take listeners over from: " + err.Error())
		return e
	}
	e.ln = ln
	return e
}

// serve waits for heirs, of which the last one counts, and tells the manager what it
// is to keep, until ctx ends.
func (e *estate) serve(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if e.ln != nil {
		defer e.ln.Close()
		wg.Go(e.accept)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-e.told:
			f()
		}
	}
}

func (e *estate) accept() {
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
	}
}

// pauseAccept is the time until the next attempt when descriptors have run out.
const pauseAccept = 100 * time.Millisecond

// keep has the service manager keep a listener.
func (e *estate) keep(dirName string, h *launch.Holding) {
	if !e.managed {
		return
	}
	name := label(dirName, h.Inode)
	f, err := h.Socket().File(name)
	if err != nil {
		return
	}
	e.tell(func() {
		_ = e.manager.Keep(name, f)
		_ = f.Close()
	})
}

// leave keeps a listener for the heir when the broker ends, if there is one, and else has
// nobody keep it. What a service manager keeps over a restart is no promise: it does not
// say whether there will be one.
func (e *estate) leave(dirName string, h *launch.Holding, departs bool) bool {
	name := label(dirName, h.Inode)
	if !departs {
		if e.managed {
			e.tell(func() { _ = e.manager.Drop(name) })
		}
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heir == nil {
		return false
	}
	f, err := h.Socket().File(name)
	if err != nil {
		return false
	}
	e.left = append(e.left, func(conn *net.UnixConn) error {
		defer f.Close()
		if conn == nil {
			return nil
		}
		return sendFile(conn, name, f)
	})
	return true
}

// tell does something in its turn, or not at all if the manager does not keep up:
// then a listener is lost with a crash, which it would be without a manager.
func (e *estate) tell(f func()) {
	select {
	case e.told <- f:
	default:
	}
}

// pass sends everything to the heir, if there is one, when nobody holds it any more.
func (e *estate) pass() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.heir != nil {
		defer e.heir.Close()
		_ = e.heir.SetWriteDeadline(time.Now().Add(passWithin))
	}
	for _, send := range e.left {
		if err := send(e.heir); err != nil {
			e.say("passing listeners on: " + err.Error())
			_ = e.heir.Close()
			e.heir = nil
		}
	}
	e.left = nil
}

var errLabel = errors.New("a listener came without its label, or a label without its listener")
