package gocache

// This file and the four lines elsewhere that call service are everything that
// fastbind asks of gocache. TestAdoption counts them.

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// client side

func service(c config) fastbind.Service {
	return fastbind.Service{Name: c.serviceName(), Args: []string{Hidden, "daemon"}, IdleExit: time.Hour, Env: []string{
		"GOCACHE_DIR=" + c.dir, "GOCACHE_MAX=" + strconv.FormatInt(c.max, 10), "GOCACHE_LOAD_FOR"}}
}

var dial = fastbind.TryDial

// daemon side

type backend struct{}

func (backend) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

func (backend) Load(ctx context.Context, inst *daemon.Instance) (*server, error) {
	inst.ReadyLater()
	return newServer(ctx, os.Environ(), inst.Progress, inst.Ready)
}

func (backend) Serve(ctx context.Context, ln net.Listener, s *server) error { return s.serve(ctx, ln) }

func runDaemon() { daemon.Run[backend]() }
