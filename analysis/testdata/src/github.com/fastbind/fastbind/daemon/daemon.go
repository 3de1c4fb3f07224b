// Package daemon has the declarations of the SDK that the analyzers look for.
package daemon

import (
	"context"
	"net"
	"os"

	"github.com/fastbind/fastbind"
)

type Instance struct{}

func (*Instance) ReadyLater()                 {}
func (*Instance) Ready()                      {}
func (*Instance) Progress(string, float64)    {}
func (*Instance) Endpoint() fastbind.Endpoint { return fastbind.Endpoint{} }

type Backend[S any] interface {
	~struct{}
	Bind(fastbind.Endpoint) (net.Listener, error)
	Load(context.Context, *Instance) (S, error)
	Serve(context.Context, net.Listener, S) error
}

type Option func()

func Run[B Backend[S], S any](opts ...Option)                                  { os.Exit(0) }
func Serve(serve func(context.Context, net.Listener) error, opts ...Option)    { os.Exit(0) }
func Bootstrap[B Backend[S], S any](ctx context.Context, opts ...Option) error { return nil }
func Listen(ep fastbind.Endpoint) (net.Listener, error)                        { return nil, nil }
func ConnContext(ctx context.Context, conn net.Conn) context.Context           { return ctx }
