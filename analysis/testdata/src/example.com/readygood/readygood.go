// Package readygood has daemons that are ready in the end.
package readygood

import (
	"context"
	"net"

	"example.com/loader"
	"github.com/fastbind/fastbind/daemon"
)

type literal struct{}

func (literal) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater()
	go func() {
		defer inst.Ready()
	}()
	return 0, nil
}

// By a method value.
type value struct{}

type state struct{ ready func() }

func (value) Load(ctx context.Context, inst *daemon.Instance) (*state, error) {
	inst.ReadyLater()
	return &state{inst.Ready}, nil
}

func (value) Serve(ctx context.Context, ln net.Listener, s *state) error {
	s.ready()
	return nil
}

// By another package.
type far struct{}

func (far) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater()
	go loader.Load(inst)
	return 0, nil
}

// In Serve, by what was loaded.
type kept struct{}

type keeper[T any] struct{ inst *daemon.Instance }

func (k *keeper[T]) load() { k.inst.Ready() }

func (kept) Load(ctx context.Context, inst *daemon.Instance) (*keeper[int], error) {
	inst.ReadyLater()
	return &keeper[int]{inst}, nil
}

func (kept) Serve(ctx context.Context, ln net.Listener, k *keeper[int]) error {
	go k.load()
	return nil
}

// By an interface.
type reporter interface{ report(*daemon.Instance) }

type eager struct{}

func (eager) report(inst *daemon.Instance) { inst.Ready() }

type abstract struct{}

func (abstract) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	inst.ReadyLater()
	var r reporter = eager{}
	r.report(inst)
	return 0, nil
}
