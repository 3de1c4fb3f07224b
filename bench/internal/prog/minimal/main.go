// Command minimal is the least that a client of a running daemon can be:
//
//	minimal PATH   connects, sends a line, prints the reply
package main

import (
	"bufio"
	"net"
	"os"

	"github.com/fastbind/fastbind/bench/internal/echo"
)

func main() {
	conn, err := net.Dial("unix", os.Args[1])
	if err == nil {
		var reply string
		if reply, err = echo.Request(conn, bufio.NewReader(conn)); err == nil {
			_, _ = os.Stdout.WriteString(reply)
			return
		}
	}
	_, _ = os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(1)
}
