// Command ref is the job written by hand, without state, authentication or
// versions: a lock, connect again, bind, spawn with the listener as descriptor 3,
// connect. Like most tools it links encoding/json.
//
//	ref DIR        connects, launching itself as the daemon; sends a line, prints the reply
//	ref --daemon   serves the listener that descriptor 3 is
package main

import (
	"bufio"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/fastbind/fastbind/bench/internal/echo"
)

func main() {
	if err := run(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run() error {
	if os.Args[1] == "--daemon" {
		ln, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			return err
		}
		return echo.Serve(ln)
	}
	conn, err := dial(os.Args[1])
	if err != nil {
		return err
	}
	reply, err := echo.Request(conn, bufio.NewReader(conn))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(reply)
}

func dial(dir string) (net.Conn, error) {
	sock := filepath.Join(dir, "sock")
	if conn, err := net.Dial("unix", sock); err == nil {
		return conn, nil
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", sock); err == nil {
		return conn, nil
	}
	_ = os.Remove(sock)
	ln, err := net.Listen("unix", sock)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	f, err := ln.(*net.UnixListener).File()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", "--daemon")
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, _ = f.Close(), ln.Close()
	return net.Dial("unix", sock)
}
