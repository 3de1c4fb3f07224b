// Command plaind is a foreign echo daemon: it knows nothing of fastbind and
// takes its listeners as descriptors from 3 on by systemd's convention, or one as the
// descriptor in its argument, or as the one in the variable PLAIND. With -path it
// binds the path itself. For each line that it echoes it logs one; at a further
// listener it puts its name before the line. With -http it is a web server that says
// what was asked for. With -pid it puts its pid before each line as well.
//
// With -grow a line that is a number has it keep so many MiB of memory, or end if there
// are none.
//
// With -ask it connects to other daemons before it serves, and ends if it cannot; it
// logs what they answer.
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
	pid := flag.Bool("pid", false, "say who answers")
	flag.BoolVar(&grow, "grow", false, "keep so many MiB of memory as a line says")
	peers := flag.String("ask", "", "paths to connect to first, comma separated")
	flag.Parse()
	listeners, err := listen(*fd, *path)
	if err == nil && *peers != "" {
		err = ask(strings.Split(*peers, ","))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "plaind:", err)
		os.Exit(3)
	}
	if *stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	who := ""
	if *pid {
		who = strconv.Itoa(os.Getpid()) + " "
	}
	fmt.Println("plaind: serving, with LANG", os.Getenv("LANG"), "MODE", os.Getenv("MODE"))
	for _, l := range listeners[1:] {
		go serve(l, who+l.name+" ", *web)
	}
	serve(listeners[0], who, *web)
}

var grow bool

func serve(ln listener, prefix string, web bool) {
	for {
		c, err := ln.Accept()
		if err != nil {
			os.Exit(4)
		}
		go func() {
			defer c.Close()
			r := bufio.NewScanner(c)
			if web && r.Scan() {
				asked := strings.TrimSuffix(r.Text(), " HTTP/1.1")
				for r.Scan() && r.Text() != "" {
				}
				fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s%s\n", prefix, asked)
				return
			}
			for r.Scan() {
				fmt.Println("plaind: echo", r.Text())
				if n, err := strconv.Atoi(r.Text()); grow && err == nil {
					if err := keep(n << 20); err != nil {
						fmt.Fprintln(os.Stderr, "plaind: memory:", err)
						os.Exit(5)
					}
				}
				fmt.Fprintln(c, prefix+r.Text())
			}
		}()
	}
}

// A listener has the name that LISTEN_FDNAMES gives it.
type listener struct {
	net.Listener
	name string
}

func listen(fd int, path string) ([]listener, error) {
	if path != "" {
		ln, err := net.Listen("unix", path)
		return []listener{{ln, ""}}, err
	}
	names := []string{""}
	if v := strings.TrimSuffix(os.Getenv("PLAIND"), ";"); v != "" {
		var err error
		if fd, err = strconv.Atoi(v); err != nil {
			return nil, err
		}
	} else {
		if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
			return nil, fmt.Errorf("LISTEN_PID %q is not pid %d", os.Getenv("LISTEN_PID"), os.Getpid())
		}
		names = strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
		if n := strconv.Itoa(len(names)); os.Getenv("LISTEN_FDS") != n {
			return nil, fmt.Errorf("LISTEN_FDS %q, LISTEN_FDNAMES %q", os.Getenv("LISTEN_FDS"), names)
		}
	}
	var listeners []listener
	for i, name := range names {
		ln, err := net.FileListener(os.NewFile(uintptr(fd+i), name))
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, listener{ln, name})
	}
	return listeners, nil
}

// ask connects to all, and leaves the answers for later.
func ask(paths []string) error {
	for _, path := range paths {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			fmt.Fprintln(c, "asked at start")
			r := bufio.NewScanner(c)
			r.Scan()
			fmt.Println("plaind: answered", r.Text(), r.Err())
		}()
	}
	return nil
}
