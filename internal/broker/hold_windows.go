package broker

import (
	"context"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// holdOn keeps our hold on a generation's queue, of which it tells until told is closed;
// nil before there is a hold. A daemon that had to wait for us tells no more, and is asked
// again: what we have of its queue is nothing by then.
func (b *Broker) holdOn(ctx context.Context, s *service, r *run, told <-chan struct{}) {
	held := r.serving()
	if held == nil {
		return // it is given up
	}
	r.looking.Go(func() {
		for {
			if told == nil {
				// Not until the generation ends: what it has told is still to be heard.
				c, again := b.takeHold(s.ctx, s, r, held)
				if told = again; told == nil {
					if ctx.Err() != nil {
						return
					}
					continue
				}
				// Whoever was to close it may be gone.
				defer context.AfterFunc(s.ctx, func() { _ = c.Close() })()
			}
			<-told // at the latest when the process ends
			if !launch.Alone(r.entry.Dir) || ctx.Err() != nil {
				return
			}
			told = nil
			b.post(s.ctx, s.key, func(*service) supervise.Event {
				if r.hold != nil {
					_ = r.hold.Close()
					r.hold = nil
				}
				return nil
			})
		}
	})
}

// shareOf returns what follows the queue of a generation until that ends, whether or not the
// service goes on with it; giveUp closes it.
func shareOf(held *launch.Holding) *launch.Holding {
	if held == nil {
		return nil
	}
	share, _ := held.Copy() // nil if it is given up
	return share
}

func giveUp(share *launch.Holding) {
	if share != nil {
		_ = share.Close()
	}
}

// endHold says that the generation has ended: whoever waits in what it served from is
// nobody else's.
func (b *Broker) endHold(r *run) {
	if held := r.serving(); held != nil {
		launch.EndHold(held, r.entry)
	}
}

// askToEnd asks a generation to end, apart from the loop: there is no signal that would
// not wait for an answer.
func (b *Broker) askToEnd(s *service, r *run, e launch.Entry, h *proc.Handle) bool {
	b.begin(s, func(ctx context.Context) func(*service) supervise.Event {
		_ = launch.AskToEnd(ctx, r.place, e, h)
		return failedTo(nil)
	})
	return true
}

// watchesNames: a pipe's name cannot be deleted.
const watchesNames = false

// waitingAt is how many wait at what is held, -1 if nothing is.
func waitingAt(held *launch.Holding) int {
	if held == nil {
		return -1
	}
	return held.Socket().Waiting()
}
