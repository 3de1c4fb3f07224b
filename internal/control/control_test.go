package control

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/varlink"
)

var update = flag.Bool("update", false, "write testdata/golden instead of comparing with it")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := noGoroutines(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// noGoroutines waits until none runs code of this package. Serve and Close wait
// for theirs; a context's function may still be about to return.
func noGoroutines() error {
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		var left []string
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if (strings.Contains(g, "internal/control.") || strings.Contains(g, "internal/varlink.")) && !strings.Contains(g, "control.TestMain") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("goroutines left:\n%s", strings.Join(left, "\n\n"))
		}
	}
}

// sample has every field set.
func sample() Identity {
	return Identity{
		Service:      "gocache",
		Instance:     "default",
		Generation:   7,
		PID:          4711,
		StartedTicks: 123456789,
		BootID:       "3c1e2a56-4ac5-4a1b-9a44-0d8a4f3b1c2d",
		PIDNamespace: "pid:[4026531836]",
		Version:      "v1.2.3",
		BuildID:      "abc/def",
		Executable:   Executable{Device: 1<<63 | 42, Inode: 1 << 40, Size: 1234, MtimeNS: 1700000000123456789, Path: "/usr/bin/gocached"},
		Phase:        Loading,
		Progress:     &Progress{"reading \"index\"", 0.25},
		Connections:  3,
		Failure:      "no",
		Uptime:       1500 * time.Millisecond,
		Leases:       2,
		EndsIn:       90 * time.Second,
		Unused:       30 * time.Second,
	}
}

type fakeState struct {
	mu      sync.Mutex
	id      Identity
	changed chan struct{}

	drains int
	leases map[Lease]int // held
	stacks string
	refuse error // what Lease and Handover answer

	succession *Succession // what Handover answers
}

func (s *fakeState) Handover() (*Succession, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.succession, s.refuse
}

func (s *fakeState) Hold(string) (*Succession, error) { return s.Handover() }

func (s *fakeState) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drains++
}

func (s *fakeState) Hash() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "c0ffee", s.refuse
}

func (s *fakeState) Stacks() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stacks
}

func (s *fakeState) Lease(l Lease) (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	if s.leases == nil {
		s.leases = map[Lease]int{}
	}
	s.leases[l]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leases[l]--
	}, nil
}

func (s *fakeState) held(l Lease) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[l]
}

func newState(phase Phase) *fakeState {
	s := &fakeState{id: sample(), changed: make(chan struct{})}
	s.id.Phase, s.id.Failure = phase, ""
	return s
}

func (s *fakeState) Current() (Identity, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.changed
}

func (s *fakeState) change(f func(*Identity)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.id)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeState) enter(phase Phase) { s.change(func(id *Identity) { id.Phase = phase }) }

func (s *fakeState) progress(fraction float64) {
	s.change(func(id *Identity) { id.Progress = &Progress{"loading", fraction} })
}

// A pipeListener accepts in-memory connections, which obey virtual time. Sent an
// error, Accept returns that.
type pipeListener struct {
	accepts chan any // net.Conn or error
	closed  chan struct{}
	once    sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{accepts: make(chan any), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepts:
		if err, ok := a.(error); ok {
			return nil, err
		}
		return a.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// A bubble is a server under virtual time.
type bubble struct {
	*testing.T
	state  *fakeState
	server *Server
	ln     *pipeListener
	served chan error
}

// inBubble runs test with a server in its initial phase; a goroutine that is
// left afterwards fails the test.
func inBubble(t *testing.T, phase Phase, test func(*testing.T, *bubble)) {
	inBubbleOf(t, phase, varlink.DefaultPeers, test)
}

// inBubbleOf is inBubble with a server of so many peers.
func inBubbleOf(t *testing.T, phase Phase, peers int, test func(*testing.T, *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, state: newState(phase), ln: newPipeListener(), served: make(chan error, 1)}
		b.server = NewServer(b.state, nil)
		b.server.Bounds.Peers = peers
		go func() { b.served <- b.server.Serve(b.ln) }()
		defer b.server.Close()
		test(t, b)
	})
}

// dial returns a connection that the server has dealt with.
func (b *bubble) dial() *rawPeer {
	ours, theirs := net.Pipe()
	b.ln.accepts <- theirs
	synctest.Wait()
	b.Cleanup(func() { ours.Close() })
	return &rawPeer{T: b.T, Conn: ours, frames: varlink.NewFrameReader(ours)}
}

func (b *bubble) client() *Client {
	c := NewClient(b.dial().Conn)
	b.Cleanup(func() { c.Close() })
	return c
}

// A rawPeer speaks in frames.
type rawPeer struct {
	*testing.T
	net.Conn
	frames *varlink.FrameReader
}

// say writes frames; a newline in the text stands for the NUL byte.
func (p *rawPeer) say(text string) {
	p.Helper()
	if _, err := p.Write(bytes.ReplaceAll([]byte(text), []byte("\n"), []byte{0})); err != nil {
		p.Fatalf("writing %.80q: %v", text, err)
	}
}

// hear returns the next frame.
func (p *rawPeer) hear() string {
	p.Helper()
	frame, err := p.frames.Next(nil)
	if err != nil {
		p.Fatalf("reading a reply: %v", err)
	}
	return string(frame)
}

// hearIdentity returns the identity of the next reply.
func (p *rawPeer) hearIdentity() (id Identity, continues bool) {
	p.Helper()
	r, err := varlink.ParseReply([]byte(p.hear()))
	if err != nil || r.Err != "" {
		p.Fatalf("reply %+v, %v", r, err)
	}
	if id, err = parseIdentity(r.Parameters); err != nil {
		p.Fatal(err)
	}
	return id, r.Continues
}

// over fails the test unless the server has closed the connection and said
// nothing more.
func (p *rawPeer) over() {
	p.Helper()
	if frame, err := p.frames.Next(nil); err != io.EOF {
		p.Fatalf("read %q, %v, want the end", frame, err)
	}
}

const (
	askIdentify = `{"method":"io.fastbind.Daemon.Identify"}` + "\n"
	askWatch    = `{"method":"io.fastbind.Daemon.Identify","more":true}` + "\n"
)

// serveReal serves state on a real endpoint until the test ends.
func serveReal(t *testing.T, state State, check func(*endpoint.Conn) error) (dial func() net.Conn) {
	t.Helper()
	ln := listen(t)
	s := NewServer(state, check)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		conn, err := dialTo(ln)
		if err != nil {
			t.Error(err)
			runtime.Goexit()
		}
		return conn
	}
}
