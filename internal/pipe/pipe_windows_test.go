package pipe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
	"github.com/fastbind/fastbind/internal/reexec"
	"github.com/fastbind/fastbind/internal/waitable"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// patience bounds waiting for what must happen.
const patience = time.Minute

var names atomic.Uint64

// newName returns a name that nobody else uses.
func newName() string {
	return fmt.Sprintf("%sfastbind-test-%d-%d", Prefix, os.Getpid(), names.Add(1))
}

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func claim(t testing.TB, name string, n int) *Instances {
	t.Helper()
	s, err := Claim(name, n)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func listenOn(t testing.TB, name string, n int) *Listener {
	t.Helper()
	ln, err := claim(t, name, n).Listen()
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

func dial(t testing.TB, name string) *Conn {
	t.Helper()
	c, err := Dial(patient(t), name)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func accept(t testing.TB, ln *Listener) *Conn {
	t.Helper()
	must(t, ln.SetDeadline(time.Now().Add(patience)))
	c, err := ln.AcceptPipe()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	_, err := io.WriteString(c, s)
	must(t, err)
}

func wantRead(t testing.TB, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); string(b[:n]) != want || err != nil {
		t.Fatalf("read %q, %v; want %q", b[:n], err, want)
	}
}

// wantFree makes sure that n clients find an instance, and the next does not.
func wantFree(t testing.TB, name string, n int) (clients []*Conn) {
	t.Helper()
	for range n {
		c, err := Connect(name)
		if err != nil {
			t.Fatalf("client %d of %d: %v", len(clients)+1, n, err)
		}
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	if c, err := Connect(name); !errors.Is(err, ErrBusy) {
		if err == nil {
			c.Close()
		}
		t.Fatalf("client %d: %v, want busy", n+1, err)
	}
	return clients
}

func wantGone(t testing.TB, name string) {
	t.Helper()
	if c, err := Dial(patient(t), name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			c.Close()
		}
		t.Fatalf("dial: %v, want that nobody is there", err)
	}
}

// serve answers every line with the server's pid and the line, until ln ends.
func serve(ln *Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := ln.AcceptPipe()
		if err != nil {
			return
		}
		conns.Go(func() {
			defer c.Close()
			for s := bufio.NewScanner(c); s.Scan(); {
				if _, err := fmt.Fprintf(c, "%d %s\n", os.Getpid(), s.Text()); err != nil {
					return
				}
			}
		})
	}
}

// daemonHelper adopts the instances of the name that it is told, and serves them until
// its standard input ends.
var daemonHelper = reexec.Helper("daemon", func(args []string) {
	var handles []uintptr
	for _, arg := range args[1:] {
		h, err := strconv.ParseUint(arg, 10, 64)
		reexec.Check(err)
		handles = append(handles, uintptr(h))
	}
	held, err := Adopt(args[0], handles)
	reexec.Check(err)
	ln, err := held.Listen()
	reexec.Check(err)
	fmt.Println("serving")
	go serve(ln)
	io.Copy(io.Discard, os.Stdin)
})

// clientHelper sends a line and prints the answer.
var clientHelper = reexec.Helper("client", func(args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := Dial(ctx, args[0])
	reexec.Check(err)
	reexec.Check(c.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintln(c, args[1])
	reexec.Check(err)
	line, err := bufio.NewReader(c).ReadString('\n')
	reexec.Check(err)
	fmt.Print(line)
	reexec.Check(c.Close())
})

// claimHelper tells what comes of a claim, and keeps it until its standard input ends.
var claimHelper = reexec.Helper("claim", func(args []string) {
	_, err := Claim(args[0], 1)
	fmt.Println(err == nil, errors.Is(err, ErrTaken))
	io.Copy(io.Discard, os.Stdin)
})

// A child is a helper that has said its first line.
type child struct {
	*exec.Cmd
	out  *bufio.Reader
	in   io.Closer
	line string
}

func start(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: cmd}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(c.kill)
	c.in, c.out = in, bufio.NewReader(out)
	c.read(t)
	return c
}

func (c *child) read(t testing.TB) {
	t.Helper()
	line, err := c.out.ReadString('\n')
	must(t, err)
	c.line = strings.TrimSpace(line)
}

// kill terminates the child and returns when it is dead.
func (c *child) kill() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// startDaemon starts a daemon that inherits what is held, and closes it here.
func startDaemon(t testing.TB, held *Instances) *child {
	t.Helper()
	copies, err := held.Inheritable()
	must(t, err)
	args := []string{held.Name()}
	for _, h := range copies.Handles {
		args = append(args, strconv.FormatUint(uint64(h), 10))
	}
	cmd := reexec.Command(t, daemonHelper, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: copies.Handles}
	d := start(t, cmd)
	copies.Close()
	must(t, held.Close())
	if d.line != "serving" {
		t.Fatalf("daemon said %q", d.line)
	}
	return d
}

func ask(t testing.TB, c *Conn, line string) (pid int) {
	t.Helper()
	send(t, c, line+"\n")
	return answer(t, c, line)
}

func answer(t testing.TB, c *Conn, line string) (pid int) {
	t.Helper()
	got, err := bufio.NewReader(c).ReadString('\n')
	must(t, err)
	var rest string
	if _, err := fmt.Sscanf(got, "%d %s\n", &pid, &rest); err != nil || rest != line {
		t.Fatalf("answer %q to %q: %v", got, line, err)
	}
	return pid
}

// TestClientBeforeDaemon: a client opens and writes before the daemon exists; the
// daemon inherits the instances, the parent closes its copies, and the client, and
// others after it, are served by the daemon until it is killed.
func TestClientBeforeDaemon(t *testing.T) {
	name := newName()
	held := claim(t, name, 4)
	early := dial(t, name)
	send(t, early, "early\n")

	d := startDaemon(t, held)
	if pid := answer(t, early, "early"); pid != d.Process.Pid {
		t.Errorf("served by %d, the daemon is %d", pid, d.Process.Pid)
	}
	for i := range 20 { // more than were inherited
		if pid := ask(t, dial(t, name), strconv.Itoa(i)); pid != d.Process.Pid {
			t.Errorf("client %d was served by %d", i, pid)
		}
	}
	d.kill()
	if _, err := early.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a killed daemon's connection: %v, want EOF", err)
	}
	wantGone(t, name)
	claim(t, name, 1)
}

// TestParentHoldsOn: the instances outlive a daemon that never was, so that the next
// one serves who waits in them.
func TestParentHoldsOn(t *testing.T) {
	name := newName()
	held := claim(t, name, 2)
	early := dial(t, name)
	send(t, early, "early\n")

	copies, err := held.Inheritable()
	must(t, err)
	cmd := reexec.Command(t, claimHelper, newName()) // adopts nothing
	cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: copies.Handles}
	failed := start(t, cmd)
	copies.Close()
	failed.kill()

	d := startDaemon(t, held)
	if pid := answer(t, early, "early"); pid != d.Process.Pid {
		t.Errorf("served by %d, the daemon is %d", pid, d.Process.Pid)
	}
}

// TestCrowd: 32 client processes at once, at a queue that holds four.
func TestCrowd(t *testing.T) {
	const crowd = 32
	name := newName()
	d := startDaemon(t, claim(t, name, 4))
	var clients sync.WaitGroup
	for i := range crowd {
		clients.Go(func() {
			out, err := reexec.Command(t, clientHelper, name, strconv.Itoa(i)).Output()
			if want := fmt.Sprintf("%d %d\n", d.Process.Pid, i); string(out) != want || err != nil {
				t.Errorf("client %d: %q, %v; want %q", i, out, err, want)
			}
		})
	}
	clients.Wait()
}

// TestBusyIsWaitedOut: who finds no instance has one when there is one, and that within
// its own deadline.
func TestBusyIsWaitedOut(t *testing.T) {
	name := newName()
	held := claim(t, name, 3)
	wantFree(t, name, 3)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, name); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "every instance is taken") {
		t.Errorf("Dial = %v, want the deadline and why", err)
	}
	done := make(chan error, 1)
	ctx = patient(t)
	go func() {
		c, err := Dial(ctx, name)
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	ln, err := held.Listen()
	must(t, err)
	defer ln.Close()
	accept(t, ln)
	if err := <-done; err != nil {
		t.Errorf("Dial = %v after an instance was free", err)
	}
}

// TestQueueKeepsItsLength: each accept makes room for one client, before it returns.
func TestQueueKeepsItsLength(t *testing.T) {
	const n = 3
	name := newName()
	ln := listenOn(t, name, n)
	wantFree(t, name, n)
	for range 3 * n {
		accept(t, ln)
		wantFree(t, name, 1)
	}
	for range n {
		accept(t, ln)
	}
	wantFree(t, name, n)
}

// TestClaimIsExclusive: of the second claimer of a name nothing comes (R35).
func TestClaimIsExclusive(t *testing.T) {
	name := newName()
	held := claim(t, name, 2)
	for _, same := range []string{name, Prefix + strings.ToUpper(strings.TrimPrefix(name, Prefix))} { // names have no case
		if _, err := Claim(same, 2); !errors.Is(err, ErrTaken) || !errors.Is(err, fs.ErrExist) {
			t.Errorf("second claim of %s: %v", same, err)
		}
	}
	if c := start(t, reexec.Command(t, claimHelper, name)); c.line != "false true" {
		t.Errorf("another process's claim: %s", c.line)
	}
	wantFree(t, name, 2) // no instance of theirs is left
	must(t, held.Close())

	holder := start(t, reexec.Command(t, claimHelper, name))
	if holder.line != "true false" {
		t.Fatalf("claim of a free name: %s", holder.line)
	}
	if _, err := Claim(name, 1); !errors.Is(err, ErrTaken) {
		t.Errorf("claim of another process's name: %v", err)
	}
	holder.kill()
	must(t, claim(t, name, 1).Close())
}

// TestClaimRace: of many at once one wins.
func TestClaimRace(t *testing.T) {
	for range 20 {
		name := newName()
		gate := make(chan struct{})
		var won atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				<-gate
				s, err := Claim(name, 2)
				if err == nil {
					won.Add(1)
					t.Cleanup(func() { s.Close() })
				} else if !errors.Is(err, ErrTaken) {
					t.Error(err)
				}
			})
		}
		close(gate)
		all.Wait()
		if n := won.Load(); n != 1 {
			t.Fatalf("%d claimers have the name", n)
		}
	}
}

func TestDeadlines(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)

	must(t, ln.SetDeadline(time.Now().Add(20*time.Millisecond)))
	wantTimeout := func(err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%#v (%v), want a timeout", err, err)
		}
	}
	_, err := ln.Accept()
	wantTimeout(err)
	_, err = ln.Accept()
	wantTimeout(err)
	// Put off, it is another deadline; brought forward, who waits notices.
	must(t, ln.SetDeadline(time.Now().Add(time.Hour)))
	errs := make(chan error, 1)
	go func() { _, err := ln.Accept(); errs <- err }()
	must(t, ln.SetDeadline(time.Now()))
	wantTimeout(<-errs)

	client := dial(t, name)
	server := accept(t, ln)
	must(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = client.Read(make([]byte, 1))
	wantTimeout(err)
	must(t, client.SetReadDeadline(time.Time{}))
	go func() { _, err := client.Read(make([]byte, 1)); errs <- err }()
	must(t, client.SetReadDeadline(time.Now()))
	wantTimeout(<-errs)

	// Nobody reads: what the system has no room for is bounded too.
	must(t, server.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := server.Write(make([]byte, 64*quota))
	wantTimeout(err)
	if n >= 64*quota {
		t.Errorf("%d bytes were written to nobody", n)
	}
	// The connection still works.
	must(t, client.SetDeadline(time.Now().Add(patience)))
	must(t, server.SetDeadline(time.Now().Add(patience)))
	send(t, client, "x")
	wantRead(t, server, "x")
}

// TestCloseKeepsWhatWasWritten, in both directions, and ends what waits.
func TestCloseKeepsWhatWasWritten(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	for _, closer := range []string{"client", "server"} {
		t.Run(closer, func(t *testing.T) {
			client := dial(t, name)
			server := accept(t, ln)
			from, to := client, server
			if closer == "server" {
				from, to = server, client
			}
			message := strings.Repeat("fastbind", 1000)
			send(t, from, message)
			errs := make(chan error, 1)
			go func() { _, err := from.Read(make([]byte, 1)); errs <- err }()
			must(t, from.Close())
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read during Close = %v", err)
			}
			if err := from.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close = %v", err)
			}
			wantRead(t, to, message)
			if n, err := to.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read after the end = %d, %v", n, err)
			}
			if _, err := to.Write([]byte("x")); err == nil || errors.Is(err, net.ErrClosed) {
				t.Errorf("Write after the other end's Close = %v", err)
			}
		})
	}
}

// TestGoneClientIsAccepted: what a client wrote before it left is served, whether it left
// before or after the server asked for it.
func TestGoneClientIsAccepted(t *testing.T) {
	name := newName()
	held := claim(t, name, 2)
	before := dial(t, name)
	send(t, before, "before")
	must(t, before.Close())
	ln, err := held.Listen()
	must(t, err)
	defer ln.Close()
	after := dial(t, name)
	send(t, after, "after")
	must(t, after.Close())
	got := map[string]bool{}
	for range 2 {
		b, err := io.ReadAll(accept(t, ln))
		must(t, err)
		got[string(b)] = true
	}
	if !got["before"] || !got["after"] {
		t.Errorf("got %v", got)
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	client := dial(t, name)
	server := accept(t, ln)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // beyond every buffer
	var all sync.WaitGroup
	for _, c := range []*Conn{client, server} {
		all.Go(func() {
			if _, err := c.Write(sent); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("got other bytes: %v", err)
			}
		})
	}
	all.Wait()
	if pid, err := server.PeerPID(); pid != os.Getpid() || err != nil {
		t.Errorf("the client's pid is %d, %v", pid, err)
	}
	if pid, err := client.PeerPID(); pid != os.Getpid() || err != nil {
		t.Errorf("the server's pid is %d, %v", pid, err)
	}
}

// TestCloseAmidUse: closing beside reads, writes and deadlines of many connections ends them
// all, and nothing hangs.
func TestCloseAmidUse(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 4)
	for range 50 {
		client := dial(t, name)
		server := accept(t, ln)
		var all sync.WaitGroup
		for _, c := range []*Conn{client, server} {
			all.Go(func() {
				for b := make([]byte, 1<<10); ; {
					if _, err := c.Read(b); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						return
					}
				}
			})
			all.Go(func() {
				for b := make([]byte, 8<<10); ; {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			})
			all.Go(func() {
				for c.SetReadDeadline(time.Now().Add(100*time.Microsecond)) == nil {
					runtime.Gosched()
				}
			})
		}
		time.Sleep(time.Millisecond)
		must(t, client.Close())
		must(t, server.Close())
		all.Wait()
	}
}

// TestNoBytesAreNoEnd: a write of no bytes, as a client of another make may do, is not
// taken for the end of the stream; nor does a read of none wait.
func TestNoBytesAreNoEnd(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 1)
	client, err := open(name)
	must(t, err)
	defer windows.CloseHandle(client)
	server := accept(t, ln)
	if n, err := server.Read(nil); n != 0 || err != nil {
		t.Errorf("a read of none: %d, %v", n, err)
	}
	must(t, writeAll(client, []byte{}))
	must(t, writeAll(client, []byte("x")))
	wantRead(t, server, "x")
}

// TestShutLosesNobody: clients dial all the time; those that have connected are served,
// others are refused, and none is dropped (I3).
func TestShutLosesNobody(t *testing.T) {
	const rounds, dialers = 12, 4
	served, refused := 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	for range rounds {
		name := newName()
		ln, err := claim(t, name, 3).Listen()
		must(t, err)
		var server sync.WaitGroup
		server.Go(func() { serve(ln) })
		var mu sync.Mutex
		var clients sync.WaitGroup
		begun := make(chan struct{}, dialers)
		for range dialers {
			clients.Go(func() {
				for i := 0; ; i++ {
					c, err := Dial(ctx, name)
					if errors.Is(err, fs.ErrNotExist) {
						mu.Lock()
						refused++
						mu.Unlock()
						return
					}
					if err != nil {
						t.Errorf("dial: %v", err)
						return
					}
					_ = c.SetDeadline(time.Now().Add(patience))
					_, err = io.WriteString(c, "hello\n")
					if err == nil {
						_, err = bufio.NewReader(c).ReadString('\n')
					}
					c.Close()
					if err != nil {
						t.Errorf("a client that was connected: %v", err)
						return
					}
					mu.Lock()
					served++
					mu.Unlock()
					if i == 3 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range dialers {
			<-begun
		}
		must(t, ln.Shut())
		must(t, ln.Shut())
		clients.Wait()
		server.Wait() // Accept has said net.ErrClosed
		must(t, ln.Close())
		if err := ln.Shut(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Shut after Close = %v", err)
		}
	}
	t.Logf("%d served, %d refused", served, refused)
	if refused != rounds*dialers {
		t.Errorf("%d clients were refused in the end, want each", refused)
	}
}

// TestShutKeepsTheQueue: those that wait are accepted after, the name refuses at once.
func TestShutKeepsTheQueue(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 4)
	for _, s := range []string{"a", "b"} {
		send(t, dial(t, name), s)
	}
	must(t, ln.Shut())
	if c, err := Connect(name); err == nil || !errors.Is(err, ErrBusy) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("connected to a shut name: %v, %v", c, err)
	}
	got := map[string]bool{}
	for range 2 {
		c := accept(t, ln)
		b := make([]byte, 1)
		_, err := c.Read(b)
		must(t, err)
		got[string(b)] = true
		must(t, c.Close())
	}
	if !got["a"] || !got["b"] {
		t.Errorf("accepted %v", got)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after the last = %v", err)
	}
	wantGone(t, name)
}

// TestReopen: who was connected when the listener was shut is accepted first, and the name
// has its queue again.
func TestReopen(t *testing.T) {
	const n = 4
	name := newName()
	ln := listenOn(t, name, n)
	must(t, ln.Reopen()) // it serves: nothing to do
	send(t, dial(t, name), "e")
	must(t, ln.Shut())
	must(t, ln.Reopen())
	send(t, dial(t, name), "l")
	for _, want := range []string{"e", "l"} {
		wantRead(t, accept(t, ln), want)
	}
	wantFree(t, name, n)
	must(t, ln.Close())
	if err := ln.Reopen(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestShutBeforeTheSystemTells: instances of whose clients the system has not told when the
// listener is shut are told of once, not again when it is reopened.
func TestShutBeforeTheSystemTells(t *testing.T) {
	const n = 3
	name := newName()
	ln, err := claim(t, name, n).Listen() // closed at the end alone: a failure leaves its mutex held
	must(t, err)

	// The system's thread that tells stands still. It takes waits in turn: what it has
	// called after a later one, it has called.
	gate, told := make(chan struct{}), make(chan struct{})
	hold, err := windows.CreateEvent(nil, 1, 1, nil)
	must(t, err)
	defer windows.CloseHandle(hold)
	in := make(chan struct{})
	held, err := waitable.On(hold, func() { close(in); <-gate })
	must(t, err)
	<-in
	for i := range n {
		send(t, dial(t, name), strconv.Itoa(i))
	}
	shutting := make(chan error, 1)
	go func() { shutting <- ln.Shut() }()
	select { // before the system goes on, if Shut does not wait for it
	case err := <-shutting:
		must(t, err)
		close(gate)
	case <-time.After(time.Second):
		close(gate)
		must(t, <-shutting)
	}
	held.Stop()
	last, err := waitable.On(hold, func() { close(told) })
	must(t, err)
	<-told
	last.Stop()
	if n := len(ln.ready); n > 0 {
		t.Errorf("%d instances are ready in a shut listener", n)
	}

	reopened := make(chan error, 1)
	go func() { reopened <- ln.Reopen() }()
	select {
	case err := <-reopened:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("Reopen waits for ever")
	}
	got := map[string]bool{}
	for range n {
		b := make([]byte, 1)
		_, err := accept(t, ln).Read(b)
		must(t, err)
		got[string(b)] = true
	}
	if len(got) != n {
		t.Errorf("accepted %v, want each of %d once", got, n)
	}
	send(t, dial(t, name), "l")
	wantRead(t, accept(t, ln), "l")
	must(t, ln.Close())
}

// TestReopenGone: a name that has gone with its last connection is claimed anew.
func TestReopenGone(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	send(t, dial(t, name), "e")
	must(t, ln.Shut())
	c := accept(t, ln)
	wantRead(t, c, "e")
	must(t, c.Close())
	wantGone(t, name)
	must(t, ln.Reopen())
	wantFree(t, name, 2)
}

// TestClosed: a listener that waits for Reopen has no clients before, and does not keep
// another process from claiming the name.
func TestClosed(t *testing.T) {
	name := newName()
	ln, err := Closed(name, 2)
	must(t, err)
	defer ln.Close()
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept = %v", err)
	}
	wantGone(t, name)
	must(t, ln.Reopen())
	c := dial(t, name)
	send(t, c, "x")
	wantRead(t, accept(t, ln), "x")
	for _, bad := range []struct {
		name string
		n    int
	}{{name, 0}, {name, MaxQueue + 1}, {"x", 1}} {
		if _, err := Closed(bad.name, bad.n); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Closed(%q, %d) = %v", bad.name, bad.n, err)
		}
	}
}

// TestHungUp: it is told of whoever has closed, also while something of theirs is left to be
// read, and of none that is merely silent.
func TestHungUp(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 1)
	client := dial(t, name)
	c := accept(t, ln)
	want := func(c *Conn, want bool, what string) {
		t.Helper()
		if hung, err := c.HungUp(); hung != want || err != nil {
			t.Errorf("%s: %v, %v", what, hung, err)
		}
	}
	want(c, false, "a silent client")
	want(client, false, "a silent server")
	send(t, client, "xy")
	want(c, false, "a client that has written")
	must(t, client.Close())
	want(c, true, "one that has closed, and was not read")
	wantRead(t, c, "x")
	want(c, true, "one of whom something is left")
	wantRead(t, c, "y")
	want(c, true, "one that has closed")
	must(t, c.Close())
	if _, err := c.HungUp(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: %v", err)
	}
	client = dial(t, name)
	must(t, accept(t, ln).Close())
	want(client, true, "a server that has closed")
}

// TestJoin: beside a process that drains, another serves the name.
func TestJoin(t *testing.T) {
	name := newName()
	if _, err := Join(name, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Join of nobody = %v", err)
	}
	old := listenOn(t, name, 2)
	kept := dial(t, name)
	server := accept(t, old)
	must(t, old.Shut())
	if _, err := Connect(name); !errors.Is(err, ErrBusy) {
		t.Errorf("Connect while it drains = %v", err)
	}
	if _, err := Claim(name, 2); !errors.Is(err, ErrTaken) {
		t.Errorf("Claim while it drains = %v", err)
	}
	waiting := make(chan *Conn, 1)
	ctx := patient(t)
	go func() {
		c, err := Dial(ctx, name)
		if err != nil {
			t.Error(err)
		}
		waiting <- c
	}()
	held, err := Join(name, 2)
	must(t, err)
	d := startDaemon(t, held)
	c := <-waiting
	if c == nil {
		t.FailNow()
	}
	defer c.Close()
	if pid := ask(t, c, "waiting"); pid != d.Process.Pid {
		t.Errorf("who waited was served by %d, the successor is %d", pid, d.Process.Pid)
	}
	send(t, kept, "old")
	wantRead(t, server, "old")
	must(t, server.Close())
	must(t, old.Close())
	if pid := ask(t, dial(t, name), "new"); pid != d.Process.Pid {
		t.Errorf("served by %d, the successor is %d", pid, d.Process.Pid)
	}
}

// TestShutWhereOthersServe does nothing: clients would only change the server.
func TestShutWhereOthersServe(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	for range 10 { // more often than the queue is long
		// Another generation's, as far as the listener knows.
		other, err := create(name, windows.FILE_OPEN)
		must(t, err)
		if err := ln.Shut(); !errors.Is(err, ErrShared) {
			t.Fatalf("Shut = %v, want ErrShared", err)
		}
		must(t, windows.CloseHandle(other))
	}
	ask := dial(t, name)
	send(t, ask, "x")
	wantRead(t, accept(t, ln), "x")
}

// TestCancelledConnect: the system cancels what a thread has begun when the thread ends,
// and what anybody else cancels on the handle. The instance waits again.
func TestCancelledConnect(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 1)
	for range 3 {
		dial(t, name)
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never unlocked: the thread ends
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			c.Close()
		}()
		<-done
		// Nor does it wait for the system to notice the thread's end.
		ln.mu.Lock()
		for _, in := range ln.armed {
			if err := windows.CancelIoEx(in.h, nil); err != nil && err != windows.ERROR_NOT_FOUND {
				t.Error(err)
			}
		}
		ln.mu.Unlock()
	}
	client := dial(t, name)
	send(t, client, "x")
	wantRead(t, accept(t, ln), "x")
}

func TestCloseEndsAccept(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	waiting := dial(t, name)
	accept(t, ln)
	queued := dial(t, name)
	errs := make(chan error)
	must(t, ln.SetDeadline(time.Time{}))
	go func() {
		_, err := ln.Accept() // the queued one
		if err == nil {
			_, err = ln.Accept()
		}
		errs <- err
	}()
	must(t, ln.Close())
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept during Close = %v", err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close = %v", err)
	}
	_ = queued
	must(t, waiting.Close())
}

// TestSecurity: what the system knows of a pipe of ours.
func TestSecurity(t *testing.T) {
	name := newName()
	held := claim(t, name, 2)
	own, err := owner.SID()
	must(t, err)
	for _, h := range held.handles {
		sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
		must(t, err)
		sid, _, err := sd.Owner()
		must(t, err)
		if !sid.Equals(own) {
			t.Errorf("owner is %v, we are %v", sid, own)
		}
		dacl, _, err := sd.DACL()
		must(t, err)
		if dacl == nil || dacl.AceCount != 1 {
			t.Fatalf("access list %s", sd)
		}
		var ace *windows.ACCESS_ALLOWED_ACE
		must(t, windows.GetAce(dacl, 0, &ace))
		if sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)); ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE || !sid.Equals(own) {
			t.Errorf("access list %s", sd)
		}
	}
}

// TestForeignServer: a server whose pipe belongs to somebody else does not pass, though
// it lets us connect (R34, R35).
func TestForeignServer(t *testing.T) {
	name := newName()
	own, err := owner.SID()
	must(t, err)
	sd, err := windows.SecurityDescriptorFromString("O:BAD:(A;;FA;;;WD)") // the administrators
	must(t, err)
	p, err := windows.UTF16PtrFromString(name)
	must(t, err)
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	h, err := windows.CreateNamedPipe(p, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED, 0, 2, 4096, 4096, 0, sa)
	if errors.Is(err, windows.ERROR_INVALID_OWNER) {
		t.Skip("needs an administrator, to give a pipe to the administrators")
	}
	must(t, err)
	defer windows.CloseHandle(h)
	_, err = Connect(name)
	var fe *owner.Error
	if !errors.As(err, &fe) || fe.SID != "S-1-5-32-544" || fe.Own != own.String() || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Connect = %v, want that it belongs to the administrators", err)
	}
	if _, err := Join(name, 1); !errors.As(err, &fe) {
		t.Errorf("Join = %v, want that it belongs to the administrators", err)
	}
}

// TestAcceptedForeigner: of a client that is refused no byte is handed out, ever.
func TestAcceptedForeigner(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	client := dial(t, name)
	server := accept(t, ln)
	// Wine has one user: the system's word is replaced, what is done with it is not.
	want := &owner.Error{SID: "S-1-5-32-544", Own: "S-1-5-21"}
	server.checked.Do(func() { server.refused = want })
	send(t, client, "secret")
	b := make([]byte, 6)
	for range 2 {
		n, err := server.Read(b)
		if n != 0 || !errors.Is(err, fs.ErrPermission) || !bytes.Equal(b, make([]byte, 6)) {
			t.Fatalf("Read = %d, %v, %q", n, err, b)
		}
		send(t, client, "secret")
	}
	// And the system's word on our own client, once something of it was read.
	client = dial(t, name)
	server = accept(t, ln)
	send(t, client, "x")
	wantRead(t, server, "x")
	must(t, server.s.use(checkClient))
}

func TestAdoptRefuses(t *testing.T) {
	name := newName()
	held := claim(t, name, 1)
	other := claim(t, newName(), 1)
	client := dial(t, name)
	file, err := os.Create(t.TempDir() + "/file")
	must(t, err)
	defer file.Close()
	clientEnd := uintptr(client.s.h)
	ours := uintptr(held.handles[0])
	for what, handles := range map[string][]uintptr{
		"none":               {},
		"too many":           make([]uintptr, MaxQueue+1),
		"no handle":          {0},
		"a number":           {0xfffffff0},
		"a file":             {file.Fd()},
		"a client's end":     {clientEnd},
		"another name's":     {uintptr(other.handles[0])},
		"one twice":          {ours, ours},
		"a good and a wrong": {ours, file.Fd()},
	} {
		if _, err := Adopt(name, handles); err == nil {
			t.Errorf("%s was adopted", what)
		} else if pe := (*fs.PathError)(nil); !errors.As(err, &pe) || pe.Op != "adopt" || pe.Path != name {
			t.Errorf("%s: %#v", what, err)
		}
	}
	// All of them live on.
	send(t, client, "x")
	ln, err := held.Listen()
	must(t, err)
	defer ln.Close()
	wantRead(t, accept(t, ln), "x")
	if _, err := file.WriteString("x"); err != nil {
		t.Error(err)
	}
}

func TestInvalid(t *testing.T) {
	for _, name := range []string{"", "x", Prefix, Prefix + `a\b`, `\\server\pipe\x`, Prefix + "a\x00b", Prefix + "a\nb", Prefix + strings.Repeat("x", maxName)} {
		if _, err := Claim(name, 1); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Claim(%q) = %v", name, err)
		}
		if _, err := Dial(t.Context(), name); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("Dial(%q) = %v", name, err)
		}
	}
	longest := newName()
	longest += strings.Repeat("x", maxName-len(longest))
	ln := listenOn(t, longest, 1)
	send(t, dial(t, longest), "x")
	wantRead(t, accept(t, ln), "x")
	for _, n := range []int{-1, 0, MaxQueue + 1} {
		if _, err := Claim(newName(), n); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a queue of %d: %v", n, err)
		}
	}
	wantFree(t, claim(t, newName(), MaxQueue).Name(), MaxQueue)
	s := claim(t, newName(), 1)
	must(t, s.Close())
	for op, err := range map[string]error{
		"Close":       s.Close(),
		"Listen":      func() error { _, err := s.Listen(); return err }(),
		"Inheritable": func() error { _, err := s.Inheritable(); return err }(),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after Close = %v", op, err)
		}
	}
}

// TestNothingIsLeft: waiting costs neither goroutines nor threads, and every handle
// is given back.
func TestNothingIsLeft(t *testing.T) {
	round := func() {
		name := newName()
		ln, err := claim(t, name, 8).Listen()
		must(t, err)
		for range 4 {
			c := dial(t, name)
			s := accept(t, ln)
			send(t, c, "x")
			wantRead(t, s, "x")
			must(t, c.Close())
			must(t, s.Close())
		}
		must(t, ln.Shut())
		must(t, ln.Close())
	}
	for range 3 {
		round()
	}
	goroutines, before := runtime.NumGoroutine(), handles(t)
	for range 20 {
		round()
	}
	if n := handles(t); n > before+20 {
		t.Errorf("%d handles, %d before", n, before)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

func handles(t testing.TB) uint32 {
	t.Helper()
	var n uint32
	if ok, _, err := kernel32.NewProc("GetProcessHandleCount").Call(uintptr(windows.CurrentProcess()), uintptr(unsafe.Pointer(&n))); ok == 0 {
		t.Fatal(err)
	}
	return n
}

func BenchmarkRoundTrip(b *testing.B) {
	name := newName()
	ln := listenOn(b, name, Queue)
	go serve(ln)
	for b.Loop() {
		c, err := Dial(b.Context(), name)
		must(b, err)
		ask(b, c, "x")
		must(b, c.Close())
	}
}
