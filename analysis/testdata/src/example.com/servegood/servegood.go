// Package servegood has daemons that a stop ends.
package servegood

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// It returns when Accept fails.
type accepts struct{}

func (accepts) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (accepts) Serve(_ context.Context, ln net.Listener, _ int) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go conn.Close()
	}
}

// It goes on when that is right.
type temporary struct{}

func (temporary) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (temporary) Serve(_ context.Context, ln net.Listener, _ int) error {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue
		}
		go conn.Close()
	}
}

// It is another's loop.
type hands struct{}

func (hands) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (hands) Serve(_ context.Context, ln net.Listener, _ int) error { return loop(ln) }

func loop(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			break
		}
		conn.Close()
	}
	return nil
}

type web struct{}

func (web) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (web) Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := http.Server{Handler: h}
	context.AfterFunc(ctx, func() { _ = srv.Shutdown(context.Background()) })
	return srv.Serve(ln)
}

func small() {
	daemon.Serve(func(ctx context.Context, ln net.Listener) error {
		go func() {
			<-ctx.Done()
			ln.Close()
		}()
		return http.Serve(ln, nil)
	})
}

// Not a daemon's.
type server struct{}

func (server) Serve(ctx context.Context, ln net.Listener, n int) error { select {} }
