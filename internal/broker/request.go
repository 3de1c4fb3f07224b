package broker

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
)

// Reasons for which a broker is not asked.
var (
	ErrEnded   = errors.New("the broker has ended")
	ErrUnknown = errors.New("the broker has no such service")
)

// call has the loop run f, and waits for that.
func (b *Broker) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case b.events <- posted{0, func(*service) supervise.Event { f(); close(done); return nil }}:
	case <-b.ended:
		return ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-done:
		return nil
	case <-b.ended:
		return ErrEnded
	}
}

// Set makes the services of the broker those, of which each has another name. It
// begins to hold what is new. What has changed holds as [supervise.Applies] says. What
// is not among them it lets go of: what runs of it runs on, and whoever dials launches
// as without a broker. It does not wait for any of that.
func (b *Broker) Set(ctx context.Context, services []Service) error {
	return b.call(ctx, func() { b.set(services) })
}

// Request asks something for a service and waits for the answer, which comes in its
// own time, or until ctx ends: what was begun is done all the same then. The error is
// ErrUnknown, ErrEnded or ctx's cause.
func (b *Broker) Request(ctx context.Context, name string, verb supervise.Verb) (supervise.Answer, error) {
	answer := make(chan supervise.Answer, 1)
	var id uint64
	known := false
	err := b.call(ctx, func() {
		s := b.names[name]
		if known = s != nil; !known {
			return
		}
		b.lastID++
		id = b.lastID
		b.requests[id] = answer
		b.next(s, supervise.Requested{ID: id, Verb: verb})
	})
	switch {
	case err != nil:
		return supervise.Answer{}, err
	case !known:
		return supervise.Answer{}, ErrUnknown
	}
	select {
	case a := <-answer:
		return a, nil
	case <-b.ended:
		return supervise.Answer{}, ErrEnded
	case <-ctx.Done():
		_ = b.call(context.WithoutCancel(ctx), func() {
			delete(b.requests, id)
			if s := b.names[name]; s != nil {
				b.next(s, supervise.Withdrawn{ID: id})
			}
		})
		return supervise.Answer{}, context.Cause(ctx)
	}
}

// A View is a service as the broker sees it. It is a plain value.
type View struct {
	Definition definition.Definition
	Machine    supervise.Machine // what was decided
	Waits      bool              // somebody waits in the queue of one of our listeners
}

// List returns the broker's services, by name.
func (b *Broker) List(ctx context.Context) ([]View, error) {
	var list []View
	err := b.call(ctx, func() {
		for _, s := range b.names {
			list = append(list, View{s.Definition, s.machine, s.held != nil && s.held.Waits()})
		}
	})
	slices.SortFunc(list, func(x, y View) int { return strings.Compare(x.Definition.Service, y.Definition.Service) })
	return list, err
}
