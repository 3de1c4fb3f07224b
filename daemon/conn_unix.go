//go:build !windows

package daemon

import (
	"fmt"
	"net"

	"github.com/fastbind/fastbind"
)

// A Conn is a connection that a daemon accepted: a *net.UnixConn whose end the
// SDK notices, because a drain waits for it.
type Conn struct {
	*net.UnixConn
	ln *listener

	// Guarded by ln.mu.
	closed  bool
	unwatch func()         // ends the watch for a hang-up, nil without one
	ends    map[int]func() // end what ConnContext made
	next    int            // key in ends
}

// Close closes the connection.
func (c *Conn) Close() error {
	err := c.UnixConn.Close()
	c.ln.forget(c)
	return err
}

func newConn(uc *net.UnixConn, l *listener) *Conn { return &Conn{UnixConn: uc, ln: l} }

// raw is the connection itself.
func (c *Conn) raw() *net.UnixConn { return c.UnixConn }

func accept(ul *net.UnixListener) (*net.UnixConn, error) { return ul.AcceptUnix() }

// listenAt binds the endpoint and listens.
func listenAt(path string) (net.Listener, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	return ln, nil
}

// listenerOf is what a backend's Bind has returned.
func listenerOf(ln net.Listener) (*net.UnixListener, error) {
	ul, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("%w: Bind returned a %T, not a *net.UnixListener", fastbind.ErrInvalidEndpoint, ln)
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}
