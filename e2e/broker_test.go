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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestBrokerUpgrade: one broker after the other takes its predecessor's place while
// clients that know nothing of fastbind connect. Nobody is refused, whether the daemon
// runs or not; who is cut off was accepted by a daemon that was told to stop.
func TestBrokerUpgrade(t *testing.T) {
	bin, err := plaind()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	fastbind := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(bin+"/built-fastbind", args...)
		cmd.Env = []string{"HOME=" + dir, "PATH=" + bin + ":/usr/bin:/bin", "FASTBIND_RUNTIME_DIR=" + dir + "/run",
			"FASTBIND_STATE_DIR=" + dir + "/state", "FASTBIND_CONFIG_DIR=" + dir + "/config"}
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
	pids := map[string]bool{}
	const upgrades = 8
	for i := range upgrades {
		if i%2 == 1 {
			fastbind("stop", "web")
		}
		fastbind("restart", "fastbind-broker", "--wait", "ready")
		pids[strings.Split(fastbind("status", "fastbind-broker"), "\t")[4]] = true
	}
	cancel()
	wg.Wait()
	t.Logf("%d brokers, %d requests, %d cut off by %d stops of the daemon", len(pids), asked, cut, upgrades/2)
	if len(pids) != 1 || asked < upgrades || cut > clients*upgrades/2 {
		t.Errorf("%d brokers, %d requests, %d cut off", len(pids), asked, cut)
	}
}
