//go:build unix

package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// carried is a dial whose daemon the test is.
type carried struct {
	daemon    *net.UnixConn
	out       bytes.Buffer
	interrupt func()
	ended     chan error
}

// carry begins a dial with the given stdin; with out nil stdout is a buffer,
// to be read once the dial has ended.
func carry(t *testing.T, in io.Reader, out io.Writer) *carried {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	c := &carried{ended: make(chan error, 1)}
	if c.daemon, err = ln.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); _ = c.daemon.Close() })
	a := testApp(t)
	if a.streams.In, a.streams.Out = in, out; out == nil {
		a.streams.Out = &c.out
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	c.interrupt = func() { cancel(errInterrupted) }
	go func() {
		d := &connection{a: a, conn: conn, broker: a.named("none")}
		d.broker.Watch(&d.watched, conn, time.Now())
		err := d.carry(ctx, ctx)
		_ = conn.Close()
		c.ended <- err
	}()
	return c
}

// end waits for the dial's end.
func (c *carried) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("dial does not end")
		return nil
	}
}

// endless is a stdin that is open and has nothing to say, as a terminal.
func endless(t *testing.T) io.Reader {
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return r
}

// A daemon that has said all it has to say still gets all of stdin.
func TestDialSendsAfterHalfClose(t *testing.T) {
	const size = 4 << 20
	for _, reply := range []string{"", "reply"} {
		c := carry(t, strings.NewReader(strings.Repeat("x", size)), nil)
		if _, err := io.WriteString(c.daemon, reply); err != nil {
			t.Fatal(err)
		}
		if err := c.daemon.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, c.daemon)
		if n != size || err != nil {
			t.Errorf("the daemon got %d bytes of %d, %v", n, size, err)
		}
		if err := c.end(t); err != nil || c.out.String() != reply {
			t.Errorf("%q, %v", c.out.String(), err)
		}
	}
}

// A daemon that has closed ends the dial, whether or not stdin ends.
func TestDialEndsWithTheDaemon(t *testing.T) {
	for _, half := range []bool{false, true} {
		c := carry(t, endless(t), nil)
		if _, err := io.WriteString(c.daemon, "reply"); err != nil {
			t.Fatal(err)
		}
		if half {
			_ = c.daemon.CloseWrite()
		}
		_ = c.daemon.Close()
		if err := c.end(t); err != nil || c.out.String() != "reply" {
			t.Errorf("half-closed first %v: %q, %v", half, c.out.String(), err)
		}
	}
}

// An interrupt ends a dial whatever it waits for.
func TestDialInterrupted(t *testing.T) {
	reader, writer := io.Pipe() // nobody reads
	defer reader.Close()
	c := carry(t, endless(t), writer)
	if _, err := io.WriteString(c.daemon, "reply"); err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 1)); err != nil { // of five: now it is blocked
		t.Fatal(err)
	}
	c.interrupt()
	if err := c.end(t); err != errInterrupted {
		t.Errorf("blocked on stdout: %v", err)
	}
	c = carry(t, endless(t), nil)
	_ = c.daemon.CloseWrite()
	c.interrupt()
	if err := c.end(t); err != errInterrupted {
		t.Errorf("after a half-close: %v", err)
	}
}
