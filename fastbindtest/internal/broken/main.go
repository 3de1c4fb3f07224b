//go:build linux

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
//
// It knows nothing of fastbind on purpose: what it does right is how one does it
// by hand.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	defect = flag.String("defect", "", "what it does wrong")
	load   = flag.Duration("load", 20*time.Millisecond, "how long it loads")
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
		err = serve(adopted(), inDir())
	case "ping":
		err = ping()
	case "status":
		err = status()
	case "stop":
		err = stop()
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

// The daemon.

// adopted is the listener that is descriptor 3.
func adopted() *net.UnixListener {
	f := os.NewFile(3, "listener")
	ln, err := net.FileListener(f) // a copy, close-on-exec
	if has("cloexec") {
		_, _ = unix.FcntlInt(3, unix.F_SETFD, 0)
	} else {
		_ = f.Close()
	}
	if err != nil {
		return nil
	}
	return ln.(*net.UnixListener)
}

func inherit() error {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return errors.New("no listener was handed down")
	}
	variables := []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "FASTBIND_HANDOVER"}
	if !has("grandchild") {
		for _, v := range variables {
			_ = os.Unsetenv(v)
		}
	}
	path := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "own.sock")
	ln := adopted()
	switch {
	case ln == nil && !has("announced"):
		return errors.New("descriptor 3 is no listener")
	case ln == nil || has("starts"):
		return bindPath(path)
	}
	// A pid file, which a successor finds after kill -9.
	pidFile := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "broken.pid")
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
	ln.SetUnlinkOnClose(has("keeps-name"))
	return serve(ln, "")
}

// bindPath binds under a lock, so that of any number of starters one listens,
// and nobody removes the socket of one that lives.
func bindPath(path string) error {
	if has("listens-first") {
		time.Sleep(700 * time.Millisecond)
	}
	if has("starters") {
		// Two steps without a lock: the classic.
		if answers(path) {
			return errors.New("it runs already")
		}
		time.Sleep(time.Duration(os.Getpid()%8) * 20 * time.Millisecond)
		//fastbindvet:ignore unlink this is what the case finds
		_ = os.Remove(path)
		ln, err := listenAt(path)
		if err != nil {
			return err
		}
		return serve(ln, "")
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	if answers(path) && !has("live-socket") {
		return errors.New("it runs already")
	}
	pidFile := path + ".pid"
	if has("deleted-socket") {
		// A pid is asked whether the daemon lives, not the socket.
		b, _ := os.ReadFile(pidFile)
		if pid, err := strconv.Atoi(string(b)); err == nil && syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("it runs already, pid %d", pid)
		}
	}
	_ = os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o600)
	//fastbindvet:ignore unlink this is what the case finds
	_ = os.Remove(path)
	ln, err := listenAt(path)
	unlock()
	if err != nil {
		return err
	}
	return serve(ln, "")
}

func bindPort(port string) error {
	config := net.ListenConfig{}
	if has("live-socket") {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
	}
	host := "127.0.0.1:"
	if has("others") {
		host = ":"
	}
	ln, err := config.Listen(context.Background(), "tcp", host+port)
	if err != nil {
		return err
	}
	return serve(ln, "")
}

// listenAt binds a path for its user alone.
func listenAt(path string) (*net.UnixListener, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	mode := os.FileMode(0o600)
	if has("others") {
		mode = 0o666
	}
	return ln, os.Chmod(path, mode)
}

func answers(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	return func() {
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close()
	}, err
}

type listener interface {
	net.Listener
	SetDeadline(time.Time) error
	syscall.Conn
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
// daemon's pid, "" if it was started otherwise.
func serve(l net.Listener, dir string) error {
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			return err
		}
	}
	s := &server{ln: l.(listener), since: time.Now()}
	if *spawn {
		child := exec.Command("cat") // ends with us: its stdin does
		if _, err := child.StdinPipe(); err != nil {
			return err
		}
		if err := child.Start(); err != nil {
			return err
		}
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
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
		case <-terms:
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

// drain refuses newcomers and serves who is queued.
func (s *server) drain(accepting chan error) {
	raw, err := s.ln.SyscallConn()
	if err != nil {
		return
	}
	if s.ln.Addr().Network() == "unix" { // of TCP this would reset the queue
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
	}
	_ = s.ln.SetDeadline(time.Unix(1, 0)) // an Accept that waits does not notice
	<-accepting
	_ = raw.Control(func(fd uintptr) {
		for {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(n), "connection")
			if c, err := net.FileConn(f); err == nil {
				s.handle(c)
			}
			_ = f.Close()
		}
	})
	if !has("connected") {
		s.serving.Wait()
	} else {
		time.Sleep(50 * time.Millisecond) // enough for the queue, not for who talks
	}
	if has("keeps-name") {
		_ = s.ln.Close() // which removes it
	}
}

// The tool.

// inDir is where the tool and its daemon meet.
func inDir() string {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if has("others") {
		base = os.Getenv("HOME") // which others can look into
	}
	dir := filepath.Join(base, "broken")
	mode := os.FileMode(0o700)
	if has("others") {
		mode = 0o755
	}
	_ = os.MkdirAll(dir, mode)
	return dir
}

const (
	pingWithin   = 20 * time.Second
	answerWithin = time.Second // after which the daemon is taken for hung
)

func ping() error {
	dir := inDir()
	sock := filepath.Join(dir, "sock")
	for end := time.Now().Add(pingWithin); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", sock)
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

// launch binds and starts the daemon under the lock, if still nobody answers. The
// socket takes its name when it listens already, so nobody ever sees one that
// does not.
func launch(dir, sock string, why error) error {
	stale := errors.Is(why, syscall.ECONNREFUSED)
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
		_ = os.Remove(sock) // whose by now?
	}
	if answers(sock) {
		return nil
	}
	if has("crowd") {
		time.Sleep(50 * time.Millisecond) // what was seen is no longer true
	}
	if has("deleted-socket") && !stale { // who was killed may still be a zombie
		if pid := daemonPID(dir); pid > 0 && syscall.Kill(pid, 0) == nil {
			return fmt.Errorf("pid %d runs, but cannot be reached", pid)
		}
	}
	temp := sock + "." + strconv.Itoa(os.Getpid())
	ln, err := listenAt(temp)
	if err != nil {
		return err
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Rename(temp, sock); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-defect="+*defect, "-load="+load.String(), "-idle="+idle.String(), "launched")
	cmd.Dir = "/"
	cmd.Env = []string{"XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"), "HOME=" + os.Getenv("HOME")}
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	switch *defect {
	case "callers-pipe":
		cmd.Stderr = os.Stderr
	case "project":
		cmd.Dir = ""
	case "environment":
		cmd.Env = nil
	case "session":
		cmd.SysProcAttr = nil
	}
	if !has("strays") {
		closeStrays()
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// closeStrays keeps what our caller left open from the daemon.
func closeStrays() {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, n := range names {
		if fd, err := strconv.Atoi(n.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
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
		_ = syscall.Kill(pid, syscall.SIGKILL)
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
	if !answers(filepath.Join(dir, "sock")) {
		fmt.Println("not running")
		return nil
	}
	fmt.Println("running, pid", daemonPID(dir))
	return nil
}

func stop() error {
	pid := daemonPID(inDir())
	if pid == 0 || syscall.Kill(pid, syscall.SIGTERM) != nil {
		return errors.New("it does not run")
	}
	if has("stop-start") {
		return nil
	}
	for end := time.Now().Add(pingWithin); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if syscall.Kill(pid, 0) != nil {
			return nil
		}
	}
	return fmt.Errorf("pid %d does not end", pid)
}
