// Command plaind is a foreign echo daemon: it knows nothing of fastbind and
// takes its listener as descriptor 3 by systemd's convention, as the descriptor
// in its argument, or as the one in the variable PLAIND. With -path it binds the
// path itself. For each line that it echoes it logs one. With -http it is a web
// server that says what was asked for.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	fd := flag.Int("fd", 3, "descriptor of the listener")
	path := flag.String("path", "", "bind this path")
	stubborn := flag.Bool("stubborn", false, "do not end when asked to")
	web := flag.Bool("http", false, "answer one HTTP request a connection with what it asks for")
	flag.Parse()
	ln, err := listen(*fd, *path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "plaind:", err)
		os.Exit(3)
	}
	if *stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	fmt.Println("plaind: serving, with LANG", os.Getenv("LANG"), "MODE", os.Getenv("MODE"))
	for {
		c, err := ln.Accept()
		if err != nil {
			os.Exit(4)
		}
		go func() {
			defer c.Close()
			r := bufio.NewScanner(c)
			if *web && r.Scan() {
				asked := strings.TrimSuffix(r.Text(), " HTTP/1.1")
				for r.Scan() && r.Text() != "" {
				}
				fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s\n", asked)
				return
			}
			for r.Scan() {
				fmt.Println("plaind: echo", r.Text())
				fmt.Fprintln(c, r.Text())
			}
		}()
	}
}

func listen(fd int, path string) (net.Listener, error) {
	if path != "" {
		return net.Listen("unix", path)
	}
	if v := strings.TrimSuffix(os.Getenv("PLAIND"), ";"); v != "" {
		var err error
		if fd, err = strconv.Atoi(v); err != nil {
			return nil, err
		}
	} else if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		return nil, fmt.Errorf("LISTEN_PID %q, LISTEN_FDS %q are not for pid %d",
			os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getpid())
	}
	return net.FileListener(os.NewFile(uintptr(fd), "listener"))
}
