package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

// A Conn is a connection that a daemon accepted: a named pipe whose end the SDK notices,
// because a drain waits for it.
type Conn struct {
	net.Conn
	ln *listener

	// Guarded by ln.mu.
	closed  bool
	unwatch func()         // ends the watch for a hang-up, nil without one
	ends    map[int]func() // end what ConnContext made
	next    int            // key in ends
}

// Close closes the connection.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.ln.forget(c)
	return err
}

func newConn(pc *endpoint.Conn, l *listener) *Conn { return &Conn{Conn: pc, ln: l} }

// raw is the connection itself.
func (c *Conn) raw() *endpoint.Conn { return c.Conn.(*endpoint.Conn) }

// accept says of a listener that was shut what a deadline says of a socket: that things
// have changed.
func accept(ln *endpoint.Listener) (*endpoint.Conn, error) {
	c, err := ln.AcceptPipe()
	if errors.Is(err, net.ErrClosed) {
		time.Sleep(minLack) // what follows it is about to be known
		err = os.ErrDeadlineExceeded
	}
	return c, err
}

// listenAt claims the endpoint's name and listens.
func listenAt(name string) (net.Listener, error) {
	s, err := launch.Claim(name)
	if err != nil {
		return nil, err
	}
	return s.Listener()
}

// listenerOf is what a backend's Bind has returned.
func listenerOf(ln net.Listener) (*endpoint.Listener, error) {
	pl, ok := ln.(*endpoint.Listener)
	if !ok {
		return nil, fmt.Errorf("%w: Bind returned a %T, not what daemon.Listen does", fastbind.ErrInvalidEndpoint, ln)
	}
	return pl, nil
}
