package fastbind

import (
	"context"
	"errors"
	"time"

	"github.com/fastbind/fastbind/internal/launch"
)

// fallbackWithin bounds a TryDial whose caller set no deadline: who can do
// without a daemon does not wait for one.
const fallbackWithin = 2 * time.Second

// TryDial is Dial for a tool that can go on without its daemon. It returns a
// connection, or nil and the typed reason to do the work in this process; never
// both nil. The reason goes into the service's journal as a fallback, so that a
// tool that has become slow can be asked why (fastbind why NAME).
//
// It blocks as Dial does, but at most 2 s if ctx has no deadline. What happens
// to the connection later is the caller's to notice; Fallback journals that.
func TryDial(ctx context.Context, s Service, opts ...Option) (*Conn, *Error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, fallbackWithin)
		defer cancel()
	}
	began := time.Now()
	conn, err := Dial(ctx, s, opts...)
	if err == nil {
		return conn, nil
	}
	reason, ok := errors.AsType[*Error](err)
	if !ok {
		f := &launch.Fault{Class: launch.Refusal, Service: s.Name, Instance: s.Instance,
			Stage: launch.StageConnect, Err: err, Status: -1}
		reason = publicError(f).(*Error)
	}
	s.noteFallback(reason, time.Since(began))
	return nil, reason
}

// Fallback journals that the tool goes on without the daemon, and why: for a
// connection that was lost while it was in use. It never fails and writes
// nothing for a service that was never launched.
func (s Service) Fallback(reason error) { s.noteFallback(reason, 0) }

func (s Service) noteFallback(reason error, after time.Duration) {
	b, err := s.broker()
	if err != nil || reason == nil {
		return
	}
	b.NoteFallback(reason, after)
}
