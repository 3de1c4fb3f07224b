package control

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastbind/fastbind/internal/varlink"
)

// fakeDaemon answers the client's requests one after the other with texts, in
// which a newline stands for the NUL byte, and then hangs up; it does so earlier
// after a text that does not end there. An empty text is no answer at all.
func fakeDaemon(t *testing.T, texts ...string) *Client {
	ours, theirs := net.Pipe()
	c := NewClient(ours)
	t.Cleanup(func() { c.Close() })
	go func() {
		defer theirs.Close()
		frames := varlink.NewFrameReader(theirs)
		for _, text := range texts {
			if _, err := frames.Next(nil); err != nil {
				return
			}
			if text == "" {
				frames.Next(nil)
				return
			}
			if text == hangUp {
				return
			}
			io.WriteString(theirs, strings.ReplaceAll(text, "\n", "\x00"))
			if !strings.HasSuffix(text, "\n") {
				return
			}
		}
	}()
	return c
}

const hangUp = "hang up"

// answer is a reply to Identify.
func answer(nonce string, continues bool) string {
	id := full()
	id.Nonce = nonce
	return strings.ReplaceAll(string(varlink.AppendReply(nil, continues, "", id.appendTo)), "\x00", "\n")
}

func TestClientErrors(t *testing.T) {
	for _, tt := range []struct {
		name, reply string
		is          func(error) bool
		usable      bool
	}{
		{"right", answer("n", false), func(err error) bool { return err == nil }, true},
		{"other nonce", answer("m", false), func(err error) bool { return err == ErrNonce }, false},
		{"no nonce", answer("", false), func(err error) bool { return err == ErrNonce }, false},
		{"hang-up", hangUp, func(err error) bool { return err == io.ErrUnexpectedEOF }, false},
		{"half a reply", `{"para`, func(err error) bool { return err == io.ErrUnexpectedEOF }, false},
		{"too long", strings.Repeat(" ", MaxFrame) + answer("n", false), func(err error) bool { return err == varlink.ErrFrameTooLong }, false},
		{"no JSON", "HTTP/1.1 400\n", says(`malformed reply: byte 0: expected a value`), false},
		{"no object", "[]\n", says(`malformed reply: not an object`), false},
		{"no parameters", "{}\n", says(`field "format" is not an integer from 1 to 9223372036854775807`), false},
		{"wrong parameters", `{"parameters":[]}` + "\n", says(`malformed reply: field "parameters" is not an object`), false},
		{"wrong error", `{"error":[]}` + "\n", says(`malformed reply: field "error" is not a string`), false},
		{"stream", answer("n", true), says(`malformed reply: more to come, though only one was asked for`), false},
		{"format", `{"parameters":{"format":3}}` + "\n", is(FormatError{Peer: 3, Ours: 1}), false},
		{"remote", `{"error":"a.b.C","parameters":{"x":"y"}}` + "\n", says(`the peer replied with error "a.b.C" {"x":"y"}`), true},
		{"remote without parameters", `{"error":"a.b.C"}` + "\n", says(`the peer replied with error "a.b.C"`), true},
		{"remote goes on", `{"error":"a.b.C","continues":true}` + "\n", says(`the peer replied with error "a.b.C"`), false},
		{"remote format", `{"error":"io.fastbind.Daemon.UnsupportedFormat","parameters":{"wanted":1,"supported":3}}` + "\n", is(FormatError{Peer: 3, Ours: 1}), false},
		{"remote format without numbers", `{"error":"io.fastbind.Daemon.UnsupportedFormat"}` + "\n", says(`the peer replied with error "io.fastbind.Daemon.UnsupportedFormat"`), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fakeDaemon(t, tt.reply, answer("again", false))
				id, err := c.Identify(t.Context(), "n")
				if !tt.is(err) {
					t.Fatalf("error %v", err)
				}
				if err == nil != (id.Service == "gocache") {
					t.Errorf("identity %+v", id)
				}
				_, err = c.Identify(t.Context(), "again")
				if tt.usable && err != nil || !tt.usable && err != net.ErrClosed {
					t.Errorf("the next call: %v", err)
				}
				c.Close()
			})
		})
	}
}

func says(text string) func(error) bool {
	return func(err error) bool { return err != nil && err.Error() == text }
}

func is(want FormatError) func(error) bool {
	return func(err error) bool {
		var got *FormatError
		return errors.As(err, &got) && *got == want
	}
}

func TestClientRemoteError(t *testing.T) {
	_, err := fakeDaemon(t, `{"error":"a.b.C","parameters":{"x":"y"}}`+"\n").Identify(t.Context(), "")
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Name != "a.b.C" {
		t.Fatalf("error %v", err)
	}
	if x, _ := remote.Parameters.Get("x").Text(); x != "y" {
		t.Errorf("parameters %s", remote.Parameters.Append(nil))
	}
}

func TestClientOfNewerFormat(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		c.format = 2
		_, err := c.Identify(t.Context(), "n")
		if !is(FormatError{Peer: 1, Ours: 2})(err) {
			t.Errorf("error %v", err)
		}
	})
}

func TestClientNonce(t *testing.T) {
	inBubble(t, Ready, func(t *testing.T, b *bubble) {
		c := b.client()
		for _, nonce := range []string{strings.Repeat("x", MaxNonce+1), "\xff"} {
			if _, err := c.Identify(t.Context(), nonce); err == nil {
				t.Errorf("nonce %q is accepted", nonce)
			}
		}
		if _, err := c.Identify(t.Context(), ""); err != nil {
			t.Error(err)
		}
	})
}

// A stopped daemon never answers.
func TestClientContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, call := range []func(context.Context, *Client) error{
			func(ctx context.Context, c *Client) error { _, err := c.Identify(ctx, "n"); return err },
			func(ctx context.Context, c *Client) error {
				return c.Watch(ctx, "n", func(Identity) bool { return false })
			},
		} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			c := fakeDaemon(t, "")
			if err := call(ctx, c); err != context.DeadlineExceeded || time.Since(start) != time.Hour {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			cancel()
			if err := call(t.Context(), c); err != net.ErrClosed {
				t.Errorf("the next call: %v", err)
			}

			ctx, cancel = context.WithCancel(t.Context())
			c = fakeDaemon(t, answer("n", true))
			time.AfterFunc(time.Minute, cancel)
			if err := call(ctx, c); err == nil {
				t.Error("a call without an end succeeds")
			}
			cancel()

			// Nobody reads what is written.
			ours, theirs := net.Pipe()
			defer theirs.Close()
			ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
			if err := call(ctx, NewClient(ours)); err != context.DeadlineExceeded {
				t.Errorf("writing: %v", err)
			}
			cancel()
		}
	})
}

// A call whose context ends before its turn has touched nothing.
func TestClientTurn(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		c := b.client()
		watched := make(chan error)
		go func() {
			watched <- c.Watch(t.Context(), "w", func(Identity) bool { return false })
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 2 {
			if _, err := c.Identify(ctx, "n"); err != context.DeadlineExceeded {
				t.Errorf("error %v", err)
			}
		}
		b.state.enter(Ready)
		if err := <-watched; err != nil {
			t.Error(err)
		}
		for range 10 {
			if _, err := c.Identify(ctx, "n"); err != context.DeadlineExceeded {
				t.Errorf("error %v", err)
			}
		}
		if _, err := c.Identify(t.Context(), "n"); err != nil {
			t.Error(err)
		}
	})
}

func TestClientClose(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		c := b.client()
		watched := make(chan error)
		go func() {
			watched <- c.Watch(t.Context(), "w", func(Identity) bool { return false })
		}()
		synctest.Wait()
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-watched; err != net.ErrClosed {
			t.Errorf("Watch: %v", err)
		}
		if _, err := c.Identify(t.Context(), "n"); err != net.ErrClosed {
			t.Errorf("Identify: %v", err)
		}
	})
}

func TestWatch(t *testing.T) {
	inBubble(t, Bound, func(t *testing.T, b *bubble) {
		c := b.client()
		next := []Phase{Loading, Draining}
		var seen []Phase
		err := c.Watch(t.Context(), "n", func(id Identity) bool {
			seen = append(seen, id.Phase)
			if len(next) > 0 {
				b.state.enter(next[0])
				next = next[1:]
			}
			return false
		})
		if err != nil || len(seen) != 3 || seen[2] != Draining {
			t.Errorf("saw %v, %v", seen, err)
		}
		// A stream that has ended leaves the connection usable, however it ended.
		if err := c.Watch(t.Context(), "n", func(Identity) bool { return true }); err != nil {
			t.Error(err)
		}
		if _, err := c.Identify(t.Context(), "n"); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchStopped(t *testing.T) {
	inBubble(t, Loading, func(t *testing.T, b *bubble) {
		c := b.client()
		if err := c.Watch(t.Context(), "n", func(Identity) bool { return true }); err != nil {
			t.Error(err)
		}
		if _, err := c.Identify(t.Context(), "n"); err != net.ErrClosed {
			t.Errorf("Identify: %v", err)
		}
		synctest.Wait()
		if n, _ := b.server.Peers(); n != 0 {
			t.Errorf("the server still has %d peers", n)
		}
	})
}

// Every reply of a stream carries the nonce.
func TestWatchNonce(t *testing.T) {
	c := fakeDaemon(t, answer("n", true)+answer("m", false))
	if err := c.Watch(t.Context(), "n", func(Identity) bool { return false }); err != ErrNonce {
		t.Errorf("error %v", err)
	}
}

// A context that ends just when the reply comes leaves no deadline behind.
func TestClientLateCancel(t *testing.T) {
	dial := serveReal(t, newState(Ready), nil)
	c := NewClient(dial())
	defer func() { c.Close() }()
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := c.Identify(ctx, "n"); err != nil {
			if err != context.Canceled {
				t.Fatal(err)
			}
			c.Close()
			c = NewClient(dial())
		}
		if _, err := c.Identify(t.Context(), "m"); err == net.ErrClosed {
			c = NewClient(dial())
		} else if err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}
