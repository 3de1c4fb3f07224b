//go:build linux

// Command standing is a standing broker and nothing else, which is told on its
// standard input what to do:
//
//	standing N FOREIGN-COMMAND…   holds the services s0 … s(N-1), each with that command
//
// It prints "held NANOSECONDS", the time from the start of main until all of them
// are held, and then answers each line "stop NAME" with "ok" when nobody runs any
// more. It ends with its standard input, and leaves the daemons alone.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

func main() {
	if err := run(time.Now()); err != nil {
		fmt.Fprintln(os.Stderr, "standing:", err)
		os.Exit(1)
	}
}

func run(began time.Time) error {
	broker.UseOneProcessor(os.Getenv("GOMAXPROCS"))
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	services := make([]broker.Service, n)
	for i := range services {
		if services[i], err = service("s"+strconv.Itoa(i), os.Args[2:]); err != nil {
			return err
		}
	}
	env := runtimedir.FromEnviron(os.Getenv, os.Geteuid(), func() string { return os.Getenv("HOME") })
	holder, err := os.MkdirTemp("", "holder.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(holder)
	life, err := launch.CreateLife(holder)
	if err != nil {
		return err
	}
	defer life.Close()
	b, err := broker.New(broker.Config{Env: env, Client: os.Environ, Holder: holder})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx, services) }()
	for _, s := range services {
		if err := ask(ctx, b, s.Definition.Service, supervise.VerbEnable); err != nil {
			cancel()
			return errors.Join(err, <-ended)
		}
	}
	fmt.Println("held", time.Since(began).Nanoseconds())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if name, ok := strings.CutPrefix(in.Text(), "stop "); ok {
			if err := ask(ctx, b, name, supervise.VerbStop); err != nil {
				fmt.Println(err)
				continue
			}
		}
		fmt.Println("ok")
	}
	cancel()
	return <-ended
}

func ask(ctx context.Context, b *broker.Broker, name string, verb supervise.Verb) error {
	a, err := b.Request(ctx, name, verb)
	if err == nil && !a.Done {
		err = fmt.Errorf("%s %s: %s", verb, name, a.Reason)
	}
	return err
}

func service(name string, command []string) (broker.Service, error) {
	d := definition.Definition{Service: name, Command: command, Foreign: true}.Complete()
	p := supervise.Policy{HangAfter: d.HangAfter, OnHang: d.OnHang, StopWithin: d.StopWithin}.Complete()
	return broker.Service{Definition: d, Policy: p}, errors.Join(d.Check(), p.Check())
}
