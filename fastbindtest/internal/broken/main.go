//go:build linux || windows

// Command broken is a small daemon, and a tool that starts it, which do
// everything right unless they are told not to: each defect breaks one rule that
// package fastbindtest judges, and no other.
//
//	broken [flags] inherit       serves on the listener it is handed
//	broken [flags] socket PATH   binds a path
//	broken [flags] port N        binds a port
//	broken [flags] ping          is a client that starts the daemon
//	broken [flags] status
//	broken [flags] stop
//	broken [flags] sit           waits for the end of its standard input
//
// It knows nothing of fastbind on purpose: what it does right is how one does it
// by hand.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the systems differ in is in the twins system_linux.go and system_windows.go:
//
//   - handed says whether a listener was announced, clears the variables and returns
//     where orders come; adopted is the listener, nil if what was announced is none;
//   - listenAt binds for its user alone, unlink removes a name, lockIn is where its
//     lock is; answers reports whether anybody listens, dial connects;
//   - bindPort binds a port; server.drain refuses newcomers and serves who is queued;
//   - orders are those to end, which come at a name, and order sends one to the tool's
//     daemon, who takes them at stopAt; living reports whether a process
//     has not ended;
//   - bases are the directories of the tool and one that others can look into,
//     endpointIn is its endpoint, where its daemon takes orders too;
//   - pingWithin bounds what the tool does; answerWithin is after how long without an
//     answer it takes the daemon for hung;
//   - unseen is for how long who looks first and binds then is not seen by others who
//     were started with it;
//   - isStale reports whether the error of dial is that of a dead daemon's endpoint,
//     and start binds the endpoint and starts the daemon.

var (
	defect = flag.String("defect", "", "what it does wrong")
	load   = flag.Duration("load", 20*time.Millisecond, "how long it loads")
	late   = flag.Duration("late", 700*time.Millisecond, "with the defect listens-first: after how long it listens")
	idle   = flag.Duration("idle", 0, "end after that long without a connection")
	spawn  = flag.Bool("spawn", false, "run a child process")
)

func main() {
	flag.Parse()
	var err error
	switch flag.Arg(0) {
	case "inherit":
		err = inherit()
	case "socket":
		err = bindPath(flag.Arg(1))
	case "port":
		err = bindPort(flag.Arg(1))
	case "launched":
		err = serve(adopted(), inDir(), stopAt(endpointIn(inDir()), os.Getpid()))
	case "ping":
		err = ping()
	case "status":
		err = status()
	case "stop":
		err = stop()
	case "sit":
		_, err = io.Copy(io.Discard, os.Stdin)
	default:
		err = errors.New("usage: broken [flags] inherit|socket PATH|port N|ping|status|stop")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "broken:", err)
		os.Exit(1)
	}
}

// has reports whether it is to do this wrong.
func has(name string) bool { return *defect == name }

// asDaemon are the arguments that make a process the tool's daemon.
func asDaemon() []string {
	return []string{"-defect=" + *defect, "-load=" + load.String(), "-idle=" + idle.String(), "launched"}
}

// The daemon.

func inherit() error {
	ask, err := handed()
	if err != nil {
		return err
	}
	own, _ := bases()
	if err := os.MkdirAll(own, 0o700); err != nil {
		return err
	}
	ln := adopted()
	switch {
	case ln == nil && !has("announced"):
		return errors.New("what was handed down is no listener")
	case ln == nil || has("starts"):
		return bindPath(endpointIn(own))
	}
	// A pid file, which a successor finds after kill -9.
	pidFile := filepath.Join(own, "broken.pid")
	flags := os.O_CREATE | os.O_WRONLY
	if has("kill9") {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(pidFile, flags, 0o600)
	if err != nil {
		return err
	}
	_ = f.Close()
	defer os.Remove(pidFile)
	return serve(ln, "", ask)
}

// bindPath binds under a lock, so that of any number of starters one listens,
// and nobody removes the socket of one that lives.
func bindPath(path string) error {
	if has("listens-first") {
		time.Sleep(*late)
	}
	if has("starters") {
		// Two steps without a lock: the classic.
		if answers(path) {
			return errors.New("it runs already")
		}
		time.Sleep(unseen + time.Duration(os.Getpid()%8)*20*time.Millisecond)
		//fastbindvet:ignore unlink this is what the case finds
		unlink(path)
		ln, err := listenAt(path)
		if err != nil {
			return err
		}
		return serve(ln, "", "")
	}
	unlock, err := lockDir(lockIn(path))
	if err != nil {
		return err
	}
	if answers(path) && !has("live-socket") {
		return errors.New("it runs already")
	}
	pidFile := filepath.Join(lockIn(path), filepath.Base(path)+".pid")
	if has("deleted-socket") {
		// A pid is asked whether the daemon lives, not the socket.
		b, _ := os.ReadFile(pidFile)
		if pid, err := strconv.Atoi(string(b)); err == nil && living(pid) {
			return fmt.Errorf("it runs already, pid %d", pid)
		}
	}
	_ = os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o600)
	//fastbindvet:ignore unlink this is what the case finds
	unlink(path)
	ln, err := listenAt(path)
	unlock()
	if err != nil {
		return err
	}
	return serve(ln, "", "")
}

func bindPort(port string) error {
	host := "127.0.0.1:"
	if has("others") {
		host = ":"
	}
	ln, err := listenTCP(host + port)
	if err != nil {
		return err
	}
	return serve(ln, "", "")
}

type listener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// A server counts what it serves, and ends when it is asked to or idle.
type server struct {
	ln      listener
	mu      sync.Mutex // guards open and since
	open    int
	since   time.Time // when open became 0
	serving sync.WaitGroup
}

// serve loads, serves, and drains at the end. dir is where the tool finds the
// daemon's pid, "" if it was started otherwise; ask is where it takes orders.
func serve(l listener, dir, ask string) error {
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return err
		}
	}
	s := &server{ln: l, since: time.Now()}
	if *spawn {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		child := exec.Command(self, "sit") // ends with us: its stdin does
		if _, err := child.StdinPipe(); err != nil {
			return err
		}
		if err := child.Start(); err != nil {
			return err
		}
	}
	stops, err := orders(ask)
	if err != nil {
		return err
	}
	if has("queue") {
		s.turnAway(*load)
	} else {
		time.Sleep(*load)
	}
	accepting := make(chan error, 1)
	go func() { accepting <- s.accept() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-accepting:
			return err
		case <-stops:
			if has("graceful-stop") {
				// Who was accepted is served, who is queued forgotten.
				_ = s.ln.SetDeadline(time.Unix(1, 0))
				<-accepting
				s.serving.Wait()
				return nil
			}
			if has("stop-start") {
				time.Sleep(300 * time.Millisecond) // which the one who stops it does not wait for
			}
			s.drain(accepting)
			if has("exit-status") {
				os.Exit(3)
			}
			return nil
		case <-tick.C:
			if *idle == 0 || !s.idleFor(*idle) {
				continue
			}
			if has("idle-exit") {
				_ = s.ln.SetDeadline(time.Unix(1, 0))
				time.Sleep(100 * time.Millisecond) // its last words; who is queued is forgotten
				return nil
			}
			s.drain(accepting)
			return nil
		}
	}
}

// turnAway closes what comes for a time.
func (s *server) turnAway(d time.Duration) {
	_ = s.ln.SetDeadline(time.Now().Add(d))
	for {
		c, err := s.ln.Accept()
		if err != nil {
			break
		}
		_ = c.Close()
	}
	_ = s.ln.SetDeadline(time.Time{})
}

func (s *server) accept() error {
	for {
		c, err := s.ln.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		s.handle(c)
		if has("graceful-stop") {
			time.Sleep(2 * time.Millisecond) // else it may win the race against the signal
		}
	}
}

func (s *server) handle(c net.Conn) {
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	s.serving.Go(func() {
		defer func() {
			_ = c.Close()
			s.mu.Lock()
			s.open--
			s.since = time.Now()
			s.mu.Unlock()
		}()
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		if err == nil {
			fmt.Fprintf(c, "pid %d: %s", os.Getpid(), line)
		}
	})
}

func (s *server) idleFor(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0 && time.Since(s.since) >= d
}

// The tool.

// inDir is where the tool and its daemon meet.
func inDir() string {
	base, public := bases()
	if has("others") {
		base = public
	}
	dir := filepath.Join(base, "broken")
	mode := os.FileMode(0o700)
	if has("others") {
		mode = 0o755
	}
	_ = os.MkdirAll(dir, mode)
	return dir
}

func ping() error {
	dir := inDir()
	sock := endpointIn(dir)
	for end := time.Now().Add(pingWithin); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := dial(sock)
		if err != nil {
			if err := launch(dir, sock, err); err != nil {
				return err
			}
			continue
		}
		answer, err := question(c)
		switch {
		case err == nil:
			fmt.Print(answer)
			return nil
		case has("idle-exit") && !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case errors.Is(err, os.ErrDeadlineExceeded):
			if has("hang-replaced") {
				return errors.New("the daemon does not answer")
			}
			if err := replace(dir); err != nil {
				return err
			}
		}
	}
	return errors.New("no answer from any daemon")
}

func question(c net.Conn) (string, error) {
	defer c.Close()
	if !has("hang-ends") {
		_ = c.SetDeadline(time.Now().Add(answerWithin))
	}
	if _, err := io.WriteString(c, "ping\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// launch binds and starts the daemon under the lock, if still nobody answers.
func launch(dir, sock string, why error) error {
	stale := isStale(dir, why)
	if has("stale-crowd") && stale {
		time.Sleep(200 * time.Millisecond) // until others have seen that, too
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	if has("crowd") && !stale {
		unlock()
		unlock = func() {}
	}
	defer func() { unlock() }()
	if has("stale-crowd") && stale {
		unlink(sock) // whose by now?
	} else if answers(sock) {
		return nil
	}
	if has("crowd") {
		time.Sleep(50 * time.Millisecond) // what was seen is no longer true
	}
	if has("deleted-socket") && !stale { // who was killed may still be a zombie
		if pid := daemonPID(dir); pid > 0 && living(pid) {
			return fmt.Errorf("pid %d runs, but cannot be reached", pid)
		}
	}
	return start(sock)
}

func daemonPID(dir string) int {
	b, _ := os.ReadFile(filepath.Join(dir, "pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// replace ends a daemon that hangs; the next one is launched as ever.
func replace(dir string) error {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if pid := daemonPID(dir); pid > 0 {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	return nil
}

func status() error {
	dir := inDir()
	if has("looks") {
		if err := ping(); err != nil {
			return err
		}
	}
	if !answers(endpointIn(dir)) {
		fmt.Println("not running")
		return nil
	}
	fmt.Println("running, pid", daemonPID(dir))
	return nil
}

func stop() error {
	pid := daemonPID(inDir())
	if pid == 0 {
		return errors.New("it does not run")
	}
	if err := order(pid, endpointIn(inDir())); err != nil {
		return fmt.Errorf("it does not run: %w", err)
	}
	if has("stop-start") {
		return nil
	}
	for end := time.Now().Add(pingWithin); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if !living(pid) {
			return nil
		}
	}
	return fmt.Errorf("pid %d does not end", pid)
}
