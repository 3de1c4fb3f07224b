package control

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fastbind/fastbind/internal/varlink"
)

// golden compares frames with a file of testdata/golden, in which a newline
// stands for the NUL byte.
func golden(t *testing.T, name string, frames []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".json")
	text := bytes.ReplaceAll(frames, []byte{0}, []byte("\n"))
	if *update {
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s: got\n%swant\n%s", path, text, want)
	}
}

// What the client writes.
func TestGoldenRequests(t *testing.T) {
	ask := func(format int, f func(*Client)) []byte {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() {
			c := NewClient(ours)
			defer c.Close()
			c.format = format
			f(c)
		}()
		frames := varlink.NewFrameReader(theirs)
		frame, err := frames.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		return append(bytes.Clone(frame), 0)
	}
	stop := func(Identity) bool { return true }
	golden(t, "identify.request", ask(Format, func(c *Client) { c.Identify(context.Background(), "n0nce") }))
	golden(t, "identify-no-nonce.request", ask(Format, func(c *Client) { c.Identify(context.Background(), "") }))
	golden(t, "watch.request", ask(Format, func(c *Client) { c.Watch(context.Background(), "n0nce", stop) }))
	golden(t, "error-unsupported-format.request", ask(2, func(c *Client) { c.Identify(context.Background(), "") }))
}

// What a daemon of the first release replied is understood: it had no leases and
// did not end by itself.
func TestFrozenReply(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "golden", "frozen-1.identify.reply.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := varlink.ParseReply(bytes.TrimRight(text, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseIdentity(r.Parameters)
	want := sample()
	want.Format, want.Nonce, want.Phase, want.Failure, want.Leases, want.EndsIn, want.Unused = Format, "n0nce", Loading, "", 0, -1, -1
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %+v", err, got)
	}
}

// What the server replies. Requests that no client of ours writes are files that
// are only read.
func TestGoldenReplies(t *testing.T) {
	for _, name := range []string{
		"identify",
		"identify-no-nonce",
		"watch",
		"get-info",
		"get-interface-description",
		"get-interface-description-service",
		"error-interface-not-found",
		"error-unknown-interface",
		"error-invalid-nonce",
		"error-invalid-format",
		"error-invalid-interface",
		"error-method-not-found",
		"error-method-not-implemented",
		"error-unsupported-format",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Loading, func(t *testing.T, b *bubble) {
				request, err := os.ReadFile(filepath.Join("testdata", "golden", name+".request.json"))
				if err != nil {
					t.Fatal(err)
				}
				// What a stream has to say, one step after each reply.
				steps := []func(){
					func() { b.state.progress(-1) },
					func() { b.state.change(func(id *Identity) { id.Progress = nil }) },
					func() { b.state.change(func(id *Identity) { id.Phase, id.Failure = Failed, "index: disk full" }) },
				}
				p := b.dial()
				p.say(string(request))
				var replies []byte
				for {
					frame := p.hear()
					replies = append(append(replies, frame...), 0)
					if r, err := varlink.ParseReply([]byte(frame)); err != nil {
						t.Fatal(err)
					} else if !r.Continues {
						break
					}
					synctest.Wait()
					steps[0]()
					steps = steps[1:]
				}
				golden(t, name+".reply", replies)
				if strings.HasPrefix(name, "error-") != bytes.Contains(replies, []byte(`"error":`)) {
					t.Errorf("reply %s", replies)
				}
				// The connection is good for another question in any case.
				p.say(`{"method":"org.varlink.service.GetInfo"}` + "\n")
				p.hear()
			})
		})
	}
}
