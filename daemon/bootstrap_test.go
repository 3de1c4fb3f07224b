//go:build unix

package daemon_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
	"github.com/fastbind/fastbind/internal/reexec"
)

// deadline is generous: a wait for something to happen ends here.
const deadline = 2 * time.Minute

// script is what the scripted backend does. Backends have no fields.
var script struct {
	bind func(fastbind.Endpoint) (net.Listener, error)
	load func(context.Context, *daemon.Instance) error
}

type scripted struct{}

func (scripted) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if script.bind != nil {
		return script.bind(ep)
	}
	return daemon.Listen(ep)
}

func (scripted) Load(ctx context.Context, inst *daemon.Instance) (struct{}, error) {
	return struct{}{}, script.load(ctx, inst)
}

func (scripted) Serve(_ context.Context, ln net.Listener, _ struct{}) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// bootstrap runs the scripted backend by hand until ctx ends.
func bootstrap(ctx context.Context, s fastbind.Service) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- daemon.Bootstrap[scripted](ctx, daemon.For(s)) }()
	return ended
}

func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		t.Fatal("not within the test's deadline: " + what)
	}
	panic("unreachable")
}

// closed fails if somebody still listens at the endpoint.
func closed(t *testing.T, ep fastbind.Endpoint) {
	t.Helper()
	if c, err := net.Dial("unix", ep.Path()); err == nil {
		_ = c.Close()
		t.Error("the listener is still there")
	}
}

// service is the test's own.
func service(t *testing.T) fastbind.Service {
	return fastbind.Service{Name: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "."))}
}

// directory is a service's, with the failures it has on record.
func directory(s fastbind.Service) string {
	return filepath.Join(os.Getenv("FASTBIND_RUNTIME_DIR"), "default", s.Name)
}

// TestBootstrap: it serves until its context ends, and leaves nothing that
// accepts.
func TestBootstrap(t *testing.T) {
	loaded := make(chan fastbind.Endpoint, 1)
	script.bind = nil
	script.load = func(_ context.Context, inst *daemon.Instance) error {
		loaded <- inst.Endpoint()
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := bootstrap(ctx, service(t))
	ep := await(t, "it loads", loaded)
	c, err := net.Dial("unix", ep.Path())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 1); true {
		if _, err := io.ReadFull(c, b); err != nil || b[0] != 'x' {
			t.Fatal(b, err)
		}
	}
	_ = c.Close()
	stop()
	if err := await(t, "it stops", ended); err != nil {
		t.Errorf("a stop is no failure: %v", err)
	}
	closed(t, ep)
	if st, err := service(t).Status(t.Context()); st.Phase != fastbind.Gone {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestBootstrapFails: why it failed is what it returns, and its listener does
// not outlive the failure.
func TestBootstrapFails(t *testing.T) {
	errBroken := errors.New("the index is broken")
	for _, tt := range []struct {
		name string
		bind func(fastbind.Endpoint) (net.Listener, error)
		load func() error
		want error
		says string
	}{
		{"bind", func(fastbind.Endpoint) (net.Listener, error) { return nil, syscall.EROFS }, nil, syscall.EROFS, "stage bind"},
		{"load", nil, func() error { return errBroken }, errBroken, "stage load"},
		{"panic", nil, func() error { panic("broken\nsecond line") }, nil, "stage load: panic: broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(func() { _ = os.RemoveAll(directory(service(t))) })
			script.bind = tt.bind
			script.load = func(context.Context, *daemon.Instance) error { return tt.load() }
			err := await(t, "it fails", bootstrap(t.Context(), service(t)))
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			ep, err := service(t).Endpoint()
			if err != nil {
				t.Fatal(err)
			}
			closed(t, ep)
		})
	}
}

// signalled is a process that bootstraps and says when it loads.
var signalled = reexec.Helper("signalled", func([]string) {
	script.load = func(ctx context.Context, _ *daemon.Instance) error {
		fmt.Println("loading")
		<-ctx.Done()
		return ctx.Err()
	}
	reexec.Check(daemon.Bootstrap[scripted](context.Background(), daemon.For(fastbind.Service{Name: "signalled"})))
})

// TestBootstrapLeavesSignals: the signals are the program's. With no handler of
// its own SIGTERM ends it, as the system says.
func TestBootstrapLeavesSignals(t *testing.T) {
	cmd := reexec.Command(t, signalled)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "loading\n" {
		t.Error(l, err)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
}

// TestBindIsEnough: what Bind returns is a listening endpoint. Whoever connects
// while Load never returns is in its queue.
func TestBindIsEnough(t *testing.T) {
	loading := make(chan fastbind.Endpoint, 1)
	script.bind = nil
	script.load = func(ctx context.Context, inst *daemon.Instance) error {
		loading <- inst.Endpoint()
		<-ctx.Done() // only the end of the test ends it
		return ctx.Err()
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := bootstrap(ctx, service(t))
	ep := await(t, "it is bound", loading)
	for range 3 {
		c, err := fastbind.Dial(ctx, service(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "queued"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Fatal(err)
	default:
	}
	stop()
	if err := await(t, "it stops", ended); err == nil {
		t.Error("it was never ready, and says that it was")
	}
	closed(t, ep)
}

// TestForeignByHand: a foreign daemon is no backend. The mistake is told before
// anything is bound or left behind.
func TestForeignByHand(t *testing.T) {
	script.bind = func(fastbind.Endpoint) (net.Listener, error) {
		t.Error("it binds")
		return nil, errors.ErrUnsupported
	}
	s := service(t)
	s.Command, s.Foreign = []string{"/bin/true"}, true
	err := await(t, "it is refused", bootstrap(t.Context(), s))
	var fe *fastbind.Error
	if !errors.Is(err, fastbind.ErrRefused) || !errors.As(err, &fe) || fe.Service != s.Name || fe.Stage != "policy" || fe.Hint == "" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(directory(s)); !os.IsNotExist(err) {
		t.Errorf("something is left behind: %v", err)
	}
}
