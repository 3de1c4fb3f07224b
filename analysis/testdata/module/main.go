// Command example breaks each rule once, with the SDK itself.
package main

import (
	"context"
	"net"
	"net/http"
	"os"

	"example.org/example/conf"
	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

func main() {
	conf.Read("/etc/example.conf")
	daemon.Run[backend]()
}

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	conf.Read("/etc/example.conf")
	if conf.Verbose {
		println(ep.Path())
	}
	return daemon.Listen(ep)
}

func (backend) Load(ctx context.Context, inst *daemon.Instance) (*http.Server, error) {
	inst.ReadyLater()
	return &http.Server{Handler: http.NotFoundHandler()}, nil
}

func (backend) Serve(ctx context.Context, ln net.Listener, srv *http.Server) error {
	defer os.Remove(ln.Addr().String())
	return srv.Serve(ln)
}
