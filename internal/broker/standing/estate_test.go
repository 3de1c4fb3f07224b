//go:build unix

package standing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

const deadline = 2 * time.Minute

// pair returns both ends of a connection.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short(t), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	_ = b.SetDeadline(time.Now().Add(deadline))
	return a, b
}

// short is a directory whose name fits into a socket address.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestPass: listeners arrive with their labels, in order, whatever the stream makes
// of the messages, and are those that were sent.
func TestPass(t *testing.T) {
	from, to := pair(t)
	const n = 100
	dir := short(t)
	var want []string
	go func() {
		defer from.Close()
		for i := range n {
			s, err := endpoint.Bind(filepath.Join(dir, fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
				return
			}
			if err = s.Listen(); err != nil {
				t.Error(err)
			}
			f, err := s.File("listener")
			if err == nil {
				err = sendFile(from, label(fmt.Sprint("s", i), record.Inode{Dev: 1, Ino: uint64(i)}), f)
				_ = f.Close()
			}
			if err != nil {
				t.Error(err)
			}
			_ = s.Close() // who queues waits with the copy that is under way
		}
	}()
	l := &Legacy{conn: to, left: map[string]broker.Left{}}
	l.receive(t.Context())
	for i := range n {
		left := l.take(fmt.Sprint("s", i))
		if left.File == nil || left.Inode.Ino != uint64(i) {
			t.Fatalf("listener %d is %+v", i, left)
		}
		want = append(want, left.File.Name())
		c, err := net.Dial("unix", filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Errorf("listener %d: %v", i, err)
		} else {
			_ = c.Close()
		}
		_ = left.File.Close()
		if _, err := net.Dial("unix", filepath.Join(dir, fmt.Sprint(i))); err == nil {
			t.Errorf("listener %d has another copy somewhere", i)
		}
	}
	if again := l.take("s0"); again.File != nil || len(want) != n {
		t.Error("a listener was left twice")
	}
	if rest := l.close(); len(rest) != 0 {
		t.Errorf("left are %q", rest)
	}
}

// TestPassBounds: what is no label, has none or is a second one of a service is closed,
// and who sends text without end is not listened to.
func TestPassBounds(t *testing.T) {
	send := func(texts ...string) *Legacy {
		from, to := pair(t)
		go func() {
			defer from.Close()
			for _, text := range texts {
				r, w, err := os.Pipe()
				if err == nil {
					err = sendFile(from, text, r)
					_, _ = r.Close(), w.Close()
				}
				if err != nil && !errors.Is(err, os.ErrClosed) {
					return // it is hung up on
				}
			}
		}()
		l := &Legacy{conn: to, left: map[string]broker.Left{}}
		l.receive(t.Context())
		return l
	}
	good := label("web", record.Inode{Dev: 1, Ino: 2})
	for _, texts := range [][]string{
		{good, "no label", "web@", "web@1", "@1.2", "web@1.x", "web@01.2", good, good},
		{good, strings.Repeat("x", 3*maxLabel)},
	} {
		l := send(texts...)
		if len(l.left) != 1 || l.left["web"].Inode != (record.Inode{Dev: 1, Ino: 2}) {
			t.Errorf("%.40q: %v", texts, l.left)
		}
		l.close()
	}
	// One that never sends anything is waited for until the broker is to end.
	_, to := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		(&Legacy{conn: to, left: map[string]broker.Left{}}).receive(ctx)
		close(done)
	}()
	cancel()
	select {
	case <-done:
	case <-time.After(deadline):
		t.Error("a silent predecessor is waited for")
	}
}

func FuzzLabel(f *testing.F) {
	f.Add("web@1.2")
	f.Add("a+0f@18446744073709551615.0")
	f.Add("@.")
	f.Fuzz(func(t *testing.T, s string) {
		if name, inode, ok := parseLabel(s); ok && (name == "" || label(name, inode) != s) {
			t.Errorf("%q is %q, %v", s, name, inode)
		}
	})
}

// TestDisabled: the wishes of one instance, and whoever looks makes nothing.
func TestDisabled(t *testing.T) {
	dir := short(t)
	env := runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}
	if Disabled(env, "default", "web") {
		t.Error("nobody has disabled it")
	}
	if err := SetDisabled(t.Context(), env, "default", "web", false); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("looking has made %v, %v", entries, err)
	}
	for _, disabled := range []bool{true, true, false, false} {
		if err := SetDisabled(t.Context(), env, "default", "web", disabled); err != nil {
			t.Fatal(err)
		}
		if Disabled(env, "default", "web") != disabled || Disabled(env, "ci", "web") || Disabled(env, "default", "we") {
			t.Errorf("set to %v", disabled)
		}
	}
	// Without a state directory of one's own the wishes are beside the run-time files.
	env.StateDir = ""
	if err := SetDisabled(t.Context(), env, "default", "web", true); err != nil || !Disabled(env, "default", "web") {
		t.Errorf("without a state directory: %v", err)
	}
}
