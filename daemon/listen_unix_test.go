//go:build !windows

package daemon

import (
	"net"
	"path/filepath"
	"testing"
)

// listenForTest returns a listener and how to connect to it.
func listenForTest(t *testing.T) (*net.UnixListener, func() (net.Conn, error)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return ul, func() (net.Conn, error) { return net.Dial("unix", path) }
}
