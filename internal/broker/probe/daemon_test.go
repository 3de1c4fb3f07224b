//go:build linux

package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/reexec"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tempDir is short enough for socket addresses.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fb")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// hold binds and listens as the broker does, before there is a daemon.
func hold(t *testing.T, path string) *os.File {
	t.Helper()
	s, err := endpoint.Bind(path)
	must(t, err)
	must(t, s.Listen())
	fd, err := unix.FcntlInt(uintptr(s.FD()), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	must(t, s.Close())
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

// daemonHelper serves the listener that is its descriptor 3, as its stdin says, a
// line each, and prints "done" after it:
//
//	accept N   accepts N connections and keeps them
//	close N    accepts N and closes them at once
//	greet N    accepts N, writes a line and keeps them
//	http CODE  answers this from now on; "hang" takes requests and never answers,
//	           "garbage" answers something else, "early" sends a 103 before
var daemonHelper = reexec.Helper("daemon", func([]string) {
	ln, err := endpoint.Adopt(3)
	reexec.Check(err)
	var kept []net.Conn
	codes := make(chan string, 1)
	serving := false
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		if verb == "http" {
			if serving {
				<-codes
			}
			codes <- arg
			if !serving {
				serving = true
				go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, codes) }))
			}
			fmt.Println("done")
			continue
		}
		n, err := strconv.Atoi(arg)
		reexec.Check(err)
		for range n {
			c, err := ln.Accept()
			reexec.Check(err)
			switch verb {
			case "close":
				_ = c.Close()
				continue
			case "greet":
				fmt.Fprintln(c, "hello")
			}
			kept = append(kept, c)
		}
		fmt.Println("done")
	}
	_ = kept // until here
})

func answer(w http.ResponseWriter, r *http.Request, codes chan string) {
	code := <-codes
	codes <- code
	if r.URL.RequestURI() != "/healthz?full=1" || r.Host != "localhost" {
		code = "404"
	}
	switch code {
	case "hang":
		<-r.Context().Done()
	case "garbage":
		c, _, err := http.NewResponseController(w).Hijack()
		reexec.Check(err)
		fmt.Fprintf(c, "SSH-2.0-\x1b[31mred\r\n")
		_ = c.Close()
	case "early":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	default:
		n, err := strconv.Atoi(code)
		reexec.Check(err)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(n)
	}
}

// A daemon serves what its launcher holds.
type daemon struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func start(t *testing.T, listener *os.File) *daemon {
	t.Helper()
	cmd := reexec.Command(t, daemonHelper)
	cmd.ExtraFiles = []*os.File{listener}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	d := &daemon{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(d.end)
	return d
}

func (d *daemon) end() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func (d *daemon) tell(line string) { fmt.Fprintln(d.in, line) }

func (d *daemon) do(line string) {
	d.t.Helper()
	d.tell(line)
	if !d.out.Scan() || d.out.Text() != "done" {
		d.t.Fatalf("%s: the daemon says %q", line, d.out.Text())
	}
}

// await runs a probe; the result comes when it has one.
func await(t *testing.T, sign string, target Target) <-chan error {
	t.Helper()
	s, err := Parse(sign)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	result := make(chan error, 1)
	go func() {
		defer cancel()
		result <- New(s, target).Await(ctx)
	}()
	return result
}

// wantNotYet is what a probe says when it has been given some time.
func wantNotYet(t *testing.T, sign string, target Target, want string) {
	t.Helper()
	s, err := Parse(sign)
	must(t, err)
	_ = wantNot(t, New(s, target), want)
}

// wantNot returns how often it was tried: a busy machine gets more time.
func wantNot(t *testing.T, p *Probe, want string) (tries int) {
	t.Helper()
	pattern := regexp.MustCompile("^" + want + "$")
	for within := 150 * time.Millisecond; ; within *= 5 {
		tries++
		ctx, cancel := context.WithTimeout(t.Context(), within)
		err := p.Await(ctx)
		cancel()
		var not *NotReady
		if !errors.As(err, &not) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
		if pattern.MatchString(not.Seen) {
			return tries
		}
		if within > 10*time.Second {
			t.Fatalf("saw %q, want %q", not.Seen, want)
		}
	}
}

// pending is how many connections wait.
func pending(t *testing.T, ln *os.File) int {
	t.Helper()
	q, err := backlog.Of(ln)
	must(t, err)
	return q.Pending
}

// waitPending waits until n connections wait.
func waitPending(t *testing.T, ln *os.File, n int) {
	t.Helper()
	for pending(t, ln) != n {
		if t.Context().Err() != nil {
			t.Fatalf("%d connections wait, want %d", pending(t, ln), n)
		}
		time.Sleep(time.Millisecond)
	}
}

func client(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestAccept: that somebody listens is not enough, and any way of accepting is.
func TestAccept(t *testing.T) {
	for _, line := range []string{"accept 1", "close 1", "greet 1"} {
		t.Run(line, func(t *testing.T) {
			target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
			wantNotYet(t, "accept", target, "connect: no such file or directory")
			ln := hold(t, target.Address)
			d := start(t, ln) // it runs, and does not accept
			for _, l := range []syscall.Conn{nil, ln} {
				target.Listener = l
				wantNotYet(t, "accept", target, `a connection waits to be accepted(, \d before it)?`)
			}
			d.do("close " + strconv.Itoa(pending(t, ln))) // the probes that have left
			target.Listener = nil
			result := await(t, "accept", target)
			waitPending(t, ln, 1)
			select {
			case err := <-result:
				t.Fatalf("before the daemon accepts: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			d.do(line)
			must(t, <-result)
		})
	}
}

// TestAcceptOneAtATime: a daemon that serves its first client and accepts nobody
// else meanwhile is ready, which only the listener shows.
func TestAcceptOneAtATime(t *testing.T) {
	target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
	ln := hold(t, target.Address)
	client(t, target.Address) // who activates it
	client(t, target.Address)
	d := start(t, ln)
	target.Listener = ln
	wantNotYet(t, "accept", target, `a connection waits to be accepted, \d before it`)
	before := pending(t, ln)
	result := await(t, "accept", target)
	waitPending(t, ln, before+1)
	d.do("accept 1")
	select {
	case err := <-result:
		must(t, err)
	case <-time.After(2 * time.Second): // it had not looked around before
		d.do("accept 1")
		must(t, <-result)
	}
	target.Listener = nil
	wantNotYet(t, "accept", target, "a connection waits to be accepted")
}

// TestAcceptFull: where the queue is full there is no connection yet, and the
// probe gets one when there is room.
func TestAcceptFull(t *testing.T) {
	target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
	ln := hold(t, target.Address)
	raw, err := ln.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 1) }))
	must(t, err)
	for range 2 {
		client(t, target.Address)
	}
	wantNotYet(t, "accept", target, "its accept queue is full")
	d := start(t, ln) // adopting it, it listens again, for more
	result := await(t, "accept", target)
	d.do("accept 3")
	must(t, <-result)
}

// TestAcceptReset: the listener goes, and another comes.
func TestAcceptReset(t *testing.T) {
	target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
	ln := hold(t, target.Address)
	result := await(t, "accept", target)
	waitPending(t, ln, 1)
	must(t, ln.Close())
	wantNotYet(t, "accept", target, "connect: connection refused")
	must(t, os.Remove(target.Address))
	d := start(t, hold(t, target.Address))
	d.do("accept 1")
	must(t, <-result)
}

func TestHTTP(t *testing.T) {
	const sign = "http /healthz?full=1"
	target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
	const get = `GET /healthz\?full=1: `
	wantNotYet(t, sign, target, get+"no such file or directory")
	d := start(t, hold(t, target.Address))
	wantNotYet(t, sign, target, get+"the connection waits to be accepted")
	for code, want := range map[string]string{
		"503":     get + "503 Service Unavailable",
		"404":     get + "404 Not Found",
		"hang":    get + "no answer",
		"garbage": get + `no HTTP answer: "SSH-2.0-` + "\ufffd" + `\[31mred"`,
	} {
		d.do("http " + code)
		wantNotYet(t, sign, target, want)
	}
	for _, code := range []string{"200", "302", "early"} {
		d.do("http 503")
		result := await(t, sign, target)
		select {
		case err := <-result:
			t.Fatalf("before %s: %v", code, err)
		case <-time.After(20 * time.Millisecond):
		}
		d.do("http " + code)
		if err := <-result; err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	wantNotYet(t, "http /other", target, "GET /other: 404 Not Found")
}

// TestHTTPPatience: a connection that waits to be accepted is kept, one whose
// daemon has hung is not.
func TestHTTPPatience(t *testing.T) {
	target := Target{Network: "unix", Address: filepath.Join(tempDir(t), "sock")}
	ln := hold(t, target.Address)
	d := start(t, ln)
	impatient := &Probe{sign: Sign{Kind: HTTP}, open: func(context.Context) (watch, error) {
		return &httpGet{target: target, path: "/", within: time.Millisecond}, nil
	}}
	tries := wantNot(t, impatient, "GET /: the connection waits to be accepted")
	if n := pending(t, ln); n != tries {
		t.Errorf("%d connections of %d tries", n, tries)
	}
	d.do("accept " + strconv.Itoa(tries))
	taken := make(chan struct{})
	go func() {
		d.do("accept 3") // of one try, one after the other
		close(taken)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		<-taken
		cancel()
	}()
	if err := impatient.Await(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-taken
}

// TestHTTPOverTCP: a daemon with a port of the loopback.
func TestHTTPOverTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	hosts := make(chan string, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host })}
	go srv.Serve(ln)
	defer srv.Close()
	addr := ln.Addr().String()
	must(t, <-await(t, "http /", Target{Network: "tcp", Address: addr}))
	if host := <-hosts; host != addr {
		t.Errorf("host %q, want %q", host, addr)
	}
}

func TestReadStatus(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for in, want := range map[string]string{
		"HTTP/1.1 200 OK\r\n": "200 OK",
		"HTTP/1.0 200\n":      "200",
		"HTTP/1.1 204 \r\n":   "204",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n":                               "404 No",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n": "200 OK",
		"HTTP/1.1 101 Switching\r\n":                                                     "101 Switching",
		"":                                                                               "closed without an answer",
		"HTTP/1.1 200 OK":                                                                `no HTTP answer: "HTTP/1.1 200 OK"`,
		"HTTP/1.1 +20 OK\r\n":                                                            `no HTTP answer: "HTTP/1.1 +20 OK"`,
		"HTTP/1.1 0200 OK\r\n":                                                           `no HTTP answer: "HTTP/1.1 0200 OK"`,
		"HTTP/2 200 OK\r\n":                                                              `no HTTP answer: "HTTP/2 200 OK"`,
		"\r\n":                                                                           `no HTTP answer: ""`,
		long:                                                                             "no HTTP answer: a line is too long",
		"HTTP/1.1 100 C\r\n" + long:                                                      "no HTTP answer: a line is too long",
		"HTTP/1.1 100 Continue\r\n":                                                      "closed without an answer",
	} {
		got, err := readStatus(bufio.NewReader(strings.NewReader(in)))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.60q: %q, want %q", in, got, want)
		}
	}
}

// A log is a file that takes a daemon's output.
type logFile struct {
	*os.File
	t *testing.T
}

func openLog(t *testing.T) logFile {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return logFile{f, t}
}

func (l logFile) write(s string) {
	l.t.Helper()
	_, err := l.WriteString(s)
	must(l.t, err)
}

func (l logFile) offset() int64 {
	l.t.Helper()
	fi, err := l.Stat()
	must(l.t, err)
	return fi.Size()
}

func TestOutput(t *testing.T) {
	const sign = "output ^ready on (.*)$"
	log := openLog(t)
	log.write("ready on another day\n")
	target := Target{Log: log.Name(), LogOffset: log.offset()}
	wantNotYet(t, sign, target, "no line of output")
	log.write("loading\x1b[0m\nready on")
	wantNotYet(t, sign, target, `1 lines of output, the last is "loading`+"\ufffd"+`\[0m"`)
	result := await(t, sign, target)
	log.write(" 7\r") // no line yet
	select {
	case err := <-result:
		t.Fatal(err)
	case <-time.After(50 * time.Millisecond):
	}
	log.write("\n")
	must(t, <-result)
	must(t, <-await(t, sign, target)) // it is there already
	target.Log += ".missing"
	wantNotYet(t, sign, target, "the log: open .*: no such file or directory")
	target.Log = filepath.Dir(target.Log)
	wantNotYet(t, sign, target, "the log: .* is no file")
}

// TestOutputMoved: the daemon goes on writing to a log that was moved aside, and
// what is at its old name is somebody else's. One that was cut short begins anew.
func TestOutputMoved(t *testing.T) {
	log := openLog(t)
	target := Target{Log: log.Name()}
	log.write("loading\n")
	result := await(t, "output ready", target)
	wantWatched(t, log.Name())
	must(t, os.Rename(log.Name(), log.Name()+".1"))
	must(t, os.WriteFile(log.Name(), []byte("ready: the next generation\n"), 0o600))
	log.write("still loading\n")
	select {
	case err := <-result:
		t.Fatal(err)
	case <-time.After(50 * time.Millisecond):
	}
	log.write("ready\n")
	must(t, <-result)

	log = openLog(t)
	log.write("a long line before\n")
	result = await(t, "output ready", Target{Log: log.Name()})
	wantWatched(t, log.Name())
	must(t, log.Truncate(0))
	log.write("ready\n")
	must(t, <-result)
}

// wantWatched waits until this process has the file open for reading.
func wantWatched(t *testing.T, path string) {
	t.Helper()
	for t.Context().Err() == nil {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		n := 0
		for _, fd := range fds {
			if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == path {
				n++
			}
		}
		if n == 2 { // the test's and the probe's
			time.Sleep(50 * time.Millisecond) // it has read what there is, most probably
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestOutputLong: a line without an end fills no memory, and is looked at in
// pieces.
func TestOutputLong(t *testing.T) {
	log := openLog(t)
	result := await(t, "output ready", Target{Log: log.Name()})
	for range 20 {
		log.write(strings.Repeat("x", maxLine/2))
	}
	o := &output{target: Target{Log: log.Name()}, pattern: regexp.MustCompile("ready")}
	defer o.close()
	if ok, seen, err := o.look(t.Context()); ok || err != nil || o.lines != 9 || len(o.rest) > maxLine || len(seen) > 2*maxSeen {
		t.Errorf("%v, %q, %v, %d pieces, %d bytes kept", ok, seen, err, o.lines, len(o.rest))
	}
	log.write("ready" + strings.Repeat("x", maxLine))
	must(t, <-result)
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	flag := filepath.Join(dir, "flag")
	target := Target{Address: "/the/sock", Dir: dir, Env: []string{"PATH=relative:" + dir + ":/usr/bin:/bin", "FLAG=flag"}}
	const sign = `command sh -c 'echo "$1 in $(pwd) $HOME"; test -e "$FLAG"' sh {socket}`
	wantNotYet(t, sign, target, `exit status 1, its last line is "/the/sock in `+dir+` "`)
	result := await(t, sign, target)
	select {
	case err := <-result:
		t.Fatal(err)
	case <-time.After(50 * time.Millisecond):
	}
	must(t, os.WriteFile(flag, nil, 0o600))
	must(t, <-result)

	wantNotYet(t, `command sh -c 'kill -9 $$'`, target, "signal: killed")
	wantNotYet(t, `command sh -c 'printf "\033[2J%02000d" 7; exit 3'`, target, `exit status 3, its last line is ".*0+…"`)
	wantNotYet(t, `command sleep 60`, target, "it was still running")
	must(t, <-await(t, `command sh -c 'sleep 60 & echo $! >child'`, target)) // it leaves somebody behind
	pid, err := os.ReadFile(filepath.Join(dir, "child"))
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	must(t, err)
	must(t, syscall.Kill(n, syscall.SIGKILL))

	t.Setenv("CANARY", "of the broker")
	must(t, <-await(t, `command /bin/sh -c 'test -z "$CANARY"'`, Target{}))

	// The caller's directory is not the daemon's, nor part of its PATH.
	t.Chdir(dir)
	must(t, os.Mkdir("relative", 0o700))
	must(t, os.Symlink("/bin/true", "relative/elsewhere"))
	if err := <-await(t, "command elsewhere", target); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}

	must(t, os.WriteFile(filepath.Join(dir, "closed"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "directory"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "text"), []byte("no program\n"), 0o700))
	for command, want := range map[string]error{
		"missing":          exec.ErrNotFound,
		"/missing":         fs.ErrNotExist,
		"closed":           fs.ErrPermission,
		dir + "/directory": syscall.EISDIR,
		"text":             syscall.ENOEXEC,
	} {
		if err := <-await(t, "command "+command, target); !errors.Is(err, want) {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// TestCommandHangs: what takes too long is killed with all that it has started.
func TestCommandHangs(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	fifo := filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	w.Close()
	c, err := openCommand([]string{"/bin/sh", "-c", "echo begun; sleep 300 >fifo & sleep 300"}, Target{Dir: dir})
	must(t, err)
	c.within = 2 * time.Second
	// Both ends of a FIFO open together: the command holds it from then on.
	held := make(chan error, 1)
	go func() {
		f, err := os.Open(fifo)
		if err == nil {
			_, err = io.ReadAll(f) // until nobody writes any more
		}
		held <- err
	}()
	ok, seen, err := c.look(t.Context())
	if want := `killed, it ran for more than 2s, its last line is "begun"`; ok || err != nil || seen != want {
		t.Errorf("%v, %q, %v", ok, seen, err)
	}
	select {
	case err := <-held:
		must(t, err)
	case <-time.After(time.Minute):
		t.Error("what it has started lives on")
	}
}

// TestCommandCutOff: a run that is broken off tells less than the one before.
func TestCommandCutOff(t *testing.T) {
	c, err := openCommand([]string{"/bin/sh", "-c", "mkdir ran && exit 7; sleep 300"}, Target{Dir: t.TempDir()})
	must(t, err)
	if _, seen, _ := c.look(t.Context()); seen != "exit status 7" {
		t.Errorf("%q", seen)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if ok, seen, err := c.look(ctx); ok || seen != "" || err != nil {
		t.Errorf("%v, %q, %v", ok, seen, err)
	}
}

// TestCommandBusy: a program that is being written will be there in a moment.
func TestCommandBusy(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile("/bin/true")
	must(t, err)
	path := filepath.Join(dir, "busy")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	must(t, err)
	_, err = f.Write(b)
	must(t, err)
	wantNotYet(t, "command "+path, Target{}, "text file busy")
	result := await(t, "command "+path, Target{})
	must(t, f.Close())
	must(t, <-result)
}

// sayHelper is a daemon that announces itself.
var sayHelper = reexec.Helper("say", func([]string) {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	reexec.Check(err)
	_, err = io.WriteString(c, "STATUS=loading")
	reexec.Check(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_, err = io.WriteString(c, "READY=1")
	reexec.Check(err)
})

// TestAnnounced: what the notify socket hears is what the probe waits for.
func TestAnnounced(t *testing.T) {
	s, err := notify.Bind(filepath.Join(tempDir(t), notify.FileName))
	must(t, err)
	defer s.Close()
	cmd := reexec.Command(t, sayHelper)
	cmd.Env = append(cmd.Env, s.Variables(0)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { must(t, cmd.Wait()) }()
	id, err := proc.Of(cmd.Process.Pid)
	must(t, err)
	announced := make(chan struct{})
	events := s.Receive(notify.Generation{Main: id}, notify.AccessMain)
	if e := <-events; e.Status == nil || *e.Status != "loading" {
		t.Errorf("%+v", e)
	}
	go func() {
		for e := range events {
			if e.State == notify.Ready {
				close(announced)
			}
		}
	}()
	target := Target{Announced: announced}
	wantNotYet(t, "notify", target, "it has not said READY=1")
	result := await(t, "notify", target)
	in.Close()
	must(t, <-result)
}

// TestRedis probes a daemon of somebody else in three ways.
func TestRedis(t *testing.T) {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server (Debian package redis-server): ", err)
	}
	dir := tempDir(t)
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	defer log.Close()
	target := Target{Network: "unix", Address: filepath.Join(dir, "sock"), Dir: dir, Log: log.Name(), Env: os.Environ()}
	signs := []string{"output Ready to accept connections|ready to accept connections", "accept", "command redis-cli -s {socket} ping"}
	var results []<-chan error
	for _, sign := range signs {
		results = append(results, await(t, sign, target))
	}
	cmd := exec.Command(server, "--port", "0", "--unixsocket", target.Address, "--dir", dir, "--save", "")
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for i, r := range results {
		if err := <-r; err != nil {
			t.Errorf("%s: %v", signs[i], err)
		}
	}
	must(t, cmd.Process.Signal(syscall.SIGSTOP)) // it listens, and accepts no more
	wantNotYet(t, "accept", target, "a connection waits to be accepted")
	must(t, cmd.Process.Signal(syscall.SIGCONT))
	must(t, <-await(t, "accept", target))
}
