package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/proc"
)

// Metrics is what a broker has counted since it began. It is a plain value.
type Metrics struct {
	Since    time.Time
	Services []ServiceMetrics // by name, those that the broker has

	Quota  supervise.Quota  // zero if none is set
	Excess supervise.Excess // what could not be kept of it at the last look, since it is in use
}

// ServiceMetrics is what was counted of one service, by this broker. Those of a
// service that was let go of are gone with it.
type ServiceMetrics struct {
	Service string

	Launches uint64            // processes that were started
	Restarts uint64            // of them, those that followed a failure
	Failures map[string]uint64 // launches that came to nothing and generations that failed, by stage

	Launch Histogram // from the decision to launch until the process was there
	Ready  Histogram // from then until it was ready
}

// Buckets are the upper bounds of a Histogram's buckets but the last, which has none.
// A launch takes a millisecond, loading may take minutes.
var Buckets = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond,
	20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute,
}

// A Histogram counts durations. The zero value has none. It is a plain value.
type Histogram struct {
	Counts [len(Buckets) + 1]uint64 // of each bucket by itself, not of those below
	Sum    time.Duration
}

// Count returns how many durations there are.
func (h Histogram) Count() uint64 {
	var n uint64
	for _, c := range h.Counts {
		n += c
	}
	return n
}

func (h *Histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(Buckets[:], d)
	h.Counts[i]++
	h.Sum += d
}

// Metrics returns what was counted.
func (b *Broker) Metrics(ctx context.Context) (Metrics, error) {
	var m Metrics
	err := b.call(ctx, func() {
		m.Since, m.Quota, m.Excess = b.since, b.quota(), b.weighing.excess
		for name, s := range b.names {
			c := s.counts
			c.Service, c.Failures = name, maps.Clone(c.Failures)
			m.Services = append(m.Services, c)
		}
	})
	slices.SortFunc(m.Services, func(x, y ServiceMetrics) int { return strings.Compare(x.Service, y.Service) })
	return m, err
}

// failed counts a failure.
func (s *service) failed(stage, reason string) {
	if s.counts.Failures == nil {
		s.counts.Failures = map[string]uint64{}
	}
	s.counts.Failures[stage]++
	s.broken, s.lastFailure, s.failedAt = true, reason, time.Now()
}

// launches counts a process that was started, and the time that it took.
func (s *service) launches(took time.Duration) {
	s.counts.Launches++
	s.counts.Launch.observe(took)
	if s.broken {
		s.counts.Restarts++
		s.broken = false
	}
}

// ready counts the time that a generation took.
func (s *service) ready(number uint64) {
	r := s.runs[number]
	if r == nil {
		return
	}
	r.readyAt = time.Now()
	if r.began != 0 {
		s.counts.Ready.observe(proc.BootTime() - r.began)
	}
}
