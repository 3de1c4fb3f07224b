package wire

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// defined is a broker of services that no file defines.
type defined struct{ *broker.Broker }

func (d defined) Enable(ctx context.Context, name string) error {
	_, err := d.Request(ctx, name, supervise.VerbEnable)
	return err
}

func (d defined) Disable(ctx context.Context, name string) error {
	_, err := d.Request(ctx, name, supervise.VerbDisable)
	return err
}

func (d defined) Reload(context.Context) error { return nil }

func (d defined) Upgrade(context.Context, syscall.Conn) error { return nil }

// TestBroker: a real broker, and a real daemon, from held to stopped.
func TestBroker(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fbw")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir+"/", "../../testprog").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := definition.Definition{Service: "b", Command: []string{dir + "/testprog", "daemon"}}.Complete()
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	life, err := launch.CreateLife(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer life.Close()
	env := runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}
	b, err := broker.New(broker.Config{Env: env, Holder: dir, Client: func() []string { return []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	policy := supervise.Policy{HangAfter: d.HangAfter, OnHang: d.OnHang, StopWithin: d.StopWithin}.Complete()
	go func() { ran <- b.Run(ctx, []broker.Service{{Definition: d, Policy: policy}}) }()
	ln, err := net.Listen("unix", dir+"/broker")
	if err != nil {
		t.Fatal(err)
	}
	sctx, end := context.WithCancel(t.Context())
	defer end()
	served := make(chan error, 1)
	go func() { served <- Serve(sctx, ln, defined{b}, "v1") }()
	client := func() *Client {
		conn, err := net.Dial("unix", dir+"/broker")
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(conn)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	tctx, done := context.WithTimeout(t.Context(), 2*time.Minute)
	defer done()
	c := client()

	if err := c.Enable(tctx, "b"); err != nil {
		t.Fatal(err)
	}
	list, err := c.List(tctx)
	if err != nil || len(list) != 1 || list[0].State != "held" || !list[0].Holding || list[0].Generation != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	begun, events := make(chan struct{}), make(chan Event, 100)
	watched := make(chan error, 1)
	go func() {
		watched <- client().Events(tctx, nil, func(e *Event, _ uint64) bool {
			if e == nil {
				close(begun)
			} else {
				events <- *e
			}
			return false
		})
	}()
	<-begun
	s, err := c.Launch(tctx, "b", true)
	if err != nil || s.Generation == 0 || s.State != "ready" {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := c.Stop(tctx, "b"); err != nil {
		t.Fatal(err)
	}
	err = c.Stop(tctx, "b")
	if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Reason == "" {
		t.Errorf("a stop of what does not run: %v", err)
	}
	again, err := c.Restart(tctx, "b")
	if err != nil || again.Generation <= s.Generation {
		t.Errorf("%+v, %v", again, err)
	}
	if s, err := c.Launch(tctx, "b", true); err != nil || s.Generation != again.Generation || s.PID == 0 || s.Phase != "ready" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := c.Launch(tctx, "other", false); err != broker.ErrUnknown {
		t.Error(err)
	}
	if m, err := c.Metrics(tctx); err != nil || len(m.Services) != 1 || m.Services[0].Launches != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	if err := c.Stop(tctx, "b"); err != nil {
		t.Error(err)
	}
	cancel() // the broker ends
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if err := <-watched; err != broker.ErrEnded {
		t.Error(err)
	}
	if _, err := c.List(tctx); err != broker.ErrEnded {
		t.Error(err)
	}
	close(events)
	var kinds []string
	for e := range events {
		kinds = append(kinds, e.Kind)
	}
	t.Log(kinds)
	if !slices.Contains(kinds, "launched") {
		t.Error("no event says that it was launched")
	}
	end()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
