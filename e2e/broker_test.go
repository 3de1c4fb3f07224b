//go:build linux

package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker/unit"
)

// TestBrokerSuccessors: one broker after the other, each started as a service manager
// does, takes its predecessor's place while clients that know nothing of fastbind connect.
// Nobody is refused, whether the daemon runs or not; who is cut off was accepted by a
// daemon that was told to stop.
func TestBrokerSuccessors(t *testing.T) {
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + dir, "PATH=" + bin + ":/usr/bin:/bin", "FASTBIND_RUNTIME_DIR=" + dir + "/run",
		"FASTBIND_STATE_DIR=" + dir + "/state", "FASTBIND_CONFIG_DIR=" + dir + "/config"}
	fastbind := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin+"/built-fastbind", args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", args, err, out)
		}
		return string(out)
	}
	defer func() {
		fastbind("stop", "--all")
		_ = os.RemoveAll(dir)
	}()
	if err := os.Mkdir(dir+"/config", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config/web.toml", []byte("command = [\"plaind\"]\nhold = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sock := strings.TrimSpace(fastbind("start", "web"))
	if filepath.Base(sock) != "sock" {
		t.Fatalf("start printed %q", sock)
	}
	ask := func() error {
		conn, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(deadline))
		if _, err := io.WriteString(conn, "x\n"); err != nil {
			return err
		}
		_, err = bufio.NewReader(conn).ReadString('\n')
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	asked, cut := 0, 0
	const clients = 4
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := ask()
				mu.Lock()
				asked++
				switch {
				case err == nil:
				case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
					cut++
				default:
					t.Error(err)
				}
				mu.Unlock()
				time.Sleep(time.Millisecond) // the commands want the processor too
			}
		})
	}
	control, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/control", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	socket, err := control.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	const successors = 8
	var before chan error // the end of the last one
	defer func() {
		fastbind("stop", "fastbind-broker")
		if before != nil {
			<-before
		}
	}()
	for i := range successors {
		if i%2 == 1 {
			fastbind("stop", "web")
		}
		cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", bin+"/built-fastbind", "broker")
		cmd.Env = append([]string{"LISTEN_FDS=1", "LISTEN_FDNAMES=" + unit.SocketName}, env...)
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		pid := strconv.Itoa(cmd.Process.Pid)
		for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
			cmd := exec.Command(bin+"/built-fastbind", "status", "fastbind-broker")
			cmd.Env = env
			out, _ := cmd.Output() // while the one before ends, it is not ready
			if fields := strings.Split(string(out), "\t"); len(fields) > 4 && fields[1] == "ready" && fields[4] == pid {
				break
			}
			if time.Now().After(end) {
				t.Fatal("it does not take over")
			}
		}
		if before != nil {
			if err := <-before; err != nil {
				t.Errorf("the one before has ended with %v", err)
			}
		}
		before = ended
	}
	cancel()
	wg.Wait()
	t.Logf("%d brokers, %d requests, %d cut off by %d stops of the daemon", successors, asked, cut, successors/2)
	if asked < successors || cut > clients*successors/2 {
		t.Errorf("%d requests, %d cut off", asked, cut)
	}
}
