// Command stages is a client and its daemon, made with fastbind, that say when
// they reached each stage of a launch.
//
//	stages LOAD            dials, sends a line; prints when it began, was connected
//	                       and had the reply, and what the daemon said
//	stages --daemon LOAD   takes LOAD to load, then answers each line with when it
//	                       began and when it was ready
//
// A time is the monotonic clock in nanoseconds, which all processes share.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

var began = now()

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(ctx context.Context, inst *daemon.Instance) (struct{}, error) {
	d, err := time.ParseDuration(os.Args[2])
	if err == nil && d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return struct{}{}, err
}

func (backend) Serve(ctx context.Context, ln net.Listener, _ struct{}) error {
	ready := now()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				_, _ = fmt.Fprintf(conn, "%d %d\n", began, ready)
			}
		}()
	}
}

func main() {
	if os.Args[1] == "--daemon" {
		daemon.Run[backend]()
	}
	if err := client(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func client(load string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := fastbind.Dial(ctx, fastbind.Service{Name: "stages", Args: []string{"--daemon", load}})
	if err != nil {
		return err
	}
	defer conn.Close()
	connected := now()
	if _, err := conn.Write([]byte("when\n")); err != nil {
		return err
	}
	said, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	_, err = fmt.Println(began, connected, now(), said)
	return err
}
