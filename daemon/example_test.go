package daemon_test

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// greeter is a daemon whose state is the greeting that it has loaded. It has no
// fields: what Bind could read is not there yet.
type greeter struct{}

func (greeter) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (greeter) Load(ctx context.Context, inst *daemon.Instance) (string, error) {
	bound <- inst.Endpoint() // clients can connect, and queue
	inst.Progress("loading greetings", 0.5)
	return "hello", nil
}

func (greeter) Serve(ctx context.Context, ln net.Listener, greeting string) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err // net.ErrClosed after a stop
		}
		go func() {
			defer conn.Close()
			fmt.Fprint(conn, greeting)
		}()
	}
}

// bound tells the example where its daemon listens.
var bound = make(chan fastbind.Endpoint, 1)

// The main of a daemon with state.
func ExampleRun() {
	daemon.Run[greeter]()
}

// The main of a daemon that a user starts by hand: it launches itself as the
// service's daemon, or ends because there is one.
func ExampleFor() {
	daemon.Run[greeter](daemon.For(fastbind.Service{Name: "greeter"}))
}

// A web server over the inherited listener. A stop waits for open connections,
// so it ends the idle ones.
func ExampleServe() {
	daemon.Serve(func(ctx context.Context, ln net.Listener) error {
		srv := http.Server{Handler: http.NotFoundHandler()}
		context.AfterFunc(ctx, func() { _ = srv.Shutdown(context.Background()) })
		return srv.Serve(ln)
	})
}
