package daemon

import (
	"errors"
	"net"
	"testing"
	"time"
)

// TestDrainEndsPause: who waits in Accept while a successor takes over gets the queue
// when that comes to nothing and the daemon drains.
func TestDrainEndsPause(t *testing.T) {
	ul, dial := listenForTest(t)
	l := newListener(ul, newNeed(0))
	defer l.Close()
	l.pause()
	queued, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()
	accepted := make(chan error, 2)
	go func() {
		for range 2 {
			conn, err := l.Accept()
			if err == nil {
				_ = conn.Close()
			}
			accepted <- err
		}
	}()
	select {
	case err := <-accepted:
		t.Fatalf("it accepts in a pause: %v", err)
	case <-time.After(50 * time.Millisecond): // it does not
	}
	if err := l.refuse(); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("the kernel cannot refuse newcomers and keep the queue")
		}
		t.Fatal(err)
	}
	for i, want := range []error{nil, net.ErrClosed} {
		select {
		case err := <-accepted:
			if !errors.Is(err, want) {
				t.Errorf("accept %d: %v, want %v", i, err, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("Accept waits for the end of a pause that is over")
		}
	}
}
