//go:build unix && !darwin

package activation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// A report is what a broker found.
type report struct {
	Names    []string
	Answers  []string // of Listener, "" if it is one
	Watchdog time.Duration
	Err      string
	Child    string // variables and descriptors of a child
}

// broker takes what it was handed, says what it has found, and answers one client
// of each listener.
var broker = reexec.Helper("broker", func([]string) {
	m, err := Take("control")
	var r report
	if err != nil {
		r.Err = err.Error()
	}
	r.Watchdog = m.Watchdog
	child := exec.Command("sh", "-c", `env | grep -E '^(LISTEN|NOTIFY|WATCHDOG)_'; ls -l /proc/self/fd`)
	out, _ := child.Output()
	r.Child = string(out)
	var listeners []*net.UnixListener
	for _, s := range m.Sockets {
		r.Names = append(r.Names, s.Name)
		ln, err := s.Listener()
		answer := ""
		if err != nil {
			answer = err.Error()
		} else {
			listeners = append(listeners, ln)
		}
		r.Answers = append(r.Answers, answer)
	}
	reexec.Check(json.NewEncoder(os.Stdout).Encode(r))
	for _, ln := range listeners {
		conn, err := ln.Accept()
		reexec.Check(err)
		_, err = fmt.Fprintln(conn, os.Getpid())
		reexec.Check(errors.Join(err, conn.Close(), ln.Close()))
	}
})

// start starts the broker as systemd does: with descriptors from 3 on and
// LISTEN_PID of its own. It returns what it found, and its end.
func start(t *testing.T, files []*os.File, env ...string) (report, *exec.Cmd) {
	t.Helper()
	cmd := reexec.Command(t, broker)
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0"`}, cmd.Path)
	cmd.Path = "/bin/sh"
	cmd.Env = append(cmd.Env, env...)
	cmd.ExtraFiles = files
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var r report
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r, cmd
}

func listen(t *testing.T) (string, *os.File) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return path, f
}

// TestTake: R38. The broker serves who has queued before it was started, its
// children see neither descriptor nor variable, and the names stay.
func TestTake(t *testing.T) {
	path, f := listen(t)
	path2, f2 := listen(t)
	var conns []net.Conn
	for _, p := range []string{path, path2} {
		conn, err := net.Dial("unix", p)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	r, cmd := start(t, []*os.File{f, f2}, "LISTEN_FDS=2", "LISTEN_FDNAMES=control:web", "WATCHDOG_USEC=60000000")
	if r.Err != "" || !slices.Equal(r.Names, []string{"control", "web"}) || !slices.Equal(r.Answers, []string{"", ""}) || r.Watchdog != time.Minute {
		t.Errorf("%+v", r)
	}
	for _, file := range []*os.File{f, f2} {
		if has(t, r.Child, file) {
			t.Errorf("its child has a socket:\n%s", r.Child)
		}
	}
	if strings.Contains(r.Child, "LISTEN_") || strings.Contains(r.Child, "WATCHDOG_") {
		t.Errorf("its child has a variable:\n%s", r.Child)
	}
	for _, conn := range conns {
		answer, err := io.ReadAll(conn)
		if want := fmt.Sprintln(cmd.Process.Pid); string(answer) != want || err != nil {
			t.Errorf("answer %q, %v, want %q", answer, err, want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, p := range []string{path, path2} {
		if _, err := os.Lstat(p); err != nil {
			t.Error("the broker has removed the name:", err)
		}
	}
}

// TestTakeNothing: variables for somebody else are none, and are cleared.
func TestTakeNothing(t *testing.T) {
	_, f := listen(t)
	cmd := reexec.Command(t, broker)
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1", fmt.Sprint("LISTEN_PID=", os.Getpid()), "LISTEN_FDNAMES=control", "LISTEN_PIDFDID=1",
		"WATCHDOG_USEC=1", fmt.Sprint("WATCHDOG_PID=", os.Getpid()), "NOTIFY_SOCKET=@fastbind-nobody")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	// The descriptor is not the broker's to close, so its child has it.
	if r.Err != "" || len(r.Names) > 0 || r.Watchdog != 0 || regexp.MustCompile(`(LISTEN|NOTIFY|WATCHDOG)_`).MatchString(r.Child) {
		t.Errorf("%+v", r)
	}
	if runtime.GOOS == "linux" && !has(t, r.Child, f) {
		t.Errorf("the list of descriptors does not show a socket:\n%s", r.Child)
	}
}

// has reports whether a list of descriptors has a socket.
func has(t *testing.T, list string, f *os.File) bool {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(list, fmt.Sprintf("socket:[%d]", st.Ino))
}

// TestTakeUnusable: what is announced and cannot be used is an error.
func TestTakeUnusable(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	_, pair := listen(t)
	for name, c := range map[string]struct {
		files []*os.File
		env   []string
		want  string
	}{
		"no socket":  {[]*os.File{null}, []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=control"}, `descriptor 3 was announced as the socket "control"`},
		"not there":  {[]*os.File{pair}, []string{"LISTEN_FDS=999"}, `was announced as the socket "unknown"`},
		"names":      {[]*os.File{pair}, []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=a:b"}, "2 names for 1"},
		"other host": {nil, []string{"NOTIFY_SOCKET=vsock:2:1"}, `NOTIFY_SOCKET is "vsock:2:1"`},
		"watchdog":   {nil, []string{"WATCHDOG_USEC=soon"}, `WATCHDOG_USEC is "soon"`},
	} {
		t.Run(name, func(t *testing.T) {
			r, cmd := start(t, c.files, c.env...)
			if !strings.Contains(r.Err, c.want) || len(r.Names) > 0 {
				t.Errorf("%+v", r)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	connected, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(connected[0]), "pair")
	defer f.Close()
	defer unix.Close(connected[1])
	r, cmd := start(t, []*os.File{f}, "LISTEN_FDS=1")
	if r.Err != "" || len(r.Answers) != 1 || !strings.Contains(r.Answers[0], "invalid argument") {
		t.Errorf("a connected socket: %+v", r)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// hear is a manager's end.
func hear(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestNotify: each message arrives as one datagram, at a path and at an abstract
// name.
func TestNotify(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, address := range []string{dir + "/notify", "@" + dir} {
		if strings.HasPrefix(address, "@") && runtime.GOOS != "linux" {
			continue // Linux alone has abstract names
		}
		conn := hear(t, address)
		m := Manager{address: address}
		for _, c := range []struct {
			send func() error
			want string
		}{
			{func() error { return m.Ready("2 services\nMAINPID=1") }, "READY=1\nSTATUS=2 services MAINPID=1"},
			{func() error { return m.Status("3 services") }, "STATUS=3 services"},
			{m.Alive, "WATCHDOG=1"},
			{m.Stopping, "STOPPING=1"},
			{func() error { return m.Drop("web") }, "FDSTOREREMOVE=1\nFDNAME=web"},
		} {
			if err := c.send(); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 4096)
			n, err := conn.Read(b)
			if err != nil || string(b[:n]) != c.want {
				t.Errorf("%q, %v, want %q", b[:n], err, c.want)
			}
		}
	}
}

// TestKeep: the manager's copy of a listener serves who has queued when ours is
// gone; keeping it leaves ours as it was.
func TestKeep(t *testing.T) {
	path, f := listen(t)
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	address := filepath.Join(filepath.Dir(path), "notify")
	conn := hear(t, address)
	m := Manager{address: address}
	if err := m.Keep("web", f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil || string(b[:n]) != "FDSTORE=1\nFDNAME=web" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	kept := os.NewFile(uintptr(fds[0]), "kept")
	defer kept.Close()
	ln, err := Socket{"web", kept}.Listener()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := served.Write([]byte("served")); err != nil {
		t.Fatal(err)
	}
	_ = served.Close()
	if got, err := io.ReadAll(client); string(got) != "served" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSilentManager: a manager that does not read is waited for, but not for
// ever; one that is gone is an error at once.
func TestSilentManager(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m := Manager{address: dir + "/notify"}
	if err := m.Alive(); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), `telling the service manager "WATCHDOG=1"`) {
		t.Error(err)
	}
	conn := hear(t, m.address)
	var full error
	sent := 0
	for ; full == nil && sent < 100_000; sent++ { // until its queue is full
		full = m.Status("x")
	}
	if !errors.Is(full, os.ErrDeadlineExceeded) {
		t.Errorf("after %d messages: %v", sent, full)
	}
	b := make([]byte, 16)
	if n, err := conn.Read(b); err != nil || !bytes.Equal(b[:n], []byte("STATUS=x")) {
		t.Errorf("%q, %v", b[:n], err)
	}
	if err := m.Status("x"); err != nil {
		t.Errorf("when it has read one: %v", err)
	}
}
