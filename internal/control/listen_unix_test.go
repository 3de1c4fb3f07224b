//go:build !windows

package control

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listen returns a Unix listener with a path short enough for every system.
func listen(t *testing.T) *net.UnixListener {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "ctl"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func dialTo(ln net.Listener) (net.Conn, error) { return net.Dial("unix", ln.Addr().String()) }

// lacks are what accept fails with for want of descriptors and of memory.
var lacks = [...]syscall.Errno{syscall.EMFILE, syscall.ENOMEM}

// printf '…\0' | nc -N: the question is answered though no more will come.
func TestHalfClosed(t *testing.T) {
	dial := serveReal(t, newState(Loading), nil)
	for _, ask := range []string{askIdentify, askWatch, askIdentify + askIdentify} {
		conn := dial().(*net.UnixConn)
		if _, err := io.WriteString(conn, strings.ReplaceAll(ask, "\n", "\x00")); err != nil {
			t.Fatal(err)
		}
		conn.CloseWrite()
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		text, err := io.ReadAll(conn)
		if want := strings.Count(ask, "\n"); err != nil || bytes.Count(text, []byte{0}) != want {
			t.Errorf("%q is answered with %q, %v", ask, text, err)
		}
		conn.Close()
	}
}
