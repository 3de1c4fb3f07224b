// Command runbad works before it becomes the daemon.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"example.com/shared"
	"example.com/startup"
	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

var motd, _ = os.ReadFile("/etc/motd") // want `initialising package main touches the disk before daemon.Run: os.ReadFile; nobody is answered`

var wait = pause() // want `initialising package main waits before daemon.Run: main.pause → time.Sleep \(main.go:\d+\); nobody`

func pause() bool {
	time.Sleep(time.Second)
	return true
}

func init() {
	_ = exec.Command("true").Start() // want `initialising package main starts a process before daemon.Run: exec.Cmd.Start; a process that is started now can inherit the daemon's listener`
}

func main() {
	cfg, err := load() // want `main touches the disk before daemon.Run: main.load → shared.Read \(main.go:\d+\) → shared.read \(shared.go:\d+\) → os.ReadFile \(shared.go:\d+\); nobody is answered and the launcher's budget runs until the listener is adopted; do this in Load`
	if err != nil {
		log.Fatal(err)
	}
	go metrics(cfg) // want `main starts a goroutine before daemon.Run: go main.metrics`
	if len(os.Args) > 1 {
		ping() // want `main uses the network before daemon.Run: main.ping → http.Get`
	}
	if len(os.Args) > 2 {
		report() // it does not go on to Run
		return
	}
	daemon.Run[backend]() // want `initialising package example.com/startup touches the disk before daemon.Run: os.ReadFile \(startup.go:\d+\); nobody` `initialising package example.com/startup starts a goroutine before daemon.Run: startup.init → go startup.watch`
	report()
	_ = startup.Host()
}

func load() ([]byte, error) { return shared.Read("/etc/runbad.conf") }

func metrics([]byte) {}

func ping() { _, _ = http.Get("http://localhost:1/") }

func report() { _ = os.WriteFile("report", motd, 0o600) }

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(context.Context, *daemon.Instance) (int, error) { return 0, nil }

func (backend) Serve(ctx context.Context, ln net.Listener, _ int) error {
	<-ctx.Done()
	return nil
}
