// Command tool is what is measured: a client and its daemon in one executable,
// made with fastbind.
//
//	tool            dials, sends a line, prints the reply
//	tool --daemon   answers every line with itself
//	tool --exit     ends at once: what starting this executable costs
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/bench/internal/echo"
	"github.com/fastbind/fastbind/daemon"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "--daemon":
		daemon.Serve(func(_ context.Context, ln net.Listener) error { return echo.Serve(ln) })
	case len(os.Args) == 2 && os.Args[1] == "--exit":
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := fastbind.Dial(ctx, fastbind.Service{Name: "tool", Args: []string{"--daemon"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer conn.Close()
	reply, err := echo.Request(conn, bufio.NewReader(conn))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(reply)
}
