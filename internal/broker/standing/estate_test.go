//go:build unix

package standing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
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
	sock := func(i int) string { return filepath.Join(dir, fmt.Sprint("s", i), runtimedir.SockName) }
	for i := range n {
		if err := os.Mkdir(filepath.Dir(sock(i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	go func() {
		defer from.Close()
		for i := range n {
			path := sock(i)
			s, err := endpoint.Bind(path)
			if err != nil {
				t.Error(err)
				return
			}
			if err = s.Listen(); err != nil {
				t.Error(err)
			}
			f, err := s.File("listener")
			if err == nil {
				inode, ierr := endpoint.Inode(path)
				err = errors.Join(ierr, sendFile(from, label(fmt.Sprint("s", i), launch.Left{Inode: inode}), f), f.Close())
			}
			if err != nil {
				t.Error(err)
			}
			_ = s.Close() // who queues waits with the copy that is under way
		}
	}()
	l := legacy(dir, to)
	l.receive(t.Context())
	for i := range n {
		left := l.take(fmt.Sprint("s", i))
		if left.File == nil {
			t.Fatalf("listener %d is %+v", i, left)
		}
		want = append(want, left.File.Name())
		c, err := net.Dial("unix", sock(i))
		if err != nil {
			t.Errorf("listener %d: %v", i, err)
		} else {
			_ = c.Close()
		}
		_ = left.File.Close()
		if _, err := net.Dial("unix", sock(i)); err == nil {
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

// legacy is what comes over a connection, of services whose directories are in dir.
func legacy(dir string, conn *net.UnixConn) *Legacy {
	return &Legacy{conn: conn, left: map[string][]launch.Left{}, dir: func(dirName string) (string, error) {
		return filepath.Join(dir, dirName), nil
	}}
}

// TestHeir: who has come to succeed, and has gone since, is none. One that waits is sent
// what there is when the broker ends.
func TestHeir(t *testing.T) {
	dir := short(t)
	e := newEstate(&Config{Manager: &activation.Manager{}, Say: func(s string) { t.Error(s) }}, dir)
	if fi, err := os.Stat(filepath.Join(dir, heirName)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", fi, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan struct{})
	go func() {
		defer close(served)
		e.serve(ctx)
	}()
	has := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.heir != nil
	}
	eventually := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(deadline); !f(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not within the test's deadline: " + what)
			}
		}
	}
	dial := func() *net.UnixConn {
		t.Helper()
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, heirName), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if !isHeir(t.Context(), conn) || !has() {
			t.Fatal("it is no heir")
		}
		return conn
	}
	// What is at the other end of another connection says nothing, or something else.
	silent, _ := pair(t)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if isHeir(gone, silent) {
		t.Error("it is the heir of who says nothing")
	}
	other, end := pair(t)
	if _, err := end.Write([]byte("x")); err != nil || isHeir(t.Context(), other) {
		t.Error("it is the heir of who says something else")
	}
	_ = dial().Close()
	eventually("it has gone", func() bool { return !has() })
	if e.leave("web", nil, true) {
		t.Error("there is a next broker")
	}
	heir := dial()
	fds := make([]int, 2)
	if err := syscall.Pipe(fds); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[1])
	e.left = []launch.Left{{File: os.NewFile(uintptr(fds[0]), label("web", launch.Left{}))}}
	cancel()
	<-served
	if !has() {
		t.Fatal("the heir is forgotten when the broker ends")
	}
	e.pass()
	l := legacy(dir, heir)
	l.receive(t.Context())
	if len(l.left["web"]) != 1 {
		t.Errorf("left are %v", l.left)
	}
	l.close()
}

// TestStale: of several listeners that were kept of an endpoint the one counts that its
// name leads to; the manager is to keep none of the others any more. Without a service's
// own there are no further ones.
func TestStale(t *testing.T) {
	dir := short(t)
	l := legacy(dir, nil)
	bind := func(path string) record.Inode {
		t.Helper()
		s, err := endpoint.Bind(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		inode, err := endpoint.Inode(path)
		if err != nil {
			t.Fatal(err)
		}
		return inode
	}
	add := func(dirName, endpoint string, inode record.Inode) string {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		name := label(dirName, launch.Left{Endpoint: endpoint, Inode: inode})
		l.add(name, r)
		return name
	}
	for _, name := range []string{"web", "lost"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	own, admin := bind(filepath.Join(dir, "web", "sock")), bind(filepath.Join(dir, "web", runtimedir.FurtherSock("admin")))
	unwanted := []string{
		add("web", "", record.Inode{Dev: 1, Ino: 1}),
		add("web", "admin", record.Inode{Dev: 1, Ino: 2}),
		add("web", "gone", admin),
		add("lost", "", own),
		add("never", "", own),
	}
	add("web", "admin", admin)
	add("web", "", own)
	left := l.take("web")
	if left.File == nil || left.Inode != own || len(left.Further) != 1 || left.Further[0].Endpoint != "admin" || left.Further[0].Inode != admin {
		t.Errorf("left are %+v", left)
	}
	_, _ = left.File.Close(), left.Further[0].File.Close()
	if left := l.take("lost"); left.File != nil {
		t.Errorf("left is %+v", left)
	}
	got := l.close()
	slices.Sort(got)
	slices.Sort(unwanted)
	if !slices.Equal(got, unwanted) {
		t.Errorf("unwanted are %q, not %q", got, unwanted)
	}
	if l.count != 0 {
		t.Errorf("%d are counted", l.count)
	}
}

// TestPassBounds: what is no label, or has none, is closed,
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
		l := legacy("", to)
		l.receive(t.Context())
		return l
	}
	good := label("web", launch.Left{Inode: record.Inode{Dev: 1, Ino: 2}})
	for _, texts := range [][]string{
		{good, "no label", "web@", "web@1", "@1.2", "web@1.x", "web@01.2", "web/@1.2", "/x@1.2"},
		{good, strings.Repeat("x", 3*maxLabel)},
	} {
		l := send(texts...)
		if len(l.left) != 1 || len(l.left["web"]) != 1 || l.left["web"][0].Inode != (record.Inode{Dev: 1, Ino: 2}) {
			t.Errorf("%.40q: %v", texts, l.left)
		}
		l.close()
	}
	// One that never sends anything is waited for until the broker is to end.
	_, to := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		legacy("", to).receive(ctx)
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
	f.Add("web/admin@1.2")
	f.Fuzz(func(t *testing.T, s string) {
		if name, left, ok := parseLabel(s); ok && (name == "" || label(name, left) != s) {
			t.Errorf("%q is %q, %v", s, name, left)
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
