package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type greeter struct{}

func (greeter) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (greeter) Load(ctx context.Context, inst *daemon.Instance) ([]string, error) {
	inst.Progress("learning greetings", 0.5)
	time.Sleep(300 * time.Millisecond) // an index, a cache, a model: clients queue meanwhile
	return []string{"hello", "bonjour", "hola", "moin"}, nil
}

func (greeter) Serve(ctx context.Context, ln net.Listener, greetings []string) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go greet(conn, greetings[rand.N(len(greetings))])
	}
}

// greet answers a name on a line.
func greet(conn net.Conn, greeting string) {
	defer conn.Close()
	name, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	fmt.Fprintf(conn, "%s, %s! I am the daemon, pid %d\n", greeting, strings.TrimSpace(name), os.Getpid())
}
