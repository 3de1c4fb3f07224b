//go:build linux

package backlog

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listener is a listening socket that nobody accepts on unless a test does.
type listener struct {
	*os.File
	fd   int
	path string
}

func listen(t testing.TB, path string, limit int) listener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	must(t, unix.Listen(fd, limit))
	return listener{f, fd, path}
}

func sockPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fb")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "sock")
}

func (l listener) dial(t testing.TB) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: l.path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func (l listener) accept(t testing.TB) int {
	t.Helper()
	fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	must(t, err)
	return fd
}

// TestQueue fills a queue, half and to the brim, and empties it.
func TestQueue(t *testing.T) {
	const limit = 8
	l := listen(t, sockPath(t), limit)
	inode, err := InodeOf(l)
	must(t, err)
	var clients []Inode
	for n := 0; ; n++ {
		want := Queue{Pending: n, Limit: limit}
		q, err := Of(l)
		if err != nil || q != want {
			t.Fatalf("%d connected: %+v, %v", n, q, err)
		}
		if q.Full() != (n == limit+1) {
			t.Fatalf("%+v: full is %v", q, q.Full())
		}
		all, err := Dump()
		if err != nil || all[inode] != want {
			t.Fatalf("%d connected: the dump says %+v, %v", n, all[inode], err)
		}
		waiting, err := Waiting(l)
		if err != nil || len(waiting) != n {
			t.Fatalf("%d connected: %v wait, %v", n, waiting, err)
		}
		for i, c := range clients {
			if waiting[i] != c {
				t.Fatalf("%v wait, want %v", waiting, clients)
			}
		}
		if q.Full() {
			break
		}
		c, err := InodeOf(l.dial(t))
		must(t, err)
		clients = append(clients, c)
	}
	_, err = net.Dial("unix", l.path)
	if !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("a full queue: %v", err)
	}
	for n := limit; n >= 0; n-- {
		unix.Close(l.accept(t))
		if q, err := Of(l); err != nil || q.Pending != n {
			t.Fatalf("%d left: %+v, %v", n, q, err)
		}
	}
}

// TestClientLeaves: who has left still waits, without a name.
func TestClientLeaves(t *testing.T) {
	l := listen(t, sockPath(t), 8)
	first, second := l.dial(t), l.dial(t)
	must(t, first.Close())
	name, err := InodeOf(second)
	must(t, err)
	waiting, err := Waiting(l)
	if err != nil || len(waiting) != 2 || waiting[0] != 0 || waiting[1] != name {
		t.Errorf("%v wait, %v", waiting, err)
	}
	if _, err := InodeOf(first); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the inode of a closed socket: %v", err)
	}
}

func TestAccepted(t *testing.T) {
	l := listen(t, sockPath(t), 8)
	c := l.dial(t)
	if ok, err := Accepted(c); ok || err != nil {
		t.Errorf("queued: %v, %v", ok, err)
	}
	fd := l.accept(t)
	if ok, err := Accepted(c); !ok || err != nil {
		t.Errorf("accepted: %v, %v", ok, err)
	}
	unix.Close(fd)
	if ok, err := Accepted(c); ok || err != nil {
		t.Errorf("accepted and closed: %v, %v", ok, err)
	}
	queued := l.dial(t)
	l.Close()
	if ok, err := Accepted(queued); ok || err != nil {
		t.Errorf("reset: %v, %v", ok, err)
	}
}

// TestOtherSockets: what has no queue is no listener with an empty one.
func TestOtherSockets(t *testing.T) {
	l := listen(t, sockPath(t), 8)
	c := l.dial(t)
	if q, err := Of(c); err != ErrNotListening {
		t.Errorf("a connection: %+v, %v", q, err)
	}
	if w, err := Waiting(c); err != ErrNotListening {
		t.Errorf("a connection: %v, %v", w, err)
	}
	bound, err := net.ListenPacket("unixgram", l.path+".dgram")
	must(t, err)
	defer bound.Close()
	if q, err := Of(bound.(*net.UnixConn)); err != ErrNotListening {
		t.Errorf("a datagram socket: %+v, %v", q, err)
	}
	inode, err := InodeOf(c)
	must(t, err)
	all, err := Dump()
	must(t, err)
	if q, ok := all[inode]; ok {
		t.Errorf("the dump has a connection: %+v", q)
	}
	file, err := os.Open(os.DevNull)
	must(t, err)
	defer file.Close()
	if _, err := InodeOf(file); !errors.Is(err, unix.ENOTSOCK) {
		t.Errorf("a file: %v", err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer tcp.Close()
	if _, err := Of(tcp.(*net.TCPListener)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a TCP listener: %v", err)
	}
}

// TestStallOfListener: a stall is seen from outside, and its end.
func TestStallOfListener(t *testing.T) {
	l := listen(t, sockPath(t), 8)
	var s Stall
	look := func(now int) int {
		t.Helper()
		waiting, err := Waiting(l)
		must(t, err)
		s = s.Look(time.Duration(now), waiting)
		return int(s.For(time.Duration(now)))
	}
	for _, step := range []struct {
		now, stalled int
		before       func()
	}{
		{1, 0, func() {}},
		{2, 0, func() { l.dial(t) }},
		{3, 1, func() { l.dial(t).Close() }},
		{9, 7, func() { l.dial(t) }},
		{10, 0, func() { unix.Close(l.accept(t)) }},
		{12, 2, func() {}},
		{13, 0, func() { unix.Close(l.accept(t)); unix.Close(l.accept(t)) }},
		{14, 0, func() {}},
	} {
		step.before()
		if got := look(step.now); got != step.stalled {
			t.Errorf("at %d: stalled for %d, want %d", step.now, got, step.stalled)
		}
	}
}

// crowdHelper makes more connections than the kernel lists, in a network
// namespace of its own, whose somaxconn it may set.
var crowdHelper = reexec.Helper("crowd", func(args []string) {
	n, err := strconv.Atoi(args[1])
	reexec.Check(err)
	reexec.Check(os.WriteFile("/proc/sys/net/core/somaxconn", []byte("20000"), 0o644))
	reexec.Check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 20_000, Max: 20_000}))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	reexec.Check(err)
	reexec.Check(unix.Bind(fd, &unix.SockaddrUnix{Name: args[0]}))
	reexec.Check(unix.Listen(fd, 20_000))
	for range n {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		reexec.Check(err)
		reexec.Check(unix.Connect(c, &unix.SockaddrUnix{Name: args[0]}))
	}
	l := os.NewFile(uintptr(fd), args[0])
	q, err := Of(l)
	reexec.Check(err)
	if q.Pending != n {
		reexec.Check(errors.New("pending: " + strconv.Itoa(q.Pending)))
	}
	waiting, err := Waiting(l)
	if err == nil && len(waiting) != n {
		err = errors.New("waiting: " + strconv.Itoa(len(waiting)))
	}
	if err == ErrTooLong {
		os.Exit(3)
	}
	reexec.Check(err)
})

// TestLongQueue: what does not fit into an answer about one socket is in that
// about all, and what does not fit there either is said to be too long.
func TestLongQueue(t *testing.T) {
	for _, c := range []struct{ n, status int }{{900, 0}, {1500, 0}, {7000, 0}, {9000, 3}} {
		t.Run(strconv.Itoa(c.n), func(t *testing.T) {
			cmd := reexec.Command(t, crowdHelper, sockPath(t), strconv.Itoa(c.n))
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
			if uid := os.Geteuid(); uid != 0 {
				cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
				cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
			}
			err := cmd.Run()
			if errors.Is(err, fs.ErrPermission) {
				t.Skip("net.core.somaxconn is set in a network namespace of one's own, which this user may not make: ", err)
			}
			if status := cmd.ProcessState.ExitCode(); status != c.status {
				t.Errorf("%v, want status %d", err, c.status)
			}
		})
	}
}

// FuzzAnswers: the kernel is trusted, but a parser of bytes never panics.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add([]byte{152, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 4, 0}, false)
	f.Add(request(7, showIcons), true)
	f.Fuzz(func(t *testing.T, b []byte, many bool) {
		total := 0
		_, _ = answers(b, many, func(s found) error {
			if q, err := s.queue(); err == nil && q.Pending < 0 {
				t.Fatalf("%+v", q)
			}
			list, _ := s.waiting()
			s.attr(attrPeer)
			total += len(list)
			return nil
		})
		if total > len(b)/4 {
			t.Fatalf("%d connections from %d bytes", total, len(b))
		}
	})
}

// BenchmarkDump is a look at 1,000 listeners, BenchmarkOf at one of them, and
// BenchmarkWaiting at who waits there, four clients.
func BenchmarkDump(b *testing.B) { benchmark(b, func(listener) error { _, err := Dump(); return err }) }

func BenchmarkOf(b *testing.B) { benchmark(b, func(l listener) error { _, err := Of(l); return err }) }

func BenchmarkWaiting(b *testing.B) {
	benchmark(b, func(l listener) error { _, err := Waiting(l); return err })
}

func benchmark(b *testing.B, look func(listener) error) {
	path := sockPath(b)
	var l listener
	for i := range 1000 {
		l = listen(b, path+strconv.Itoa(i), 8)
	}
	for range 4 {
		l.dial(b)
	}
	all, err := Dump()
	must(b, err)
	if len(all) < 1000 {
		b.Fatalf("%d listeners", len(all))
	}
	b.ReportAllocs()
	for b.Loop() {
		must(b, look(l))
	}
}
