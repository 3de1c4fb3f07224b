//go:build unix

package control

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/varlink"
)

// A fakeSuccession notes what a successor does.
type fakeSuccession struct {
	mu           sync.Mutex
	taken, ended int
	refuses      error
	endedCh      chan struct{}
}

func (f *fakeSuccession) of(ln *net.UnixListener) *Succession {
	f.endedCh = make(chan struct{}, 8)
	return &Succession{Listener: ln,
		TakeOver: func() (string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.taken++
			return "/holder", f.refuses
		},
		End: func() {
			f.mu.Lock()
			f.ended++
			f.mu.Unlock()
			f.endedCh <- struct{}{}
		}}
}

func (f *fakeSuccession) seen() (taken, ended int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken, f.ended
}

// TestHandover: the successor gets the very listener, and its connection's end
// is told.
func TestHandover(t *testing.T) {
	service := listen(t)
	defer service.Close()
	state := newState(Ready)
	var f fakeSuccession
	state.succession = f.of(service)
	dial := serveReal(t, state, nil)

	c := NewClient(dial())
	file, err := c.Handover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// Who connects to the name can be accepted from the copy.
	conn, err := net.Dial("unix", service.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = accepted.Close()

	// Another question on the same connection, then the order.
	if _, err := c.Identify(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	if _, err := c.Handover(t.Context()); remoteName(err) != errHandoverRefused {
		t.Errorf("a second handover on the connection: %v", err)
	}
	if holder, err := c.TakeOver(t.Context()); err != nil || holder != "/holder" {
		t.Error(err)
	}
	if taken, ended := f.seen(); taken != 1 || ended != 0 {
		t.Errorf("taken %d times, ended %d times", taken, ended)
	}
	c.Close()
	select {
	case <-f.endedCh:
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the successor is not told")
	}
	if _, ended := f.seen(); ended != 1 {
		t.Errorf("ended %d times", ended)
	}
}

// TestTakeOverRefused: a daemon that cannot stop accepting says so, and goes on.
func TestTakeOverRefused(t *testing.T) {
	service := listen(t)
	defer service.Close()
	state := newState(Ready)
	f := fakeSuccession{refuses: errors.New("it is served elsewhere")}
	state.succession = f.of(service)
	c := NewClient(serveReal(t, state, nil)())
	defer c.Close()
	file, err := c.Handover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := c.TakeOver(t.Context()); remoteName(err) != errHandoverRefused {
		t.Errorf("taken over: %v", err)
	}
	if _, ended := f.seen(); ended != 0 {
		t.Errorf("ended %d times, while the successor is there", ended)
	}
}

func TestHandoverRefused(t *testing.T) {
	state := newState(Ready)
	state.refuse = errors.New("there is a successor already")
	dial := serveReal(t, state, nil)
	c := NewClient(dial())
	defer c.Close()
	if _, err := c.Identify(t.Context(), "n"); err != nil { // the server has accepted
		t.Fatal(err)
	}
	before := descriptors(t)
	if f, err := c.Handover(t.Context()); remoteName(err) != errHandoverRefused || f != nil {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := c.TakeOver(t.Context()); remoteName(err) != errNoHandover {
		t.Errorf("to take over what was not handed over: %v", err)
	}
	// The connection is usable, and no descriptor was left.
	if _, err := c.Identify(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// A peer whose connection carries no descriptors gets none, and nobody is made
// its predecessor.
func TestHandoverNeedsUnix(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		if _, err := c.Handover(t.Context()); err == nil {
			t.Error("a pipe has carried a listener")
		}
		p := b.dial()
		p.say(`{"method":"io.fastbind.Daemon.Handover"}` + "\n")
		if r, err := varlink.ParseReply([]byte(p.hear())); err != nil || r.Err != errHandoverRefused {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// TestHandoverReset: the old generation is killed with the question in its queue:
// the connection is reset, and the successor told so.
func TestHandoverReset(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	old, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		// Closed with a byte unread, which resets it (unix(7)).
		_, _ = old.Read(make([]byte, 1))
		_ = old.Close()
	}()
	c := NewClient(conn)
	defer c.Close()
	f, err := c.Handover(t.Context())
	if f != nil || err != io.ErrUnexpectedEOF {
		t.Errorf("%v, %v", f, err)
	}
}
