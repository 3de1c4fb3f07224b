package control

import (
	"context"
	"crypto/rand"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/pipe"
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

// lacks are what accepting fails with for want of handles and of memory.
var lacks = [...]windows.Errno{windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NOT_ENOUGH_MEMORY}
