// Package readybad has daemons that are never ready.
package readybad

import (
	"context"
	"net"

	"example.com/loader"
	"github.com/fastbind/fastbind/daemon"
)

type never struct{}

func (never) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater() // want `ReadyLater is called, and nothing that never.Load or the backend's Serve leads to calls Ready: the daemon stays in phase loading for ever; call Instance.Ready when the loading is done`
	go func() { inst.Progress("done", 1) }()
	return 0, nil
}

func (never) Serve(ctx context.Context, ln net.Listener, _ int) error { return nil }

// The other package does not report either.
type forgets struct{}

func (forgets) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater() // want `ReadyLater is called`
	go loader.Forget(inst)
	return 0, nil
}

// Another daemon of the package does.
type other struct{}

func (other) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater()
	go inst.Ready()
	return 0, nil
}
