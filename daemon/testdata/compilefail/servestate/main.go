// Command servestate must not compile: a Serve that wants another state than Load returns.
package main

import (
	"context"
	"net"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(context.Context, *daemon.Instance) (int, error) { return 0, nil }

func (backend) Serve(context.Context, net.Listener, string) error { return nil }

func main() { daemon.Run[backend]() }
