// Package unlinksdk uses the SDK and removes the endpoint's name.
package unlinksdk

import (
	"context"
	"net"
	"os"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	_ = os.Remove(ep.Path()) // want `Bind touches the disk: os.Remove` `the endpoint's path is removed by hand \(os.Remove\): it belongs to who holds the launch lock, and the next client would launch a second daemon; leave it`
	return daemon.Listen(ep)
}

func (backend) Serve(ctx context.Context, ln net.Listener, inst *daemon.Instance) error {
	defer os.Remove(ln.Addr().String()) // want `the endpoint's path is removed by hand`
	defer func() {
		_ = os.Remove(inst.Endpoint().String()) // want `the endpoint's path is removed by hand`
	}()
	<-ctx.Done()
	return nil
}

const admin = "/run/admin.sock"

func open() (net.Listener, error) { return net.Listen("unix", admin) }

func shut(ln net.Listener) {
	ln.Close()
	_ = os.Remove(admin) // want `a path that is listened on \(unlinksdk.go:\d+\) is removed by hand`
	_ = os.Remove(admin + ".pid")
}
