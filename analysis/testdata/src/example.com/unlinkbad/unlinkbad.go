// Package unlinkbad removes sockets that others may be listening on.
package unlinkbad

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"example.com/sockets"
)

const fixed = "/run/unlinkbad.sock"

func constant() (net.Listener, error) {
	os.Remove(fixed) // want `the path is removed \(os.Remove\) and then listened on \(net.Listen, unlinkbad.go:\d+\) without a lock: of two daemons that start at once both listen, and one cannot be reached; hold a lock over dial, remove and listen, or let fastbind launch the daemon`
	return net.Listen("unix", fixed)
}

// Dialling first does not help.
func dialFirst(dir string) (net.Listener, error) {
	path := filepath.Join(dir, "d.sock")
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, errors.New("it runs")
	}
	if err := syscall.Unlink(path); err != nil { // want `the path is removed \(syscall.Unlink\) and then listened on`
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

type server struct {
	network, addr string
	opts          struct{ Socket string }
}

func (s *server) listen() (net.Listener, error) {
	if s.network == "unix" {
		_ = os.RemoveAll(s.addr) // want `the path is removed \(os.RemoveAll\) and then listened on`
	}
	return net.Listen(s.network, s.addr)
}

func (s *server) clean() error { return os.Remove(s.opts.Socket) }

func (s *server) open() (ln net.Listener, err error) {
	var lc net.ListenConfig
	ln, err = lc.Listen(context.Background(), "unix", s.opts.Socket)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := s.clean(); err != nil { // want `the path is removed \(unlinkbad.server.clean → os.Remove \(unlinkbad.go:\d+\)\) and then listened on \(net.ListenConfig.Listen, unlinkbad.go:\d+\)`
			return nil, err
		}
		ln, err = lc.Listen(context.Background(), "unix", s.opts.Socket)
	}
	return ln, err
}

func elsewhere(addr string) (net.Listener, error) {
	if err := sockets.Clean(strings.TrimPrefix(addr, "unix:")); err != nil { // want `the path is removed \(sockets.Clean → os.Remove \(sockets.go:\d+\)\) and then listened on \(sockets.Open → net.Listen \(sockets.go:\d+\), unlinkbad.go:\d+\)`
		return nil, err
	}
	return sockets.Open(strings.TrimPrefix(addr, "unix:"))
}

func resolved(path string) (net.Listener, error) {
	addr, err := net.ResolveUnixAddr("unix", path)
	if err != nil {
		return nil, err
	}
	remove := func() { _ = os.Remove(addr.Name) }
	remove() // want `the path is removed \(a function in resolved → os.Remove \(unlinkbad.go:\d+\)\)`
	return net.ListenUnix("unix", addr)
}

func generic[S ~string](path S) (net.Listener, error) {
	_ = os.Remove(string(path)) // want `the path is removed`
	return net.Listen("unix", string(path))
}

// In a branch, and beside.
func branch(addr string) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		addr = path
		_ = os.Remove(path) // want `the path is removed`
	}
	ln, err := net.Listen("unix", addr)
	_, _ = ln, err
}

func beside(path string) {
	_ = os.Remove(path) // want `the path is removed`
	go serve(path)
}

func serve(path string) { _, _ = net.Listen("unix", path) }

// A client that removes what does not answer.
func connect(path string) (net.Conn, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		_ = os.Remove(path) // want `the path is removed \(os.Remove\) because nobody answered there \(net.Dial, unlinkbad.go:\d+\), without a lock: a daemon that listens by now cannot be reached any more`
		spawn(path)
	}
	return conn, err
}

func alive(path string) bool {
	var d net.Dialer
	conn, err := d.DialContext(context.Background(), "unix", path)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func prune(path string) {
	if !alive(path) {
		_ = os.Remove(path) // want `because nobody answered there \(unlinkbad.alive → net.Dialer.DialContext \(unlinkbad.go:\d+\), unlinkbad.go:\d+\)`
	}
}

func spawn(string) {}

// By what is given to another function.
func given(host string, mode int) (ln net.Listener, err error) {
	path := host
	if mode != 0 {
		path = strings.TrimSuffix(host, "|0600")
	}
	err = sockets.Clean(path) // want `the path is removed`
	sockets.With(func() { ln, err = sockets.Open(path) })
	return ln, err
}

// Told of in the function itself, not where that is called twice.
func twice(path string) {
	for range 2 {
		_, _ = sockets.Fresh(path)
	}
	_, _ = sockets.Fresh(path)
}
