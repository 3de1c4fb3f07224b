package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fastbind/fastbind/internal/varlink"
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

// A start without a process is nothing that could end: no lease is taken of it.
func TestLeaseOfNothing(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		for _, parameters := range []string{`{"started_ticks":7}`, `{"started_ticks":-1}`, `{"directory":"/home/u","started_ticks":7}`} {
			for _, more := range []string{"false", "true"} {
				p := b.dial()
				p.say(`{"method":"io.fastbind.Daemon.Lease","more":` + more + `,"parameters":` + parameters + "}\n")
				if reply := p.hear(); !strings.Contains(reply, varlink.InvalidParameter) || !strings.Contains(reply, "started_ticks") {
					t.Errorf("%s: %s", parameters, reply)
				}
			}
		}
		if n := len(b.state.leases); n != 0 {
			t.Errorf("leases were taken: %v", b.state.leases)
		}
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
		b.server.Bounds.Peers, b.server.Bounds.Apart = 2, 5
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
			r, err := varlink.ParseReply([]byte(p.hear()))
			if err != nil || r.Err != varlink.InvalidParameter || !strings.Contains(string(r.Parameters.Append(nil)), parameter) {
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

// FuzzLease: whatever the parameters are, the daemon is asked for one lease that
// can be, or for none, and a client asks for the same in the same words.
func FuzzLease(f *testing.F) {
	for _, s := range []string{`{}`, `{"directory":"/home/u/project"}`, `{"pid":42,"started_ticks":7}`, `{"directory":null,"pid":null}`,
		`{"directory":"/x","pid":1}`, `{"pid":-1}`, `{"pid":2147483648}`, `{"pid":1.5}`, `{"directory":7}`, `{"started_ticks":-1}`,
		`{"pid":1,"later":{"x":[1]}}`, `[]`} {
		f.Add([]byte(s), false)
	}
	f.Add([]byte(`{}`), true)
	f.Fuzz(func(t *testing.T, parameters []byte, more bool) {
		request := []byte(`{"method":"io.fastbind.Daemon.Lease","more":` + strconv.FormatBool(more) + `,"parameters":` + string(parameters) + "}\x00")
		state := newState(Ready)
		conn := &stubConn{in: bytes.NewReader(request)}
		NewServer(state, nil).ServeConn(conn)
		asked, held := 0, 0
		var got Lease
		for l, n := range state.leases {
			asked, held, got = asked+1, held+n, l
		}
		out, whole := bytes.CutSuffix(conn.out.Bytes(), []byte{0})
		if len(out) == 0 {
			if asked > 0 {
				t.Fatalf("%s is answered with nothing, and %+v held", parameters, got)
			}
			return
		}
		first, _, _ := bytes.Cut(out, []byte{0})
		r, err := varlink.ParseReply(first)
		switch {
		case !whole || err != nil || asked > 1:
			t.Fatalf("%s is answered with %q, and %v held: %v", parameters, out, state.leases, err)
		case (r.Err == "") != (asked == 1):
			t.Fatalf("%s is answered with %q, and %d leases asked for", parameters, out, asked)
		case asked == 0:
			return
		case got == (Lease{}):
			if !more || held != 0 {
				t.Fatalf("%d leases of a connection that has ended", held)
			}
			return
		case (got.Directory == "") == (got.PID == 0), got.PID == 0 && got.StartedTicks != 0, len(got.Directory) >= maxPath, got.PID < 0 || got.PID > math.MaxInt32, strings.IndexByte(got.Directory, 0) >= 0:
			t.Fatalf("%+v", got)
		}
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			other := newState(Ready)
			s := NewServer(other, nil)
			served := make(chan struct{})
			go func() {
				defer close(served)
				s.ServeConn(theirs)
			}()
			c := NewClient(ours)
			if err := c.Lease(t.Context(), got); err != nil || other.held(got) != 1 {
				t.Errorf("%+v asked for by a client: %v, %v", got, err, other.leases)
			}
			c.Close()
			<-served
		})
	})
}
