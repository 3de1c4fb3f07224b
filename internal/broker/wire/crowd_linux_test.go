package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/peer"
	"github.com/fastbind/fastbind/internal/reexec"
)

const crowd = 10_000

// What they do who mean no good. Each is written again and again, and nothing is read.
var manners = map[string]string{
	"silent":    "",
	"slow":      `{"method":"io.fast`,
	"malformed": "GET / HTTP/1.1\r\n\r\n\x00",
	"oversized": strings.Repeat(" ", 1<<20),
	"greedy":    strings.Repeat(`{"method":"io.fastbind.Broker.List","more":true}`+"\x00", 100),
	"waiting":   `{"method":"io.fastbind.Broker.Events","more":true}` + "\x00",
}

// TestCrowd: 10,000 connections at once, of peers who are silent, slow, malformed,
// oversized, who ask for more than they read, or wait for events: memory is bounded, and
// somebody who asks is answered all along.
func TestCrowd(t *testing.T) {
	n := crowd
	if race {
		n /= 5 // the detector costs each of them ten times the time
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if most := int(files.Cur) - 200; most < n {
		t.Logf("only %d connections: RLIMIT_NOFILE is %d", most, files.Cur)
		n = most
	}
	dir, err := os.MkdirTemp("/tmp", "fbw")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/sock"
	cmd := reexec.Command(t, crowded, path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	idle := memory(t, cmd.Process.Pid, "VmHWM")

	ctx, cancel := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	var answered, again atomic.Int64
	var longest atomic.Int64
	ask := func() {
		began := time.Now()
		for {
			conn, err := connect(path)
			if err != nil {
				t.Error(err)
				return
			}
			c := NewClient(conn)
			list, err := c.List(context.Background())
			_ = c.Close()
			switch {
			case err == nil && len(list) == 1000:
				answered.Add(1)
				for took := int64(time.Since(began)); ; {
					if was := longest.Load(); took <= was || longest.CompareAndSwap(was, took) {
						return
					}
				}
			case errors.Is(err, io.ErrUnexpectedEOF): // newcomers have taken its place
				again.Add(1)
			default:
				t.Errorf("%d services, %v", len(list), err)
				return
			}
		}
	}
	for range 2 {
		askers.Go(func() {
			for ctx.Err() == nil {
				ask()
			}
		})
	}
	conns := make([]net.Conn, n)
	var crowding sync.WaitGroup
	gate := make(chan struct{})
	texts := make([]string, 0, len(manners))
	for _, text := range manners {
		texts = append(texts, text)
	}
	for i := range n {
		crowding.Go(func() {
			<-gate
			conn, err := connect(path)
			if err != nil {
				t.Error(err)
				return
			}
			conns[i] = conn
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(conn, texts[i%len(texts)]) // it may be closed meanwhile
		})
	}
	close(gate)
	crowding.Wait()
	during := answered.Load()
	for range 10 {
		ask() // with all of them connected, as far as the server wants them
	}
	cancel()
	askers.Wait()
	most := memory(t, cmd.Process.Pid, "VmHWM")
	t.Logf("%d connections; %d answers meanwhile, %d after that; dialled again %d times; the longest took %v; memory %d kB idle, %d kB at most",
		n, during, answered.Load()-during, again.Load(), time.Duration(longest.Load()).Round(time.Millisecond), idle, most)
	bound := maxCrowded
	if race {
		bound *= 8 // the detector remembers who touched what
	}
	if most > idle+bound {
		t.Errorf("memory grew by %d kB, more than %d", most-idle, bound)
	}
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// maxCrowded is what a crowd may cost, in kB: 320 peers of a few frames each, lists
// that are being made, and what the collector leaves lying about meanwhile.
const maxCrowded = 96 << 10

// connect connects, however full the queue is. Thousands that try again at every
// moment would leave the server no processor.
func connect(path string) (net.Conn, error) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100*time.Millisecond + rand.N(400*time.Millisecond)) {
		conn, err := net.Dial("unix", path)
		if err == nil || !errors.Is(err, syscall.EAGAIN) || time.Now().After(end) {
			return conn, err
		}
	}
}

// memory is a process's, in kB, as its status names it (proc_pid_status(5)).
func memory(t *testing.T, pid int, key string) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); f[0] == key+":" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatalf("no %s in %s", key, b)
	return 0
}

// crowded serves a broker of 1,000 services until its stdin ends.
var crowded = reexec.Helper("crowded", func(args []string) {
	ln, err := net.Listen("unix", args[0])
	if err != nil {
		panic(err)
	}
	f := &fake{}
	for i := range 1000 {
		v := full()
		v.Name = "s" + strconv.Itoa(1000+i)
		f.views = append(f.views, v)
	}
	b := lister{f}
	ctx, cancel := context.WithCancel(context.Background())
	s := newServer(ctx, b, "v1", peer.Check)
	s.subscribe = f.subscribe
	served := make(chan error)
	go func() { served <- s.serve(ln) }()
	_, _ = os.Stdout.WriteString("serving\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	if err := <-served; err != nil {
		panic(err)
	}
})

// A lister copies its list for each who asks, as a broker does.
type lister struct{ *fake }

func (l lister) List(context.Context, ...string) ([]broker.View, error) {
	return append([]broker.View(nil), l.views...), nil
}
