package supervise

import (
	"cmp"
	"container/heap"
	"time"
)

// A Schedule holds the next deadline of each of many services, so that one timer serves
// them all. Each operation takes time logarithmic in their number. The zero value is
// empty and usable; it is not safe for concurrent use.
type Schedule struct {
	queue deadlines
	at    map[string]*deadline
}

type deadline struct {
	service string
	at      time.Duration
	index   int // in queue
}

// Set says when a service's deadline is (boot-time clock), instead of what was said
// before; 0: it has none. It is what [SetTimer] asks for.
func (s *Schedule) Set(service string, at time.Duration) {
	d := s.at[service]
	switch {
	case at == 0 && d == nil:
	case at == 0:
		heap.Remove(&s.queue, d.index)
		delete(s.at, service)
	case d == nil:
		if s.at == nil {
			s.at = map[string]*deadline{}
		}
		d = &deadline{service: service, at: at}
		s.at[service] = d
		heap.Push(&s.queue, d)
	default:
		d.at = at
		heap.Fix(&s.queue, d.index)
	}
}

// Next is the earliest deadline, 0 if there is none.
func (s *Schedule) Next() time.Duration {
	if len(s.queue) == 0 {
		return 0
	}
	return s.queue[0].at
}

// Due takes the services out whose deadline has come, the earliest first, by name where
// it is the same. Each is to be told with a [Timer], and says itself what it wants next.
// So who wants to be told again at once is told after the others.
func (s *Schedule) Due(now time.Duration) []string {
	var due []string
	for len(s.queue) > 0 && s.queue[0].at <= now {
		d := heap.Pop(&s.queue).(*deadline)
		delete(s.at, d.service)
		due = append(due, d.service)
	}
	return due
}

// Len is how many services have a deadline.
func (s *Schedule) Len() int { return len(s.queue) }

// deadlines is a heap, for container/heap.
type deadlines []*deadline

func (q deadlines) Len() int { return len(q) }

func (q deadlines) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].service, q[j].service)) < 0
}

func (q deadlines) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *deadlines) Push(x any) {
	d := x.(*deadline)
	d.index = len(*q)
	*q = append(*q, d)
}

func (q *deadlines) Pop() any {
	old := *q
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return d
}
