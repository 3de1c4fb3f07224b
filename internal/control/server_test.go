package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

func TestGarbage(t *testing.T) {
	for _, text := range []string{
		"\n", "null\n", "[]\n", "{}\n", "GET / HTTP/1.1\r\n\r\n\n", "\xff\xfe\n", "{\"method\":\"a\xff\"}\n",
		`{"method":null}` + "\n", `{"method":1}` + "\n", `{"method":"a","parameters":[]}` + "\n",
		`{"method":"a","more":"yes"}` + "\n", `{"method":"a","oneway":1}` + "\n",
		`{"method":"a","method":"b"}` + "\n", `{"method":"a"} x` + "\n",
		strings.Repeat("[", jsonlite.MaxDepth+1) + "\n",
	} {
		inBubble(t, Ready, func(t *testing.T, b *bubble) {
			p := b.dial()
			p.say(text)
			p.over()
			// Others are served as ever.
			q := b.dial()
			q.say(askIdentify)
			q.hear()
		})
	}
}

func TestUnknownNames(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		p := b.dial()
		for method, want := range map[string]string{
			"":                             varlink.MethodNotFound,
			"Identify":                     varlink.MethodNotFound,
			".":                            varlink.InterfaceNotFound,
			"io.fastbind.Daemon.":          varlink.MethodNotFound,
			"io.fastbind.Daemon.identify":  varlink.MethodNotFound,
			"io.fastbind.Daemon.X.Y":       varlink.InterfaceNotFound,
			"org.varlink.service.Identify": varlink.MethodNotFound,
			strings.Repeat("\x01", 10_000): varlink.MethodNotFound,
			strings.Repeat("é.", 10_000):   varlink.InterfaceNotFound,
		} {
			p.say(string(encode(t, map[string]any{"method": method})) + "\n")
			text := p.hear()
			r, err := varlink.ParseReply([]byte(text))
			if err != nil || r.Err != want || len(text) > 2000 {
				t.Errorf("%.40q: %v, %.100q", method, err, text)
			}
		}
	})
}

// Random unknown members in a request change nothing.
func TestRequestGrease(t *testing.T) {
	rnd := newRand(t)
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		p := b.dial()
		p.say(`{"method":"io.fastbind.Daemon.Identify","parameters":{"nonce":"n"}}` + "\n")
		want := p.hear()
		for range 200 {
			parameters := map[string]any{"nonce": "n"}
			grease(rnd, parameters)
			request := map[string]any{"method": "io.fastbind.Daemon.Identify", "parameters": parameters}
			grease(rnd, request)
			p.say(string(encode(t, request)) + "\n")
			if got := p.hear(); got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
	})
}

// A client keeps what a later release's daemon adds.
func TestReplyGrease(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		b.state.change(func(id *Identity) {
			id.Unknown = []jsonlite.Member{{Name: "x-color", Value: jsonlite.String("red")}}
		})
		id, err := b.client().Identify(t.Context(), "n")
		if err != nil || len(id.Unknown) != 1 || id.Unknown[0].Name != "x-color" {
			t.Errorf("unknown fields %+v, %v", id.Unknown, err)
		}
	})
}

func TestOneway(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		p := b.dial()
		p.say(`{"method":"io.fastbind.Daemon.Identify","oneway":true,"more":true}` + "\n")
		p.say(`{"method":"io.fastbind.Daemon.Frobnicate","oneway":true}` + "\n")
		p.say(`{"method":"org.varlink.service.GetInfo","oneway":true}` + "\n")
		p.say(`{"method":"io.fastbind.Daemon.Identify","parameters":{"nonce":"this one"}}` + "\n")
		if id, _ := p.hearIdentity(); id.Nonce != "this one" {
			t.Errorf("the reply is for nonce %q", id.Nonce)
		}
	})
}

func TestPipelining(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		p := b.dial()
		go io.WriteString(p.Conn, strings.ReplaceAll(strings.Repeat(askIdentify, 100)+
			`{"method":"io.fastbind.Daemon.Identify","parameters":{"nonce":"last"}}`+"\n", "\n", "\x00"))
		for range 100 {
			p.hearIdentity()
		}
		if id, _ := p.hearIdentity(); id.Nonce != "last" {
			t.Errorf("the reply is for nonce %q", id.Nonce)
		}
	})
}

func TestNonceBound(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		for _, nonce := range []string{strings.Repeat("x", MaxNonce), strings.Repeat("\x00", MaxNonce), "é\u2028\"\\"} {
			if id, err := c.Identify(t.Context(), nonce); err != nil || id.Nonce != nonce {
				t.Errorf("nonce %q came back as %q, %v", nonce, id.Nonce, err)
			}
		}
	})
}

func TestOversizedRequest(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		fill := strings.Repeat(" ", MaxFrame-len(askIdentify)+1)
		p := b.dial()
		p.say(fill + askIdentify) // as long as may be
		p.hear()

		go io.WriteString(p.Conn, fill+" "+strings.TrimSpace(askIdentify)+"\x00") // fails when the server closes
		p.over()
	})
}

func TestReplyBound(t *testing.T) {
	inBubble(t, Failed, func(t *testing.T, b *bubble) {
		long := strings.Repeat("\x01", 1<<20)
		b.state.change(func(id *Identity) {
			id.Failure = long
			id.Progress = &Progress{"é" + long, 2}
			id.Executable.Path = long[:4096]
		})
		id, err := b.client().Identify(t.Context(), strings.Repeat("\x01", MaxNonce))
		if err != nil {
			t.Fatal(err)
		}
		if len(id.Failure) != maxFailure || len(id.Progress.Message) != maxMessage || id.Progress.Fraction != 1 {
			t.Errorf("failure of %d bytes, progress %.10q of %d, %v", len(id.Failure), id.Progress.Message, len(id.Progress.Message), id.Progress.Fraction)
		}
		// What nobody may make that long ends the connection, not the server.
		b.state.change(func(id *Identity) { id.Version = long })
		p := b.dial()
		p.say(askIdentify)
		p.over()
	})
}

// A request must be complete in time; a peer that asks nothing has all the time
// in the world, and what came before gives it no less.
func TestSilentPeer(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		idle, half := b.dial(), b.dial()
		for range 3 {
			time.Sleep(24 * time.Hour)
			idle.say(askIdentify)
			idle.hear()
		}
		start := time.Now()
		half.say(`{"method"`)
		time.Sleep(varlink.DefaultFrame - time.Second)
		half.say(`:`) // a byte now and then does not help
		half.over()
		if took := time.Since(start); took != varlink.DefaultFrame {
			t.Errorf("closed after %v", took)
		}
		idle.say(askIdentify)
		idle.hear()
	})
}

// Whoever is idle makes room, the longest idle first, then whoever has begun a request
// and does not end it; whoever is being answered stays.
func TestTooManyPeers(t *testing.T) {
	inBubbleOf(t, Loading, 3, func(t *testing.T, b *bubble) {
		first, second, third := b.dial(), b.dial(), b.dial()
		first.say(askIdentify)
		first.hear()
		synctest.Wait()

		fourth := b.dial() // takes the slot of second
		second.over()
		fourth.say(`{"me`) // in the middle of a request
		first.say(askWatch)
		first.hear() // in the middle of a reply
		synctest.Wait()

		fifth := b.dial() // takes the slot of third
		third.over()
		fifth.say(askWatch)
		fifth.hear()
		synctest.Wait()

		b.dial().over() // no slot is left: fourth has a moment for its request
		time.Sleep(time.Second)
		late := b.dial() // takes the slot of fourth
		fourth.over()
		late.say(askWatch)
		late.hear()
		synctest.Wait()
		b.dial().over() // no slot is left
		b.state.enter(Ready)
		first.hear()
		fifth.hear()
		late.hear()
		synctest.Wait()

		first.Close()
		synctest.Wait()
		sixth := b.dial() // takes the slot that is free
		for _, p := range []*rawPeer{late, fifth, sixth} {
			p.say(askIdentify)
			p.hear()
		}
	})
}

// Who does not read its reply makes room as well, after a moment.
func TestUnreadReplyMakesRoom(t *testing.T) {
	inBubbleOf(t, Ready, 1, func(t *testing.T, b *bubble) {
		deaf := b.dial()
		deaf.say(askIdentify)
		synctest.Wait()
		b.dial().over() // no slot is left yet
		time.Sleep(time.Second)
		p := b.dial()
		p.say(askIdentify)
		p.hear()
		deaf.over()
	})
}

func TestManyPeers(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		var peers []*rawPeer
		for range varlink.DefaultPeers {
			p := b.dial()
			p.say(askWatch)
			p.hear()
			peers = append(peers, p)
		}
		for range 100 {
			b.dial().over()
		}
		peers[0].Close() // a watcher that is gone is noticed without any change
		synctest.Wait()
		b.dial().say(askIdentify)
		for range 2 * varlink.DefaultPeers {
			b.dial() // idle ones never cost a watcher its slot
		}
		b.state.enter(Ready)
		for _, p := range peers[1:] {
			if id, continues := p.hearIdentity(); id.Phase != Ready || continues {
				t.Errorf("phase %s, continues %v", id.Phase, continues)
			}
		}
		if n, _ := b.server.Peers(); n > varlink.DefaultPeers {
			t.Errorf("%d peers", n)
		}
	})
}

func TestStreamEndsWhenSettled(t *testing.T) {
	for _, phase := range []Phase{Ready, Draining, Gone, Failed} {
		inBubble(t, Launching, func(t *testing.T, b *bubble) {
			p := b.dial()
			p.say(askWatch)
			for _, next := range []Phase{Bound, Loading, "later", phase} {
				if _, continues := p.hearIdentity(); !continues {
					t.Fatalf("the stream ended before %s", next)
				}
				synctest.Wait()
				b.state.enter(next)
			}
			if id, continues := p.hearIdentity(); id.Phase != phase || continues {
				t.Errorf("phase %s, continues %v; want %s as the last", id.Phase, continues, phase)
			}
			// The next question is answered as usual.
			p.say(askWatch)
			if id, continues := p.hearIdentity(); id.Phase != phase || continues {
				t.Errorf("phase %s, continues %v", id.Phase, continues)
			}
		})
	}
}

// A change of anything else is no reason to wake the watchers.
func TestStreamSaysNothingTwice(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		p := b.dial()
		p.say(askWatch)
		p.hear()
		for range 10 {
			synctest.Wait()
			b.state.change(func(id *Identity) {
				id.Connections++
				id.Progress = &Progress{id.Progress.Message, id.Progress.Fraction}
			})
		}
		b.state.progress(math.NaN())
		if id, _ := p.hearIdentity(); id.Connections != 13 || id.Progress.Fraction != -1 {
			t.Errorf("got %+v", id)
		}
	})
}

// A watcher that does not read holds up nobody, gets the newest state when it
// reads again, and is closed if it takes too long.
func TestSlowReader(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		slow, other := b.dial(), b.dial()
		slow.say(askWatch)
		synctest.Wait() // the first reply is being written
		for i := range 1000 {
			b.state.progress(float64(i+1) / 1000)
			synctest.Wait()
		}
		other.say(askIdentify)
		other.hear()

		time.Sleep(varlink.DefaultWrite - time.Second)
		if id, _ := slow.hearIdentity(); id.Progress.Fraction != 0.25 {
			t.Errorf("the pending reply has progress %v", id.Progress.Fraction)
		}
		if id, _ := slow.hearIdentity(); id.Progress.Fraction != 1 {
			t.Errorf("the reply after it has progress %v", id.Progress.Fraction)
		}

		b.state.progress(0)
		time.Sleep(varlink.DefaultWrite)
		synctest.Wait()
		slow.over()
	})
}

func TestCheck(t *testing.T) {
	refused := errors.New("refused")
	var checked atomic.Int32
	dial := serveReal(t, newState(Ready), func(*endpoint.Conn) error {
		if checked.Add(1) == 1 {
			return refused
		}
		return nil
	})
	c := NewClient(dial())
	defer c.Close()
	if _, err := c.Identify(t.Context(), "n"); err != io.ErrUnexpectedEOF {
		t.Errorf("refused: error %v", err)
	}
	c = NewClient(dial())
	defer c.Close()
	if _, err := c.Identify(t.Context(), "n"); err != nil {
		t.Errorf("admitted: %v", err)
	}
	if n := checked.Load(); n != 2 {
		t.Errorf("%d checks", n)
	}
}

// A check that cannot be made is one that failed.
func TestCheckNeedsUnix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t, ln: newPipeListener()}
		s := NewServer(newState(Ready), func(*endpoint.Conn) error { return nil })
		go s.Serve(b.ln)
		defer s.Close()
		b.dial().over()
	})
}

func TestClose(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		idle, half, watcher, early := b.dial(), b.dial(), b.dial(), b.dial()
		half.say(`{"me`)
		watcher.say(askWatch)
		watcher.hear()
		early.say(askWatch + askIdentify) // the second waits for the first
		early.hear()
		start := time.Now()
		b.state.change(func(id *Identity) { id.Phase, id.Failure = Failed, "panic: no" })
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := b.server.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		for _, p := range []*rawPeer{watcher, early} {
			if id, continues := p.hearIdentity(); id.Failure != "panic: no" || continues {
				t.Errorf("the last words are %+v, continues %v", id, continues)
			}
		}
		for _, p := range []*rawPeer{idle, half, watcher} {
			p.over()
		}
		// The stream ended with the change of phase: whether the request behind
		// it was begun before Close came is a race, and a reply that was begun
		// is completed.
		if _, err := io.Copy(io.Discard, early.Conn); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := <-b.served; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if err := b.server.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

// Close without a last change still says who ends the stream.
func TestCloseEndsStream(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		c := b.client()
		var seen []Phase
		watched := make(chan error)
		go func() {
			watched <- c.Watch(t.Context(), "n", func(id Identity) bool {
				seen = append(seen, id.Phase)
				return false
			})
		}()
		synctest.Wait()
		b.server.Close()
		if err := <-watched; err != nil || len(seen) != 2 || seen[1] != Loading {
			t.Errorf("saw %v, %v", seen, err)
		}
	})
}

func TestCloseDoesNotWaitForSlowReader(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		p := b.dial()
		p.say(askWatch)
		synctest.Wait()
		start := time.Now()
		b.server.Close()
		if took := time.Since(start); took != varlink.DefaultWrite {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestServeOnce(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		synctest.Wait()
		ln := newPipeListener()
		if err := b.server.Serve(ln); err == nil {
			t.Error("a second Serve succeeds")
		}
		<-ln.closed
		b.dial().say(askIdentify)

		s := NewServer(b.state, nil)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		ln = newPipeListener()
		if err := s.Serve(ln); err != nil {
			t.Errorf("Serve after Close: %v", err)
		}
		<-ln.closed
	})
}

func TestAcceptErrors(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		start := time.Now()
		for range 12 {
			b.ln.accepts <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", lacks[0])}
		}
		watcher := b.dial()
		if took := time.Since(start); took < time.Second || took > time.Minute {
			t.Errorf("12 failures took %v", took)
		}
		watcher.say(askWatch)
		watcher.hear()
		broken := errors.New("broken")
		b.ln.accepts <- broken
		watcher.hear() // the last words
		watcher.over()
		if err := <-b.served; err != broken {
			t.Errorf("Serve returned %v", err)
		}
		// Serve may not return while it waits to accept again.
		s, ln := NewServer(b.state, nil), newPipeListener()
		go func() { b.served <- s.Serve(ln) }()
		ln.accepts <- lacks[1]
		synctest.Wait()
		s.Close()
		if err := <-b.served; err != nil {
			t.Error(err)
		}
	})
}

// Many peers on a real socket, askers and watchers, while the state changes and
// until the server closes.
func TestConcurrentPeers(t *testing.T) {
	state := newState(Loading)
	dial := serveReal(t, state, nil)
	gate := make(chan struct{})
	var askers, watchers sync.WaitGroup
	for range 24 {
		askers.Go(func() {
			c := NewClient(dial())
			defer c.Close()
			<-gate
			var calls sync.WaitGroup
			for _, nonce := range []string{"a", "b"} {
				calls.Go(func() {
					for range 50 {
						if id, err := c.Identify(t.Context(), nonce); err != nil || id.Nonce != nonce {
							t.Errorf("nonce %q, %v", id.Nonce, err)
						}
					}
				})
			}
			calls.Wait()
		})
		watchers.Go(func() {
			c := NewClient(dial())
			defer c.Close()
			<-gate
			last := Identity{Progress: &Progress{"", -1}}
			err := c.Watch(t.Context(), "w", func(id Identity) bool {
				if id.Progress.Fraction < last.Progress.Fraction {
					t.Errorf("progress %v after %v", id.Progress.Fraction, last.Progress.Fraction)
				}
				last = id
				return false
			})
			if err != nil || last.Phase != Ready || last.Progress.Fraction != 1 {
				t.Errorf("Watch ended with %+v, %v", last, err)
			}
		})
	}
	state.progress(0)
	close(gate)
	for i := range 500 {
		state.progress(float64(i+1) / 500)
	}
	askers.Wait()
	state.enter(Ready)
	watchers.Wait()
}

// A stubConn reads what it is given and keeps what is written.
type stubConn struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *stubConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *stubConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *stubConn) Close() error                     { return nil }
func (c *stubConn) SetReadDeadline(time.Time) error  { return nil }
func (c *stubConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer: whatever a peer sends, it gets at most one well-formed reply for
// each frame, and is done with.
func FuzzServer(f *testing.F) {
	entries, err := os.ReadDir("testdata/golden")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile("testdata/golden/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(text, []byte("\n"), []byte{0}))
	}
	f.Add([]byte("{\"method\":\"a.b\",\"oneway\":true}\x00{\"method\":\"a.\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := NewServer(newState(Ready), nil)
		conn := &stubConn{in: bytes.NewReader(data)}
		s.ServeConn(conn)
		if n, _ := s.Peers(); n != 0 {
			t.Fatal("the peer keeps its slot")
		}
		out := conn.out.Bytes()
		if n := bytes.Count(out, []byte{0}); n > bytes.Count(data, []byte{0}) || n > 0 && out[len(out)-1] != 0 {
			t.Fatalf("%q is answered with %q", data, out)
		}
		for frame := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
			if len(frame) == 0 && len(out) == 0 {
				break
			}
			r, err := varlink.ParseReply(frame)
			if err != nil || r.Continues || len(frame) > MaxFrame || !json.Valid(frame) {
				t.Fatalf("%q is answered with %q", data, frame)
			}
			if strings.HasPrefix(r.Err, "io.fastbind") != (r.Err == errUnsupportedFormat) {
				t.Fatalf("error %q", r.Err)
			}
		}
	})
}
