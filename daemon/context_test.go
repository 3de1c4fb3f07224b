package daemon

import (
	"context"
	"net"
	"testing"
	"time"
)

// accepted returns both ends of a connection that a daemon's listener accepted.
func accepted(t *testing.T) (client net.Conn, server *Conn) {
	t.Helper()
	ul, dial := listenForTest(t)
	ln := newListener(ul, newNeed(0))
	t.Cleanup(func() { _ = ln.Close() })
	client, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = client.Close() })
	return client, c.(*Conn)
}

func ends(t *testing.T, what string, ctx context.Context) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Errorf("%s: the context goes on", what)
	}
}

// TestConnContexts: R19. Every context made for a connection ends with it,
// however it ends.
func TestConnContexts(t *testing.T) {
	client, server := accepted(t)
	a, b := ConnContext(t.Context(), server), ConnContext(t.Context(), server)
	if a.Err() != nil || b.Err() != nil {
		t.Fatal("a context ended at once")
	}
	_ = client.Close()
	ends(t, "hang-up", a)
	ends(t, "hang-up, second", b)

	_, server = accepted(t)
	c := ConnContext(t.Context(), server)
	_ = server.Close()
	ends(t, "closed", c)
	ends(t, "made after the close", ConnContext(t.Context(), server))

	_, server = accepted(t)
	parent, cancel := context.WithCancel(t.Context())
	d := ConnContext(parent, server)
	cancel()
	ends(t, "parent", d)
}

// TestConnContextInDrain: a stop ends the work for a connection only when the
// drain's bound is over; a context of the caller's own ends when it says.
func TestConnContextInDrain(t *testing.T) {
	_, server := accepted(t)
	hard, cutOff := context.WithCancel(t.Context())
	stopping, stop := context.WithCancel(t.Context())
	serving := context.WithValue(stopping, drainKey{}, drain{stopping.Done(), hard})
	own, cancel := context.WithCancel(serving)
	defer cancel()

	soft, strict := ConnContext(serving, server), ConnContext(own, server)
	stop()
	ends(t, "derived from Serve's", strict)
	if soft.Err() != nil {
		t.Error("a stop ended the work at once")
	}
	cutOff()
	ends(t, "the bound", soft)
}
