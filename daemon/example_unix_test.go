//go:build !windows

package daemon_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// A program with its own signals, output and exit. Here it is client and daemon
// in one, started by hand.
func ExampleBootstrap() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- daemon.Bootstrap[greeter](ctx, daemon.For(fastbind.Service{Name: "greeter"}))
	}()

	conn, err := net.Dial("unix", (<-bound).Path())
	if err != nil {
		log.Fatal(err)
	}
	greeting, err := io.ReadAll(conn)
	fmt.Println(string(greeting), err)
	conn.Close()

	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// hello <nil>
	// ended: <nil>
}
