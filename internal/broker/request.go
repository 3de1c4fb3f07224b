package broker

import (
	"context"
	"errors"

	"github.com/fastbind/fastbind/internal/broker/supervise"
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
