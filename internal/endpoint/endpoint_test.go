//go:build linux

package endpoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/record"

	"github.com/fastbind/fastbind/internal/reexec"
)

// tempDir is t.TempDir, short enough for socket addresses and open to other
// users' processes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func bind(t testing.TB, path string) *Socket {
	t.Helper()
	s, err := Bind(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func listen(t testing.TB, path string) *Socket {
	t.Helper()
	s := bind(t, path)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	return s
}

// rawListen makes a listener of another kind, or of a short queue.
func rawListen(t testing.TB, path string, kind, backlog int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil && kind != unix.SOCK_DGRAM {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// dropTo makes this process another user's.
func dropTo(uid int) {
	reexec.Check(syscall.Setgroups(nil))
	reexec.Check(syscall.Setgid(uid))
	reexec.Check(syscall.Setuid(uid))
}

// connectHelper connects as another user and tells what it found.
var connectHelper = reexec.Helper("connect", func(args []string) {
	dropTo(1234)
	conn, reach, err := Connect(context.Background(), args[0])
	fmt.Println(reach, conn != nil, err)
})

// foreignHelper listens as another user, and tells what comes of a connection.
var foreignHelper = reexec.Helper("foreign", func(args []string) {
	dropTo(1234)
	s, err := Bind(args[0])
	reexec.Check(err)
	reexec.Check(os.Chmod(args[0], 0o666))
	reexec.Check(s.Listen())
	ln, err := s.Listener()
	reexec.Check(err)
	fmt.Println("listening")
	conn, err := ln.Accept()
	reexec.Check(err)
	reexec.Check(conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Read(make([]byte, 1))
	fmt.Println(err)
})

// adoptHelper is a daemon that takes its inherited listener and serves the name
// of its choice until its standard input ends.
var adoptHelper = reexec.Helper("adopt", func([]string) {
	ln, err := Adopt(3)
	reexec.Check(err)
	fmt.Println("adopted")
	go func() {
		for {
			conn, err := ln.Accept()
			reexec.Check(err)
			fmt.Fprintln(conn, "daemon")
			conn.Close()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
})

// TestConnect: what each thing at a path tells about a daemon. Only "absent"
// and "refused" say that nobody can accept (R8).
func TestConnect(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(t *testing.T, path string)
		want  Reach
		errno syscall.Errno
	}{
		"no such name":         {func(t *testing.T, path string) {}, Absent, syscall.ENOENT},
		"dangling link":        {func(t *testing.T, path string) { must(t, os.Symlink("missing", path)) }, Absent, syscall.ENOENT},
		"bound, not listening": {func(t *testing.T, path string) { bind(t, path) }, Refused, syscall.ECONNREFUSED},
		"dead":                 {func(t *testing.T, path string) { must(t, listen(t, path).Close()) }, Refused, syscall.ECONNREFUSED},
		"a file":               {func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o600)) }, Refused, syscall.ECONNREFUSED},
		"a directory":          {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, Refused, syscall.ECONNREFUSED},
		"a FIFO":               {func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) }, Refused, syscall.ECONNREFUSED},
		"a datagram socket":    {func(t *testing.T, path string) { rawListen(t, path, unix.SOCK_DGRAM, 0) }, Refused, syscall.EPROTOTYPE},
		"a packet socket":      {func(t *testing.T, path string) { rawListen(t, path, unix.SOCK_SEQPACKET, 8) }, Refused, syscall.EPROTOTYPE},
		"shut": {func(t *testing.T, path string) {
			must(t, unix.Shutdown(listen(t, path).FD(), unix.SHUT_RD))
		}, Refused, syscall.ECONNREFUSED},
		"links in a circle": {func(t *testing.T, path string) { must(t, os.Symlink(path, path)) }, Broken, syscall.ELOOP},
		"listening":         {func(t *testing.T, path string) { listen(t, path) }, Reached, 0},
		"a link to it": {func(t *testing.T, path string) {
			listen(t, path+".real")
			must(t, os.Symlink(path+".real", path))
		}, Reached, 0},
		"its second name": {func(t *testing.T, path string) {
			listen(t, path+".real")
			must(t, os.Link(path+".real", path))
			must(t, os.Remove(path+".real"))
		}, Reached, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "sock")
			c.make(t, path)
			conn, reach, err := Connect(t.Context(), path)
			if conn != nil {
				conn.Close()
			}
			if reach != c.want || (conn != nil) != (reach == Reached) || (err == nil) != (reach == Reached) {
				t.Errorf("reach %d, %v, %v; want %d", reach, conn, err, c.want)
			}
			if c.errno != 0 && !errors.Is(err, c.errno) {
				t.Errorf("%v, want %v", err, c.errno)
			}
		})
	}
	file := filepath.Join(tempDir(t), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, reach, err := Connect(t.Context(), file+"/sock"); reach != Absent {
		t.Errorf("below a file: %d, %v", reach, err)
	}
	if _, reach, err := Connect(t.Context(), "/"+strings.Repeat("x", 200)); reach != Broken {
		t.Errorf("longer than an address: %d, %v", reach, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(tempDir(t), "sock")
	listen(t, path)
	if conn, reach, err := Connect(ctx, path); reach != Broken || conn != nil || !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "canceled") {
		t.Errorf("after the caller gave up: %d, %v", reach, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBusy: a full queue is somebody who lives; it is told at once, and when a
// place is free there is a connection (R8).
func TestBusy(t *testing.T) {
	path := filepath.Join(tempDir(t), "sock")
	fd := rawListen(t, path, unix.SOCK_STREAM, 1)
	var conns []net.Conn
	for {
		conn, reach, err := Connect(t.Context(), path)
		if reach == Busy {
			if !errors.Is(err, syscall.EAGAIN) || conn != nil {
				t.Errorf("%v, %v", conn, err)
			}
			break
		}
		if reach != Reached || len(conns) > 16 {
			t.Fatalf("%d after %d connections: %v", reach, len(conns), err)
		}
		conns = append(conns, conn)
		defer conn.Close()
	}
	c, _, err := unix.Accept(fd)
	must(t, err)
	defer unix.Close(c)
	conn, reach, err := Connect(t.Context(), path)
	if reach != Reached {
		t.Fatalf("%d, %v with a free place", reach, err)
	}
	conn.Close()
}

// TestDenied: a system that forbids connecting says nothing about the daemon (R40).
func TestDenied(t *testing.T) {
	path := filepath.Join(tempDir(t), "sock")
	listen(t, path)
	must(t, os.Chmod(path, 0o600))
	want := fmt.Sprint(Denied, false, " dial unix ", path, ": connect: permission denied")
	var got string
	reexec.Used(connectHelper)
	if os.Geteuid() == 0 { // whom no mode stops
		out, err := reexec.Command(t, connectHelper, path).Output()
		must(t, err)
		got = strings.TrimSpace(string(out))
	} else {
		must(t, os.Chmod(path, 0))
		conn, reach, err := Connect(t.Context(), path)
		got = fmt.Sprintln(reach, conn != nil, err)
	}
	if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForeign: who listens as another user is not talked to (R34).
func TestForeign(t *testing.T) {
	reexec.Used(foreignHelper)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to listen as another user")
	}
	path := filepath.Join(tempDir(t), "sock")
	cmd := reexec.Command(t, foreignHelper, path)
	out := start(t, cmd)
	if line, err := out.ReadString('\n'); line != "listening\n" {
		t.Fatal(line, err)
	}
	conn, reach, err := Connect(t.Context(), path)
	var pe *peer.Error
	if reach != Foreign || conn != nil || !errors.As(err, &pe) || pe.UID != 1234 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%d, %v, %v", reach, conn, err)
	}
	// Nothing was said, and the connection is closed.
	if line, err := out.ReadString('\n'); line != "EOF\n" {
		t.Errorf("the foreign listener has %q, %v", line, err)
	}
}

// start starts a helper that ends with the test, at the latest.
func start(t testing.TB, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return bufio.NewReader(out)
}

func TestClassify(t *testing.T) {
	for errno, want := range map[syscall.Errno]Reach{
		syscall.ENOENT: Absent, syscall.ENOTDIR: Absent,
		syscall.ECONNREFUSED: Refused, syscall.ENOTSOCK: Refused, syscall.EPROTOTYPE: Refused,
		syscall.EAGAIN: Busy, syscall.EINPROGRESS: Busy, syscall.EALREADY: Busy,
		syscall.EACCES: Denied, syscall.EPERM: Denied,
		// What says nothing about the daemon is never taken for its death.
		syscall.EMFILE: Broken, syscall.ENFILE: Broken, syscall.ENOBUFS: Broken, syscall.ENOMEM: Broken, syscall.EINTR: Broken,
		syscall.ETIMEDOUT: Broken, syscall.ELOOP: Broken, syscall.ENAMETOOLONG: Broken, syscall.EIO: Broken, syscall.EINVAL: Broken,
	} {
		for _, err := range []error{errno, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}, fmt.Errorf("twice: %w", errno)} {
			if got := Classify(err); got != want {
				t.Errorf("%v is %d, want %d", err, got, want)
			}
		}
	}
	if got := Classify(errors.New("odd")); got != Broken {
		t.Errorf("an error without a number is %d", got)
	}
}

func TestBind(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "sock")
	s := bind(t, path)
	if flags, err := unix.FcntlInt(uintptr(s.FD()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("inheritable: %x, %v", flags, err)
	}
	inode, err := Inode(path)
	must(t, err)
	must(t, s.Close())
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if again, err := Inode(path); err != nil || again != inode {
		t.Errorf("the name is gone with the socket: %v", err)
	}
	if ln, err := s.Listener(); err == nil {
		ln.Close()
		t.Error("a listener of a closed socket")
	}
	if err := s.Listen(); !errors.Is(err, syscall.EBADF) {
		t.Errorf("listening on a closed socket: %v", err)
	}
	for name, c := range map[string]struct {
		path string
		want syscall.Errno
	}{
		"in use":     {path, syscall.EADDRINUSE},
		"no parent":  {filepath.Join(dir, "missing", "sock"), syscall.ENOENT},
		"too long":   {"/" + strings.Repeat("x", 200), syscall.EINVAL},
		"not a path": {filepath.Join(path, "sock"), syscall.ENOTDIR},
	} {
		s, err := Bind(c.path)
		var pe *fs.PathError
		if s != nil || !errors.Is(err, c.want) || !errors.As(err, &pe) || pe.Op != "bind" || pe.Path != c.path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInode(t *testing.T) {
	dir := tempDir(t)
	path := filepath.Join(dir, "sock")
	bind(t, path)
	must(t, os.Link(path, path+".keep"))
	must(t, os.Symlink(path, path+".link"))
	a, err := Inode(path)
	must(t, err)
	if a.IsZero() || a == (record.Inode{}) {
		t.Error("no inode")
	}
	if b, err := Inode(path + ".keep"); err != nil || a != b {
		t.Errorf("a second link is another inode: %v, %v, %v", a, b, err)
	}
	if b, err := Inode(path + ".link"); err != nil || a == b {
		t.Errorf("a symbolic link was followed: %v", err)
	}
	if _, err := Inode(path + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	d, err := os.Open(dir)
	must(t, err)
	at, err := Inode(dir)
	must(t, err)
	if of, err := InodeOf(d); err != nil || of != at {
		t.Errorf("InodeOf %v, %v; at its path %v", of, err, at)
	}
	must(t, d.Close())
	if _, err := InodeOf(d); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("of a closed file: %v", err)
	}
}

// high is a descriptor's copy with a number that nothing else in this process
// gets meanwhile, so that "closed" can be seen.
func high(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 700)
	must(t, err)
	return n
}

func descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

func isOpen(fd int) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil
}

// TestAdoptRefuses: what was announced and is no listener of ours is an error,
// and no descriptor is left of it.
func TestAdoptRefuses(t *testing.T) {
	dir := tempDir(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer tcp.Close()
	tcpFile, err := tcp.(*net.TCPListener).File()
	must(t, err)
	defer tcpFile.Close()
	file, err := os.Create(filepath.Join(dir, "file"))
	must(t, err)
	defer file.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()

	for name, c := range map[string]struct {
		fd   int
		want syscall.Errno
	}{
		"not listening":     {bind(t, filepath.Join(dir, "bound")).FD(), syscall.EINVAL},
		"a connection":      {pair[0], syscall.EINVAL},
		"a datagram socket": {rawListen(t, filepath.Join(dir, "dgram"), unix.SOCK_DGRAM, 0), syscall.EINVAL},
		"a TCP listener":    {int(tcpFile.Fd()), syscall.EAFNOSUPPORT},
		"a file":            {int(file.Fd()), syscall.ENOTSOCK},
		"a pipe":            {int(r.Fd()), syscall.ENOTSOCK},
	} {
		before := descriptors(t)
		fd := high(t, c.fd)
		ln, err := Adopt(fd)
		if after := descriptors(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", name, before, after)
		}
		if ln != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, ln, err, c.want)
		}
		if isOpen(fd) {
			t.Errorf("%s is left open", name)
		}
	}
	for _, fd := range []int{-1, 999} {
		if ln, err := Adopt(fd); ln != nil || !errors.Is(err, syscall.EBADF) {
			t.Errorf("descriptor %d: %v, %v", fd, ln, err)
		}
	}
}

// TestAdopt: the listener works, with who queued before, is not inherited on,
// and its name stays when it is closed (R38).
func TestAdopt(t *testing.T) {
	path := filepath.Join(tempDir(t), "sock")
	s := listen(t, path)
	early, reach, err := Connect(t.Context(), path)
	if reach != Reached {
		t.Fatal(reach, err)
	}
	defer early.Close()
	fd := high(t, s.FD())
	must(t, s.Close())
	ln, err := Adopt(fd)
	must(t, err)
	if isOpen(fd) {
		t.Error("the inherited descriptor is left open beside the listener's own")
	}
	rc, err := ln.SyscallConn()
	must(t, err)
	must(t, rc.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("inheritable: %x, %v", flags, err)
		}
	}))
	must(t, ln.SetDeadline(time.Now().Add(time.Minute)))
	conn, err := ln.Accept()
	must(t, err)
	must(t, conn.Close())
	if n, err := early.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("who queued before: %d, %v", n, err)
	}
	must(t, ln.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("an inherited name was unlinked: %v", err)
	}
}

// TestListenAgain: a daemon that listens on what it inherited is, from then on,
// the process that clients see.
func TestListenAgain(t *testing.T) {
	path := filepath.Join(tempDir(t), "sock")
	s := listen(t, path)
	seen := func() (*net.UnixConn, int) {
		t.Helper()
		conn, reach, err := Connect(t.Context(), path)
		if reach != Reached {
			t.Fatal(reach, err)
		}
		t.Cleanup(func() { conn.Close() })
		pid, err := peer.PID(conn)
		must(t, err)
		return conn, pid
	}
	early, pid := seen()
	if pid != os.Getpid() {
		t.Errorf("before: %d, this is %d", pid, os.Getpid())
	}
	f := os.NewFile(uintptr(high(t, s.FD())), "listener")
	cmd := reexec.Command(t, adoptHelper)
	cmd.ExtraFiles = []*os.File{f}
	out := start(t, cmd)
	must(t, f.Close())
	must(t, s.Close()) // the daemon alone has it
	if line, err := out.ReadString('\n'); line != "adopted\n" {
		t.Fatal(line, err)
	}
	late, pid := seen()
	if pid != cmd.Process.Pid {
		t.Errorf("after: %d, the daemon is %d", pid, cmd.Process.Pid)
	}
	for _, conn := range []net.Conn{early, late} {
		must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		if b, err := io.ReadAll(conn); string(b) != "daemon\n" {
			t.Errorf("served %q, %v", b, err)
		}
	}
}

// acceptAll accepts until the queue is empty, and answers each.
func acceptAll(t testing.TB, ln *net.UnixListener) (n int) {
	rc, err := ln.SyscallConn()
	must(t, err)
	must(t, rc.Control(func(fd uintptr) {
		for {
			c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			if err == unix.EINTR {
				continue
			}
			if err == unix.EAGAIN {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			n++
			if _, err := unix.Write(c, []byte("x")); err != nil {
				t.Error(err)
			}
			unix.Close(c)
		}
	}))
	return n
}

// TestShutLosesNobody: whoever connects while a listener is shut is refused, or
// accepted and answered; nobody is dropped (R23).
func TestShutLosesNobody(t *testing.T) {
	const rounds, clients = 500, 8
	dir := tempDir(t)
	var connected, refused atomic.Int64
	accepted, late := 0, 0
	// On a busy machine it can take many rounds until somebody is in the queue.
	round := 0
	for ; round < rounds || late == 0 && round < 20*rounds; round++ {
		path := filepath.Join(dir, strconv.Itoa(round))
		ln, err := listen(t, path).Listener()
		must(t, err)
		var wg sync.WaitGroup
		begun := make(chan struct{}, clients)
		for range clients {
			wg.Go(func() {
				for first := true; ; first = false {
					conn, reach, err := Connect(t.Context(), path)
					switch reach {
					case Busy:
						continue
					case Refused:
						refused.Add(1)
						if first {
							begun <- struct{}{}
						}
						return
					case Reached:
					default:
						t.Errorf("%d, %v", reach, err)
						begun <- struct{}{}
						return
					}
					if first {
						begun <- struct{}{}
					}
					connected.Add(1)
					conn.SetDeadline(time.Now().Add(time.Minute))
					if b, err := io.ReadAll(conn); string(b) != "x" {
						t.Errorf("connected and lost: %q, %v", b, err)
					}
					conn.Close()
				}
			})
		}
		for range clients {
			<-begun
			accepted += acceptAll(t, ln)
		}
		for range round % 20 {
			accepted += acceptAll(t, ln)
		}
		must(t, Shut(ln))
		n := acceptAll(t, ln)
		accepted += n
		late += min(n, 1)
		must(t, ln.Close())
		wg.Wait()
	}
	if got := connected.Load(); got != int64(accepted) {
		t.Errorf("%d connected, %d accepted", got, accepted)
	}
	if refused.Load() != int64(round)*clients {
		t.Errorf("%d refused, want each client once", refused.Load())
	}
	t.Logf("%d clients, some in the queue of %d shut listeners", accepted, late)
	if accepted < 2000 || late == 0 {
		t.Errorf("the race was none: %d accepted, in %d rounds after the shutdown", accepted, late)
	}
}

func TestShutClosed(t *testing.T) {
	ln, err := listen(t, filepath.Join(tempDir(t), "sock")).Listener()
	must(t, err)
	must(t, ln.Close())
	if err := Shut(ln); err == nil {
		t.Error("no error for a closed listener")
	}
}
