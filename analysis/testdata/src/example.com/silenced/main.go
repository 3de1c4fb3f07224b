// Command silenced has a fault of each kind, and a reason for each.
package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	//fastbindvet:ignore bind the test waits for a daemon that is late
	time.Sleep(time.Second)
	prepare()
	prepareAll()
	prepareToo() // want `Bind touches the disk: main.prepareToo → os.Mkdir`
	return daemon.Listen(ep)
}

// At the origin a comment holds for all who come there.
func prepare() {
	_ = os.Mkdir("/tmp/x", 0o700) //fastbindvet:ignore bind a memory file system
}

// Of another check it does not.
func prepareToo() {
	_ = os.Mkdir("/tmp/x", 0o700) //fastbindvet:ignore beforerun a memory file system
}

func (backend) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater() //fastbindvet:ignore ready the test looks at the phase
	return 0, nil
}

//fastbindvet:ignore serve the test kills it
func (backend) Serve(ctx context.Context, ln net.Listener, _ int) error { select {} }

// Twice in one function.
//
//fastbindvet:ignore bind a memory file system
func prepareAll() {
	_ = os.Mkdir("/tmp/x", 0o700)
	_ = os.Mkdir("/tmp/y", 0o700)
}

func listen(path string) (net.Listener, error) {
	_ = os.Remove(path) //fastbindvet:ignore unlink the directory was made just now
	return net.Listen("unix", path)
}

func main() {
	//fastbindvet:ignore beforerun it is counted how often it is executed
	_ = os.WriteFile("runs", nil, 0o600)
	prepare() // want `main touches the disk before daemon.Run`
	prepareToo()
	daemon.Run[backend]()
}
