// Command plain is the same daemon without fastbind.
//
//	plain PATH   binds the socket and serves
//	plain        serves the listener that descriptor 3 is
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/fastbind/fastbind/bench/internal/echo"
)

func main() {
	ln, err := listener()
	if err == nil {
		err = echo.Serve(ln)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func listener() (net.Listener, error) {
	if len(os.Args) == 2 {
		return net.Listen("unix", os.Args[1])
	}
	return net.FileListener(os.NewFile(3, "listener"))
}
