package control

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
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

// TestHoldRefused: what a process listens on no other one holds, and no broker is told that
// it does.
func TestHoldRefused(t *testing.T) {
	dial := serveReal(t, newState(Ready), nil)
	c := NewClient(dial())
	defer c.Close()
	if f, err := c.Hold(t.Context(), `C:\holder`); f != nil || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v", f, err)
	}
	err := c.ask(t.Context(), varlink.Call{Method: "io.fastbind.Daemon.Hold"}, false, nil)
	if remoteName(err) != errHandoverRefused {
		t.Errorf("one that asks all the same is told %v", err)
	}
}

// lacks are what accepting fails with for want of handles and of memory.
var lacks = [...]windows.Errno{windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NOT_ENOUGH_MEMORY}
