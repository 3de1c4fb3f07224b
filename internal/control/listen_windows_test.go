package control

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/varlink"
)

func listen(t *testing.T) *endpoint.Listener {
	t.Helper()
	s, err := endpoint.Bind(pipe.Prefix+"fastbind-test-"+rand.Text(), 4)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listener()
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dialTo(ln net.Listener) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pipe.Dial(ctx, ln.Addr().String())
}

// TestHold: the broker is told of the queue, and of each who is taken before that one is
// handed out, until the listener is closed.
func TestHold(t *testing.T) {
	service := listen(t)
	defer service.Close()
	state := newState(Ready)
	lost, ended := make(chan struct{}, 8), make(chan struct{}, 8)
	state.succession = &Succession{Listener: service, Lost: func() { lost <- struct{}{} }, End: func() { ended <- struct{}{} }}
	dial := serveReal(t, state, nil)
	c := NewClient(dial())
	defer c.Close()
	changes := make(chan Change, 64)
	held := make(chan error, 1)
	go func() {
		held <- c.Hold(context.Background(), `C:\holder`, func(change Change) error {
			changes <- change
			return nil
		})
	}()
	first := <-changes
	if first.PID != os.Getpid() || len(first.Made) != 4 || len(first.Taken) != 0 || first.Left {
		t.Errorf("at first %+v", first)
	}
	for range 10 {
		if _, err := dialTo(service); err != nil {
			t.Fatal(err)
		}
		if _, err := service.AcceptPipe(); err != nil {
			t.Fatal(err)
		}
		taken, made := <-changes, <-changes
		if len(taken.Taken) != 1 || len(taken.Made) != 0 || len(made.Made) != 1 || len(made.Taken) != 0 {
			t.Errorf("taken: %+v, made: %+v", taken, made)
		}
	}
	if err := service.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Error(err)
	}
	last := <-changes
	if !last.Left {
		last = <-changes
	}
	if !last.Left {
		t.Errorf("at last %+v", last)
	}
	_ = c.Close()
	<-ended
	select {
	case <-lost:
		t.Error("it is said to be lost")
	default:
	}
}

// TestHoldUnheard: a broker that does not confirm what it is told is told nothing more, which
// is said before anybody is taken untold. The daemon waits for a second at most.
func TestHoldUnheard(t *testing.T) {
	service := listen(t)
	defer service.Close()
	state := newState(Ready)
	lost := make(chan struct{}, 8)
	state.succession = &Succession{Listener: service, Lost: func() { lost <- struct{}{} }, End: func() {}}
	conn := serveReal(t, state, nil)()
	defer conn.Close()
	call := varlink.Call{Method: "io.fastbind.Daemon.Hold", More: true}
	if _, err := conn.Write(call.AppendFrame(nil)); err != nil {
		t.Fatal(err)
	}
	frames := varlink.NewFrameReader(conn)
	if _, err := frames.Next(nil); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := dialTo(service); err != nil {
			t.Fatal(err)
		}
		if _, err := service.AcceptPipe(); err != nil {
			t.Fatal(err)
		}
		if i == 0 && len(lost) != 0 {
			t.Error("lost at the first")
		}
	}
	if len(lost) != 1 {
		t.Errorf("%d times lost", len(lost))
	}
	for { // what it was told before, and then the end
		if _, err := frames.Next(nil); err != nil {
			break
		}
	}
}

// TestHoldRefused: one that asks once would be told nothing after.
func TestHoldRefused(t *testing.T) {
	c := NewClient(serveReal(t, newState(Ready), nil)())
	defer c.Close()
	err := c.ask(t.Context(), varlink.Call{Method: "io.fastbind.Daemon.Hold"}, false, nil)
	if remoteName(err) != varlink.InvalidParameter {
		t.Errorf("it is told %v", err)
	}
}

// lacks are what accepting fails with for want of handles and of memory.
var lacks = [...]windows.Errno{windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NOT_ENOUGH_MEMORY}
