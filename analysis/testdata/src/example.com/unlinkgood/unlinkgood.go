// Package unlinkgood removes no socket that somebody else may be listening on.
package unlinkgood

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// Another path.
func other(dir string) (net.Listener, error) {
	_ = os.Remove(filepath.Join(dir, "pid"))
	return net.Listen("unix", filepath.Join(dir, "sock"))
}

// Its own directory.
func temporary() (net.Listener, error) {
	dir, err := os.MkdirTemp("", "x")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "sock")
	_ = os.Remove(path)
	return net.Listen("unix", path)
}

// Its own name.
func own() (net.Listener, error) {
	path := fmt.Sprintf("/run/x.%d", os.Getpid())
	_ = os.Remove(path)
	return net.Listen("unix", path)
}

// With a lock.
func locked(path string) (net.Listener, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	_ = os.Remove(path)
	return net.Listen("unix", path)
}

// After its own end.
func after(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	return ln.Close()
}

// Not a path.
func tcp(addr string) (net.Listener, error) {
	_ = os.Remove(addr)
	return net.Listen("tcp", addr)
}

// At the end of one's own use.
func request(path string) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	conn.Close()
	return os.Remove(path)
}

// After having waited for it.
func awaited(path string) error {
	for range 10 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			continue
		}
		conn.Close()
		return os.Remove(path)
	}
	return os.ErrDeadlineExceeded
}

// Two calls of one function for two paths.
func one(network, host string) (net.Listener, error) {
	path := host
	if network == "unixpacket" {
		path = host + ".packet"
	}
	ln, err := net.Listen(network, path)
	if err != nil {
		_ = os.Remove(path)
	}
	return ln, err
}

func two(c struct{ local, remote string }) {
	_, _ = one("unix", c.local)
	_, _ = one("unix", c.remote)
}
