package control

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
)

func remoteName(err error) string {
	var r *RemoteError
	if errors.As(err, &r) {
		return r.Name
	}
	return ""
}

func TestLease(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		for _, l := range []Lease{{Directory: "/home/u/project"}, {PID: 42}, {PID: 42, StartedTicks: 7}} {
			if err := c.Lease(t.Context(), l); err != nil || b.state.held(l) != 1 {
				t.Errorf("%+v: %v, held %d", l, err, b.state.held(l))
			}
		}
		// The connection is good for more.
		if _, err := c.Identify(t.Context(), "n"); err != nil {
			t.Error(err)
		}
		b.state.refuse = errors.New("no such directory")
		err := c.Lease(t.Context(), Lease{Directory: "/gone"})
		if remoteName(err) != errLeaseRefused || !strings.Contains(err.Error(), "no such directory") {
			t.Errorf("refused: %v", err)
		}
	})
}

// TestConnectionLease: it is held as long as the connection, and that carries
// nothing else.
func TestConnectionLease(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		first, second := b.client(), b.client()
		for _, c := range []*Client{first, second} {
			if err := c.Lease(t.Context(), Lease{}); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.state.held(Lease{}); n != 2 {
			t.Fatalf("%d leases", n)
		}
		first.Close()
		synctest.Wait()
		if n := b.state.held(Lease{}); n != 1 {
			t.Errorf("%d leases after one of two hung up", n)
		}
		b.server.Close()
		synctest.Wait()
		if n := b.state.held(Lease{}); n != 0 {
			t.Errorf("%d leases after the server closed", n)
		}
		second.Close()
	})
}

// A request behind the lease of a connection ends it, and hides no hang-up.
func TestConnectionLeaseCarriesNothingElse(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		p := b.dial()
		p.say(`{"method":"io.fastbind.Daemon.Lease","more":true}` + "\n" + askIdentify)
		p.hear()
		p.over()
		synctest.Wait()
		if n := b.state.held(Lease{}); n != 0 {
			t.Errorf("%d leases are held", n)
		}
	})
}

// TestLeasesKeepNobodyOut: peers that hold a lease do not count among those who
// ask, and have a bound of their own.
func TestLeasesKeepNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, state: newState(Ready), ln: newPipeListener(), served: make(chan error, 1)}
		b.server = NewServer(b.state, nil)
		b.server.maxPeers, b.server.maxLeases = 2, 5
		go func() { b.served <- b.server.Serve(b.ln) }()
		defer b.server.Close()
		var held []*Client
		for range 5 {
			c := b.client()
			if err := c.Lease(t.Context(), Lease{}); err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
		}
		c := b.client()
		if err := c.Lease(t.Context(), Lease{}); remoteName(err) != errLeaseRefused {
			t.Errorf("a lease too many: %v", err)
		}
		if _, err := c.Identify(t.Context(), "n"); err != nil {
			t.Error(err)
		}
		if n := b.state.held(Lease{}); n != 5 {
			t.Errorf("%d leases are held", n)
		}
		for _, h := range held {
			h.Close()
		}
		synctest.Wait()
		if err := c.Lease(t.Context(), Lease{}); err != nil {
			t.Errorf("after the others have ended: %v", err)
		}
	})
}

func TestMalformedLease(t *testing.T) {
	for parameters, parameter := range map[string]string{
		`{}`:                         "directory", // tied to nothing without "more"
		`{"directory":1}`:            "directory",
		`{"directory":"/d","pid":1}`: "directory",
		`{"pid":-1}`:                 "pid",
		`{"pid":4294967296}`:         "pid",
		`{"pid":"1"}`:                "directory",
		`{"directory":"/` + strings.Repeat("d", maxPath) + `"}`: "directory",
	} {
		inBubble(t, Ready, func(t *testing.T, b *bubble) {
			p := b.dial()
			p.say(`{"method":"io.fastbind.Daemon.Lease","parameters":` + parameters + "}\n")
			r, err := parseReply([]byte(p.hear()))
			if err != nil || r.err != errInvalidParameter || !strings.Contains(string(r.parameters.Append(nil)), parameter) {
				t.Errorf("%.60s: %+v, %v", parameters, r, err)
			}
			if len(b.state.leases) > 0 {
				t.Errorf("%.60s: a lease was taken", parameters)
			}
		})
	}
}

func TestDrainAndStacks(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		if err := c.Drain(t.Context()); err != nil || b.state.drains != 1 {
			t.Errorf("%v, %d drains", err, b.state.drains)
		}
		if sum, err := c.Hash(t.Context()); err != nil || sum != "c0ffee" {
			t.Errorf("%q, %v", sum, err)
		}
		b.state.refuse = errors.New("no such file")
		if _, err := c.Hash(t.Context()); remoteName(err) != errHashFailed {
			t.Error(err)
		}
		b.state.stacks = "goroutine 1 [running]:\nmain.main()\n"
		text, short, err := c.Stacks(t.Context())
		if err != nil || text != b.state.stacks || short {
			t.Errorf("%q, cut %v, %v", text, short, err)
		}
		b.state.stacks = strings.Repeat("\tmain.f()\n", 1<<16)
		text, short, err = c.Stacks(t.Context())
		if err != nil || len(text) != maxStacks || !short {
			t.Errorf("%d bytes, cut %v, %v", len(text), short, err)
		}
	})
}

// TestAskOfClosed: every method says so.
func TestAskOfClosed(t *testing.T) {
	ours, theirs := net.Pipe()
	go io.Copy(io.Discard, theirs)
	c := NewClient(ours)
	c.Close()
	_, _, serr := c.Stacks(context.Background())
	for _, err := range []error{c.Lease(context.Background(), Lease{}), c.Drain(context.Background()), serr} {
		if err != net.ErrClosed {
			t.Error(err)
		}
	}
}
