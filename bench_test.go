//go:build !windows

package fastbind_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastbind/fastbind"
)

// warm prepares a listener where a service's endpoint is, as a running daemon
// would: the warm path sees nothing else of it.
func warm(b testing.TB) (fastbind.Service, string) {
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	b.Setenv("FASTBIND_RUNTIME_DIR", dir)
	sock := filepath.Join(dir, "default", "warm", "sock")
	if err := os.MkdirAll(filepath.Dir(sock), 0o700); err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("unix", sock)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return fastbind.Service{Name: "warm", Args: []string{"daemon"}}, sock
}

func BenchmarkNetDial(b *testing.B) {
	_, sock := warm(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("unix", sock)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

func BenchmarkDial(b *testing.B) {
	svc, _ := warm(b)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		c, err := fastbind.Dial(ctx, svc)
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// TestWarmAllocations: the warm path makes at most 6 allocations more than
// net.Dial.
func TestWarmAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates; .ci/run runs this without it too")
	}
	svc, sock := warm(t)
	ctx := context.Background()
	// The end that the server makes is waited for: its allocations count too, and
	// must not wander from one figure into the other.
	end := func(c net.Conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	plain := testing.AllocsPerRun(200, func() { end(net.Dial("unix", sock)) })
	ours := testing.AllocsPerRun(200, func() {
		c, err := fastbind.Dial(ctx, svc)
		if err != nil {
			t.Fatal(err)
		}
		end(c.UnixConn, nil) // without the question why it ended
	})
	if ours > plain+6 {
		t.Errorf("a warm Dial makes %.0f allocations, net.Dial %.0f", ours, plain)
	}
}
