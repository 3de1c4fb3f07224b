// Command greeter is a small tool with a daemon of its own, in one executable:
//
//	go run ./examples/greeter [NAME]
//
// The first run launches the daemon and is connected before that has loaded its
// greetings; every later one is answered by the same process.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--daemon" {
		daemon.Run[greeter]()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	began := time.Now()
	conn, err := fastbind.Dial(ctx, fastbind.Service{Name: "greeter", Args: []string{"--daemon"}})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	connected := time.Since(began)

	fmt.Fprintln(conn, name())
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		log.Fatal(err) // if the daemon died, this says why
	}
	fmt.Print(answer)
	fmt.Printf("connected after %v, answered after %v\n",
		connected.Round(time.Microsecond), time.Since(began).Round(time.Microsecond))
}

func name() string {
	if len(os.Args) > 1 {
		return os.Args[1]
	}
	return "gopher"
}
