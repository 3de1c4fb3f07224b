// Package servebad has daemons that a stop does not end.
package servebad

import (
	"context"
	"log"
	"net"
	"net/http"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

type bind struct{}

func (bind) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

type forever struct{}

func (forever) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (forever) Serve(ctx context.Context, ln net.Listener, _ int) error {
	for {
		conn, err := ln.Accept() // want `Serve never looks at its context, and goes on when Accept fails: a stop ends it only by killing it; return when Accept fails, or when ctx ends`
		if err != nil {
			log.Print(err)
			continue
		}
		conn.Close()
	}
}

type blind struct{}

func (blind) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (blind) Serve(_ context.Context, ln net.Listener, n int) error { // want `Serve looks neither at its context nor at Accept's error`
	select {}
}

type web struct{}

func (web) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (web) Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := http.Server{Handler: h}
	return srv.Serve(ln) // want `Serve never looks at its context, and gives the listener to http.Server.Serve, which keeps idle connections: a stop waits for them until stop_within is over; end them when ctx ends, as with context.AfterFunc`
}

// Only handed on to who does not look at it.
type hands struct{}

func (hands) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (hands) Serve(ctx context.Context, ln net.Listener, n int) error { return loop(ctx, ln) }

func loop(ctx context.Context, ln net.Listener) error {
	for {
		conn, _ := ln.Accept() // want `Serve never looks at its context, and goes on when Accept fails`
		go conn.Close()
	}
}

func small() {
	daemon.Serve(func(ctx context.Context, ln net.Listener) error {
		return http.Serve(ln, nil) // want `gives the listener to http.Serve, which keeps idle connections`
	})
}

func smaller() {
	daemon.Serve(method{}.serve)
}

type method struct{}

func (method) serve(ctx context.Context, ln net.Listener) error {
	for {
		if conn, err := ln.Accept(); err == nil { // want `Serve never looks at its context, and goes on when Accept fails`
			conn.Close()
		}
	}
}
