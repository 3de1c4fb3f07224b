package daemon

import (
	"crypto/rand"
	"net"
	"testing"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/pipe"
)

// listenForTest returns a listener and how to connect to it.
func listenForTest(t *testing.T) (*endpoint.Listener, func() (net.Conn, error)) {
	t.Helper()
	name := pipe.Prefix + "fastbind-test-" + rand.Text()
	ln, err := listenAt(name)
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*endpoint.Listener), func() (net.Conn, error) { return pipe.Dial(t.Context(), name) }
}
