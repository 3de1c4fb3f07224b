// Command bindstate must not compile: a Bind that takes state.
package main

import (
	"context"
	"net"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint, state int) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(context.Context, *daemon.Instance) (int, error) { return 0, nil }

func (backend) Serve(context.Context, net.Listener, int) error { return nil }

func main() { daemon.Run[backend]() }
