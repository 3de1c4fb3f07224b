package main

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pingWithin   = 20 * time.Second
	answerWithin = time.Second
	unseen       = 0
)

// handed: a signal is the order.
func handed() (ask string, err error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return "", errors.New("no listener was handed down")
	}
	if !has("grandchild") {
		for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "FASTBIND_HANDOVER"} {
			_ = os.Unsetenv(v)
		}
	}
	return "", nil
}

// adopted is the listener that is descriptor 3.
func adopted() listener {
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
	own := ln.(*net.UnixListener)
	own.SetUnlinkOnClose(has("keeps-name") && flag.Arg(0) == "inherit")
	return own
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

// closeStrays keeps what our caller left open from the daemon.
func closeStrays() {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, n := range names {
		if fd, err := strconv.Atoi(n.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

func unlink(path string) {
	_ = os.Remove(path)
}

func lockIn(path string) string { return filepath.Dir(path) }

func dial(path string) (net.Conn, error) { return net.Dial("unix", path) }

func listenTCP(addr string) (listener, error) {
	config := net.ListenConfig{}
	if has("live-socket") {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		}
	}
	ln, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return ln.(listener), nil
}

// drain refuses newcomers and serves who is queued.
func (s *server) drain(accepting chan error) {
	raw, err := s.ln.(syscall.Conn).SyscallConn()
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

func orders(string) (<-chan os.Signal, error) {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	return terms, nil
}

func order(pid int, _ string) error { return syscall.Kill(pid, syscall.SIGTERM) }

func stopAt(string, int) string { return "" }

func living(pid int) bool { return syscall.Kill(pid, 0) == nil }

func bases() (own, public string) { return os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("HOME") }

func endpointIn(dir string) string { return filepath.Join(dir, "sock") }

func isStale(_ string, why error) bool { return errors.Is(why, syscall.ECONNREFUSED) }

// start: the socket takes its name when it listens already, so nobody ever sees one that
// does not.
func start(sock string) error {
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
	cmd := exec.Command(self, asDaemon()...)
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
