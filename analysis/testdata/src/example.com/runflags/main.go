// Command runflags becomes the daemon by way of a command line's library, of
// functions of its own and of Bootstrap.
package main

import (
	"context"
	"flag"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/shared"
	"github.com/fastbind/fastbind/daemon"
	"github.com/spf13/cobra"
)

func main() {
	_, _ = shared.Read("/etc/x") // want `main touches the disk before daemon.Serve: shared.Read → `
	root := &cobra.Command{RunE: func(*cobra.Command, []string) error {
		time.Sleep(time.Second) // want `main waits before daemon.Serve: time.Sleep`
		daemon.Serve(serve)
		return nil
	}}
	_ = root.Execute()
}

func serve(ctx context.Context, ln net.Listener) error {
	<-ctx.Done()
	return nil
}

func runSmall() {
	flag.Parse()
	start := daemon.Serve
	go func() { _ = os.Remove("x") }() // want `runSmall starts a goroutine before daemon.Serve: go a function in runSmall`
	start(serve)
}

func runBoot() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	defer os.Remove("pid") // after it
	ended := make(chan struct{})
	go func() {
		daemon.Serve(serve)
		close(ended)
	}()
	<-ended
	_ = ctx
}
