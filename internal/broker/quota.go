package broker

import (
	"context"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// A quota is kept by looking at what the daemons have when there is one more, and now
// and then as long as one runs: memory grows, and who is needed now is not later. Without
// a quota, or without a daemon, nothing is done. A daemon is asked, and woken by that,
// only if somebody would have to go; what the kernel knows of it costs it nothing.

// weighEvery is the time between two looks while nothing is launched.
const weighEvery = 10 * time.Second

// A weighing is what is done about the quota. It belongs to the loop.
type weighing struct {
	at     time.Duration // boot-time clock, of the next look; 0: none is due
	looks  bool          // one is under way
	excess supervise.Excess
}

// next is when the loop has to look, 0 if it has not.
func (w weighing) next() time.Duration {
	if w.looks {
		return 0
	}
	return w.at
}

// A load is what a daemon has, and is to its clients. But for its run, which is the
// loop's, it belongs to who looks.
type load struct {
	sketch
	key    uint64
	run    *run
	limit  uint64        // bytes that its definition allows; 0: no limit
	used   time.Duration // boot-time clock
	asked  bool          // the daemon was, if it is one that answers
	serves int           // connections of a foreign daemon, -1 if that is not known
}

// quota is what is set now.
func (b *Broker) quota() supervise.Quota {
	if b.config.Quota == nil {
		return supervise.Quota{}
	}
	return b.config.Quota()
}

// reweigh has the loop look at once: there is one more daemon, or another quota.
func (b *Broker) reweigh() { b.weighing.at = proc.BootTime() }

// weigh looks at what the daemons have if that is due.
func (b *Broker) weigh(now time.Duration) {
	w := &b.weighing
	if at := w.next(); at == 0 || at > now {
		return
	}
	w.at = 0
	q := b.quota()
	var list []load
	if q != (supervise.Quota{}) {
		for _, s := range b.services {
			if r := s.runs[s.machine.Run.Number]; r != nil {
				list = append(list, load{sketch: s.view(), key: s.key, run: r, limit: uint64(r.aid.service.Limits.Memory), used: r.used, serves: -1})
			}
		}
	}
	if len(list) == 0 {
		w.excess = supervise.Excess{}
		return
	}
	w.looks = true
	b.under.Go(func() {
		gone, over := measure(b.ctx, q, list)
		b.post(b.ctx, 0, func(*service) supervise.Event {
			b.weighed(q, list, gone, over)
			return nil
		})
	})
}

// measure says who has to go. It blocks for a second at most.
func measure(ctx context.Context, q supervise.Quota, list []load) ([]supervise.Dismissal, supervise.Excess) {
	var foreign []backlog.Inode
	sketches := make([]*sketch, len(list))
	for i := range list {
		l := &list[i]
		l.look()
		if sketches[i] = &l.sketch; !l.backend {
			l.run.taken()
			foreign = append(foreign, l.inodes...)
		}
	}
	count(sketches)
	if len(foreign) > 0 {
		if served, err := backlog.Served(foreign...); err == nil {
			for i := range list {
				list[i].count(served)
			}
		}
	}
	gone, over := q.Dismiss(usages(list))
	if len(gone) == 0 {
		return nil, over // and fewer would be if more of them were needed
	}
	ask(ctx, sketches)
	for i := range list {
		list[i].asked = true
	}
	return q.Dismiss(usages(list))
}

// count says how many connections a foreign daemon serves, if all listeners are among
// those that were asked for.
func (l *load) count(served map[backlog.Inode]int) {
	if l.backend || len(l.inodes) == 0 {
		return
	}
	sum := 0
	for _, inode := range l.inodes {
		n, ok := served[inode]
		if !ok {
			return
		}
		sum += n
	}
	l.serves = sum
}

// usages are the loads as the decision needs them. Who is needed is used now.
func usages(list []load) []supervise.Usage {
	now := proc.BootTime()
	usages := make([]supervise.Usage, len(list))
	for i := range list {
		l := &list[i]
		switch {
		case l.needed():
			l.used = now
		case l.lastUse != 0:
			l.used = l.lastUse
		}
		limit := l.limit
		if l.needed() {
			limit = 0 // a stop kills who serves for too long
		}
		usages[i] = supervise.Usage{Service: l.Name, Used: l.used, Memory: uint64(max(l.Memory, 0)), Limit: limit, Busy: l.needed(),
			Leaving: l.State == supervise.Draining || l.Phase == record.Draining || l.Phase.Final()}
	}
	return usages
}

// needed reports whether somebody would miss the daemon, or may: it does not say, or its
// end would leave an endpoint that nobody holds. One that was not asked yet is assumed to
// have no clients.
func (l *load) needed() bool {
	switch {
	case !l.Holding, l.State != supervise.Ready, l.Waiting > 0:
		return true
	case !l.backend:
		return l.serves != 0
	}
	return l.asked && (l.Connections != 0 || l.leases > 0)
}

// weighed asks those to end who have to, and notes what was seen.
func (b *Broker) weighed(q supervise.Quota, list []load, gone []supervise.Dismissal, over supervise.Excess) {
	now := proc.BootTime()
	w := &b.weighing
	if w.looks, w.excess = false, over; w.at == 0 {
		w.at = now + b.every
	}
	for i := range list {
		list[i].run.used = max(list[i].run.used, list[i].used)
	}
	if q != b.quota() {
		return // the next look, which is due, says who has to go
	}
	for _, d := range gone {
		for i := range list {
			if l := &list[i]; l.Name == d.Service {
				b.dismiss(l, d.Reason)
			}
		}
	}
}

// dismiss asks a daemon to end as a stop does, which leaves its service held, unless what
// was seen of it is not so any more.
func (b *Broker) dismiss(l *load, reason string) {
	s := b.services[l.key]
	if s == nil || s.held == nil || s.machine.State != supervise.Ready || s.runs[s.machine.Run.Number] != l.run {
		return
	}
	s.note(journal.Event{Kind: "dismissed", Generation: l.run.entry.Number, PID: l.PID, Reason: reason})
	b.next(s, supervise.Requested{Verb: supervise.VerbStop})
}
