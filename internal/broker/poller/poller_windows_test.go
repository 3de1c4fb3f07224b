package poller

import (
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/pipe"
)

func held(t *testing.T, name string) *endpoint.Socket {
	t.Helper()
	s, err := endpoint.BindHeld(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func dial(t *testing.T, name string) {
	t.Helper()
	c, err := pipe.Connect(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

// TestPoller: whoever waits is told of, once, also if it came before; what is forgotten is
// not.
func TestPoller(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	prefix := pipe.Prefix + "fastbind-test-" + rand.Text()
	const n = 70 // more than are told of at a time
	var want []uint64
	var socks []*endpoint.Socket
	for i := range n {
		name := prefix + strconv.Itoa(i)
		s := held(t, name)
		socks = append(socks, s)
		if i%3 == 0 {
			dial(t, name)
		}
		key := uint64(i) | 1<<63
		if err := p.Watch(s, key); err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			dial(t, name)
		}
		if i%3 != 2 {
			want = append(want, key)
		}
	}
	var got []uint64
	for len(got) < len(want) {
		if got, err = p.Wait(got); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got %d keys, want %d: %x", len(got), len(want), got)
	}
	for range 2 {
		if err := p.Forget(socks[5]); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, prefix+"5")
	dial(t, prefix+"8")
	if got, err := p.Wait(nil); err != nil || !slices.Equal(got, []uint64{8 | 1<<63}) {
		t.Fatalf("%x, %v", got, err)
	}
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
	if err := p.Watch(socks[0], 0); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Watch said %v", err)
	}
}
