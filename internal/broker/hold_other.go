//go:build !windows

package broker

import (
	"context"

	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// holdOn takes our hold on a generation that we have launched. It is the connection's, and
// the listener is ours.
func (b *Broker) holdOn(ctx context.Context, s *service, r *run, _ <-chan struct{}) {
	if held := r.serving(); held != nil {
		b.under.Go(func() { b.takeHold(ctx, s, r, held) })
	}
}

// shareOf is for who has to follow a queue: this one is the listener's.
func shareOf(held *launch.Holding) *launch.Holding { return held }

func giveUp(*launch.Holding) {}

func (b *Broker) endHold(*run) {}

// askToEnd asks a generation to end, and reports whether that was done.
func (b *Broker) askToEnd(s *service, r *run, e launch.Entry, h *proc.Handle) bool {
	return launch.AskToEnd(s.ctx, r.place, e, h) == nil
}

// watchesNames: names of a listener can be deleted.
const watchesNames = true

// waitingAt: the kernel tells of all listeners at once (package backlog).
func waitingAt(*launch.Holding) int { return -1 }
