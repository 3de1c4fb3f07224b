//go:build linux

package poller

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/endpoint"
)

func listening(t *testing.T, path string) *endpoint.Socket {
	t.Helper()
	s, err := endpoint.Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t *testing.T, path string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// TestPoller: whoever waits is told of, once, also if it came before.
func TestPoller(t *testing.T) {
	p, dir := newPoller(t), t.TempDir()
	const n = 200
	var want []uint64
	var socks []*endpoint.Socket
	for i := range n {
		path := filepath.Join(dir, strconv.Itoa(i))
		s := listening(t, path)
		socks = append(socks, s)
		if i%3 == 0 {
			dial(t, path)
		}
		key := uint64(i) | 1<<63
		if err := p.Watch(s, key); err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			dial(t, path)
		}
		if i%3 != 2 {
			want = append(want, key)
		}
	}
	var got []uint64
	for len(got) < len(want) {
		var err error
		if got, err = p.Wait(got); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got %d keys, want %d: %x", len(got), len(want), got)
	}
	// Nothing more until it is asked again; then at once, for nobody has accepted.
	dial(t, filepath.Join(dir, "0"))
	dial(t, filepath.Join(dir, "2"))
	if got, err := p.Wait(nil); err != nil || !slices.Equal(got, []uint64{2 | 1<<63}) {
		t.Fatalf("%x, %v", got, err)
	}
	if err := p.Watch(socks[0], 7); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Wait(nil); err != nil || !slices.Equal(got, []uint64{7}) {
		t.Fatalf("%x, %v", got, err)
	}
	// What is forgotten is not told, and can be forgotten twice.
	for range 2 {
		if err := p.Forget(socks[5]); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, filepath.Join(dir, "5"))
	dial(t, filepath.Join(dir, "8"))
	if got, err := p.Wait(nil); err != nil || !slices.Equal(got, []uint64{8 | 1<<63}) {
		t.Fatalf("%x, %v", got, err)
	}
}

// TestClose: it ends a Wait, and everything after.
func TestClose(t *testing.T) {
	p := newPoller(t)
	ended := make(chan error)
	go func() {
		_, err := p.Wait(nil)
		ended <- err
	}()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait ended with %v", err)
	}
	if err := p.Watch(new(endpoint.Socket), 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Watch said %v", err)
	}
}

// TestShut: a listener that refuses newcomers wakes too: whoever holds it learns that
// somebody has shut it down.
func TestShut(t *testing.T) {
	p := newPoller(t)
	s := listening(t, filepath.Join(t.TempDir(), "s"))
	if err := p.Watch(s, 3); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(s.FD(), unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Wait(nil); err != nil || !slices.Equal(got, []uint64{3}) {
		t.Fatalf("%x, %v", got, err)
	}
}
