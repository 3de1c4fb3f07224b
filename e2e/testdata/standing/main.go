//go:build unix

// Command standing is a standing broker of the end-to-end tests: it holds the service
// "t", whose daemon is testprog, until it is killed or its stdin ends. Its options end
// it before a step, as testprog's do.
//
//	standing [-kill-at STEP [-second]] [-until held|served] [-idle D] [-hang-after D] DIRECTORY PROGRAM ARG…
//
// With -until it ends when it holds, or has been a client of its own and was served.
// DIRECTORY is where it makes the directory that stands for its generation's.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

func main() {
	step := flag.Int("kill-at", -1, "kill this process before a step")
	second := flag.Bool("second", false, "of a launch, not of holding")
	until := flag.String("until", "", "what to end at")
	idle := flag.Duration("idle", 0, "idle exit of the daemon")
	hangAfter := flag.Duration("hang-after", 0, "of the service")
	flag.Parse()
	if *step >= 0 {
		killAt(launch.Step(*step), *second)
	}
	d := definition.Definition{Service: "t", Command: flag.Args()[1:], Env: []string{"TESTPROG_EXECS"}, IdleExit: *idle, HangAfter: *hangAfter}
	if err := run(flag.Arg(0), d.Complete(), *until); err != nil {
		fmt.Fprintln(os.Stderr, "standing:", err)
		os.Exit(1)
	}
}

// killAt ends this process before the step. The second time that the protocol is run is
// the launch, unless there was somebody to be adopted.
func killAt(step launch.Step, second bool) {
	runs := 0
	launch.OnStep = func(s launch.Step) { // of one service there is one run at a time
		if s == step && (runs > 0) == second {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if s == launch.StepDone {
			runs++
		}
	}
}

// ask is a client that knows nothing of fastbind.
func ask(sock string) {
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "7\n")
	_, _ = conn.Read(make([]byte, 1))
}

func run(dir string, d definition.Definition, until string) error {
	holder, err := os.MkdirTemp(dir, "holder")
	if err != nil {
		return err
	}
	life, err := launch.CreateLife(holder)
	if err != nil {
		return err
	}
	defer life.Close()
	p := supervise.Policy{HangAfter: d.HangAfter, OnHang: d.OnHang, StopWithin: d.StopWithin}.Complete()
	env := runtimedir.FromEnviron(os.Getenv, os.Geteuid(), func() string { return os.Getenv("HOME") })
	b, err := broker.New(broker.Config{Env: env, Client: os.Environ, Holder: holder})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		if until == "" {
			_, _ = io.Copy(io.Discard, os.Stdin)
			return
		}
		for launch.Holder(filepath.Join(env.RuntimeDir, "default", "t")) != holder {
			time.Sleep(time.Millisecond)
		}
		if until == "served" {
			ask(filepath.Join(env.RuntimeDir, "default", "t", "sock"))
		}
	}()
	return b.Run(ctx, []broker.Service{{Definition: d, Policy: p}})
}
