//go:build linux

package peer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fastbind/fastbind/internal/reexec"
)

const nobody = 65534

// pair returns the two ends of a connection through a listener.
func pair(t testing.TB) (client, server *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return c.(*net.UnixConn), s.(*net.UnixConn)
}

func TestOwnProcess(t *testing.T) {
	client, server := pair(t)
	for name, c := range map[string]*net.UnixConn{"client": client, "server": server} {
		if err := Check(c); err != nil {
			t.Errorf("%s: Check: %v", name, err)
		}
		if pid, err := PID(c); err != nil || pid != os.Getpid() {
			t.Errorf("%s: PID = %d, %v; want %d", name, pid, err, os.Getpid())
		}
	}
}

// dialHelper connects to the address and waits for the other end to hang up.
var dialHelper = reexec.Helper("dial", func(args []string) {
	c, err := net.Dial("unix", args[0])
	reexec.Check(err)
	fmt.Println("uid", os.Geteuid())
	io.Copy(io.Discard, c)
})

// listenHelper serves the address until its standard input ends.
var listenHelper = reexec.Helper("listen", func(args []string) {
	_, err := net.Listen("unix", args[0])
	reexec.Check(err)
	fmt.Println("uid", os.Geteuid())
	io.Copy(io.Discard, os.Stdin)
})

// startAs runs a helper as uid with args and returns its pid once it has
// said who it is.
func startAs(t *testing.T, uid int, name string, args ...string) int {
	t.Helper()
	cmd := reexec.Command(t, name, args...)
	if uid != os.Geteuid() {
		// The go command builds in a directory that is closed to others.
		b, err := os.ReadFile(cmd.Path)
		if err != nil {
			t.Fatal(err)
		}
		dir := openDir(t)
		cmd.Path = filepath.Join(dir, "helper")
		if err := os.WriteFile(cmd.Path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := fmt.Sprintf("uid %d\n", uid); line != want {
		t.Fatalf("helper said %q, %v; want %q", line, err, want)
	}
	return cmd.Process.Pid
}

// openDir returns a temporary directory that every user may search.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOtherProcess(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := startAs(t, os.Geteuid(), dialHelper, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Check(c.(syscall.Conn)); err != nil {
		t.Error(err)
	}
	if pid, err := PID(c.(syscall.Conn)); err != nil || pid != want {
		t.Errorf("PID = %d, %v; want %d", pid, err, want)
	}
}

func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start a process of another user")
	}
	// Abstract addresses: no directory's mode stands in the way.
	addr := fmt.Sprintf("@fastbind-peer-test-%d-", os.Getpid())

	t.Run("accepted", func(t *testing.T) {
		l, err := net.Listen("unix", addr+"ours")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		pid := startAs(t, nobody, dialHelper, addr+"ours")
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wantRefused(t, Check(c.(syscall.Conn)))
		if got, err := PID(c.(syscall.Conn)); err != nil || got != pid {
			t.Errorf("PID = %d, %v; want %d", got, err, pid)
		}
	})
	t.Run("dialled", func(t *testing.T) {
		startAs(t, nobody, listenHelper, addr+"theirs")
		c, err := net.Dial("unix", addr+"theirs")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		wantRefused(t, Check(c.(syscall.Conn)))
	})
}

func wantRefused(t *testing.T, err error) {
	t.Helper()
	var pe *Error
	if !errors.As(err, &pe) || pe.UID != nobody || pe.Own != os.Geteuid() {
		t.Fatalf("Check = %#v, want an *Error of uid %d and ours", err, nobody)
	}
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v: not fs.ErrPermission alone", err)
	}
	for _, uid := range []int{nobody, os.Geteuid()} {
		if !strings.Contains(err.Error(), fmt.Sprintf("uid %d", uid)) {
			t.Errorf("%q does not name uid %d", err, uid)
		}
	}
}

// TestNoPeer: what has no peer does not pass.
func TestNoPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	dgram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "dgram")})
	if err != nil {
		t.Fatal(err)
	}
	defer dgram.Close()
	client, _ := pair(t)
	client.Close()
	for name, c := range map[string]syscall.Conn{"TCP": tcp.(syscall.Conn), "unconnected": dgram, "closed": client} {
		err := Check(c)
		if err == nil {
			t.Errorf("%s socket passes", name)
		}
		if name == "closed" && !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed socket: %v, want net.ErrClosed", err)
		}
		if pid, err := PID(c); err == nil {
			t.Errorf("%s socket: PID %d", name, pid)
		}
	}
	// A failed question leaves nothing behind in a recycled query.
	client, _ = pair(t)
	if err := Check(client); err != nil {
		t.Error(err)
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop items at random")
	}
	client, _ := pair(t)
	n := testing.AllocsPerRun(1000, func() {
		if err := Check(client); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%v allocations", n)
	if n > 1 {
		t.Errorf("Check allocates %v times, want at most 1", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	client, _ := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(client); err != nil {
			b.Fatal(err)
		}
	}
}
