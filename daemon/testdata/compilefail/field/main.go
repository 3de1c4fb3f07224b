// Command field must not compile: a backend with a field: its Bind could read state.
package main

import (
	"context"
	"net"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type backend struct{ cache map[string]string }

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(context.Context, *daemon.Instance) (int, error) { return 0, nil }

func (backend) Serve(context.Context, net.Listener, int) error { return nil }

func main() { daemon.Run[backend]() }
