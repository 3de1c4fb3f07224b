// Package echo is the job that every measured daemon does: it answers a line
// with the same line.
package echo

import (
	"bufio"
	"io"
	"net"
)

// Serve answers until the listener is closed.
func Serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go answer(conn)
	}
}

func answer(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

// Request sends a line and returns the reply, which r reads.
func Request(w io.Writer, r *bufio.Reader) (string, error) {
	if _, err := io.WriteString(w, "hello\n"); err != nil {
		return "", err
	}
	return r.ReadString('\n')
}
