package broker

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A View is a service as the broker sees it. It is a plain value; what it refers to
// is only read.
type View struct {
	Name       string
	Definition definition.Definition
	State      supervise.State
	Holding    bool      // we have copies of its listeners
	Waiting    int       // connections that nobody has accepted, at all of its endpoints; -1 if the system does not tell
	RetryAt    time.Time // when it is launched or bound again, zero if that is not set
	Reason     string    // of State supervise.Refusing

	// Of the generation that serves, is about to or ends; zero without one.
	Number      uint64
	Phase       record.Phase
	PID         int          // its main process, 0 until it is known
	Since       time.Time    // when it was launched
	ReadyAt     time.Time    // when it became ready, or was found ready; zero before
	Status      string       // what it says of itself (STATUS=)
	Memory      int64        // bytes of its cgroup, or resident ones of its main process; -1 if unknown
	Connections int          // being served, as it says; -1 if it does not
	Limits      limit.Report // what became of each limit that is wanted

	// As long as this broker has the service.
	Restarts    uint64 // launches that followed a failure
	LastFailure string // what is known of it, "" if none is
	FailedAt    time.Time
}

// List returns the broker's services, by name: those that are named, as far as it has
// them, or all if there is no name. It asks the kernel and the daemons of what the broker
// does not know, and blocks for no longer than a second for that.
func (b *Broker) List(ctx context.Context, names ...string) ([]View, error) {
	var list []sketch
	err := b.call(ctx, func() {
		for name, s := range b.names {
			if len(names) == 0 || slices.Contains(names, name) {
				list = append(list, s.view())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	sketches := make([]*sketch, len(list))
	for i := range list {
		if sketches[i] = &list[i]; list[i].entry.Dir != "" {
			list[i].look()
		}
	}
	count(sketches)
	ask(ctx, sketches)
	views := make([]View, len(list))
	for i, v := range list {
		views[i] = v.View
	}
	slices.SortFunc(views, func(x, y View) int { return strings.Compare(x.Name, y.Name) })
	return views, nil
}

// count asks the kernel who waits.
func count(list []*sketch) {
	queues, err := backlog.Dump()
	if err != nil {
		return
	}
	for _, v := range list {
		for _, inode := range v.inodes {
			if q, ok := queues[inode]; ok {
				v.Waiting = max(v.Waiting, 0) + q.Pending
			}
		}
	}
}

// ask asks the backends that are ready for whom they serve. It blocks for a second at
// most.
func ask(ctx context.Context, list []*sketch) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var asked sync.WaitGroup
	room := make(chan struct{}, maxAsked)
	for _, v := range list {
		if v.backend && v.Phase == record.Ready {
			asked.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				v.ask(ctx)
			})
		}
	}
	asked.Wait()
}

// maxAsked is how many daemons are asked at a time.
const maxAsked = 16

// A sketch is a view that is completed outside of the loop.
type sketch struct {
	View
	inodes  []backlog.Inode // of the listeners that we have
	where   runtimedir.Place
	entry   launch.Entry // of generation Number
	cgroup  limit.Place
	backend bool
	leases  int           // that are held, as it says
	lastUse time.Duration // boot-time clock: when it was needed last, as it says; 0 if it does not, or is
}

// view is made by the loop.
func (s *service) view() sketch {
	m := s.machine
	v := sketch{View: View{Name: s.Definition.Service, Definition: s.Definition, State: m.State, Holding: s.held != nil,
		Waiting: waitingAt(s.held), RetryAt: wall(m.RetryAt()), Reason: m.Reason, Number: supervise.Generation(m.Run.Number), Memory: -1, Connections: -1,
		Restarts: s.counts.Restarts, LastFailure: s.lastFailure, FailedAt: s.failedAt}}
	if s.held != nil {
		for _, sock := range s.held.Sockets() {
			if inode, err := backlog.InodeOf(descriptor(sock.FD())); err == nil {
				v.inodes = append(v.inodes, inode)
			}
		}
	}
	if r := s.runs[m.Run.Number]; r != nil {
		v.where, v.entry, v.backend, v.cgroup = r.place, r.entry, r.backend(s), r.aid.place
		v.Status, v.Limits, v.ReadyAt = r.status, slices.Clone(r.aid.report), r.readyAt
	}
	return v
}

// wall is the wall clock's time of one of the boot clock, zero for 0.
func wall(boot time.Duration) time.Time {
	if boot == 0 {
		return time.Time{}
	}
	return time.Now().Add(boot - proc.BootTime())
}

// look reads what is on record, and in the kernel.
func (v *sketch) look() {
	rec, err := record.Read(filepath.Join(v.entry.Dir, record.FileName))
	if err != nil {
		return
	}
	v.Phase, v.PID, v.Since = rec.Phase, rec.PID, rec.Launched
	if v.State == supervise.Draining && v.Phase != record.Gone {
		v.Phase = record.Draining
	}
	if v.Memory = v.cgroup.Memory(); v.Memory < 0 && rec.PID > 0 {
		v.Memory = Resident(rec.PID)
	}
}

// ask asks a backend for whom it has as clients.
func (v *sketch) ask(ctx context.Context) {
	if id, err := launch.Identify(ctx, v.where, v.entry); err == nil {
		if v.Connections, v.leases = id.Connections, id.Leases; id.Unused >= 0 {
			v.lastUse = proc.BootTime() - id.Unused
		}
	}
}
