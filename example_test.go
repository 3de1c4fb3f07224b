package fastbind_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// greeter is a daemon with state: the greetings it has loaded.
type greeter struct{}

func (greeter) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (greeter) Load(ctx context.Context, inst *daemon.Instance) (map[string]string, error) {
	inst.Progress("loading greetings", 0.5)
	return map[string]string{"en": "hello", "fr": "bonjour"}, nil
}

func (greeter) Serve(ctx context.Context, ln net.Listener, greetings map[string]string) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			language, err := bufio.NewReader(conn).ReadString('\n')
			if err == nil {
				fmt.Fprintln(conn, greetings[language[:len(language)-1]])
			}
		}()
	}
}

// TestMain is the main of the examples' tool: the same executable is the client
// and, with an argument, the daemon.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "greeter-daemon":
			daemon.Run[greeter]()
		case "web-daemon":
			daemon.Serve(func(ctx context.Context, ln net.Listener) error {
				srv := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprintln(w, "hello from", r.URL.Path)
				})}
				// A stop waits for open connections: end the idle ones.
				context.AfterFunc(ctx, func() { _ = srv.Shutdown(context.Background()) })
				return srv.Serve(ln)
			})
		}
	}
	dir, err := os.MkdirTemp(tempBase, "fb")
	if err != nil {
		log.Fatal(err)
	}
	os.Setenv("FASTBIND_RUNTIME_DIR", filepath.Join(dir, "run"))
	status := m.Run()
	for _, s := range []fastbind.Service{greeterService, webService} {
		if err := s.Stop(context.Background()); err != nil && !errors.Is(err, fastbind.ErrNoService) && !errors.Is(err, fastbind.ErrNotRunning) {
			log.Print(err)
			status = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

var (
	greeterService = fastbind.Service{Name: "greeter", Args: []string{"greeter-daemon"}}
	webService     = fastbind.Service{Name: "web", Args: []string{"web-daemon"}}
)

// A tool dials the daemon it needs; the first one launches it.
func ExampleDial() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	conn, err := fastbind.Dial(ctx, fastbind.Service{Name: "greeter", Args: []string{"greeter-daemon"}})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "fr")
	reply, err := io.ReadAll(conn)
	fmt.Print(string(reply), err)
	// Output:
	// bonjour
	// <nil>
}

// Waiting until the daemon has loaded shows how far it is.
func ExampleWaitReady() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	conn, err := fastbind.Dial(ctx, greeterService, fastbind.WaitReady(func(p fastbind.Progress) {
		log.Printf("%s: %.0f %%", p.Message, 100*p.Fraction)
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	st, err := greeterService.Status(ctx)
	fmt.Println(st.Phase, err)
	// Output: ready <nil>
}

// An HTTP client reaches a daemon by DialContext; the host in the URL is only a
// name.
func ExampleService_DialContext() {
	client := http.Client{Transport: &http.Transport{DialContext: webService.DialContext}}
	resp, err := client.Get("http://daemon/status")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Print(string(body))
	// Output: hello from /status
}

// A gRPC client takes the service as its dialer:
//
//	grpc.NewClient("passthrough:///daemon", grpc.WithContextDialer(svc.ContextDialer), …)
func ExampleService_ContextDialer() {
	// The option's type, so that this compiles without that module.
	withContextDialer := func(dial func(context.Context, string) (net.Conn, error)) error {
		conn, err := dial(context.Background(), "daemon")
		if err != nil {
			return err
		}
		return conn.Close()
	}
	fmt.Println(withContextDialer(webService.ContextDialer))
	// Output: <nil>
}

// Who must not launch anybody dials the endpoint. Nobody there is an error.
func ExampleEndpoint_Dial() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	nobody, err := fastbind.Service{Name: "nobody"}.Endpoint()
	if err != nil {
		log.Fatal(err)
	}
	_, err = nobody.Dial(ctx)
	fmt.Println(errors.Is(err, os.ErrNotExist))

	ep, err := greeterService.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := ep.Dial(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "fr")
	answer, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(answer, err, "\n")
	// Output:
	// true
	// bonjour
	// <nil>
}

// A daemon is stopped when its process has ended.
func ExampleService_Stop() {
	ctx := context.Background()
	if _, err := greeterService.Start(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(greeterService.Stop(ctx))
	fmt.Println(errors.Is(greeterService.Stop(ctx), fastbind.ErrNotRunning))
	// Output:
	// <nil>
	// true
}

// A tool that can do the work itself goes on without its daemon, and knows why.
func ExampleTryDial() {
	svc := fastbind.Service{Name: "broken", Command: []string{"/no/such/program"}}
	conn, reason := fastbind.TryDial(context.Background(), svc)
	if conn == nil {
		fmt.Println("working without the daemon, stage", reason.Stage)
		return
	}
	defer conn.Close()
	// Output: working without the daemon, stage executable
}
