package broker

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/record"
)

// A View is a service as the broker sees it. It is a plain value; what it refers to
// is only read.
type View struct {
	Name       string
	Definition definition.Definition
	State      supervise.State
	Holding    bool      // we have a copy of its listener
	Waiting    int       // connections that nobody has accepted; -1 if the system does not tell
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

// List returns the broker's services, by name. It blocks for as long as the system
// takes to answer a few questions about each that runs.
func (b *Broker) List(ctx context.Context) ([]View, error) {
	var list []View
	err := b.call(ctx, func() {
		for _, s := range b.names {
			list = append(list, s.view())
		}
	})
	slices.SortFunc(list, func(x, y View) int { return strings.Compare(x.Name, y.Name) })
	return list, err
}

func (s *service) view() View {
	v := View{Name: s.Definition.Service, Definition: s.Definition, State: s.machine.State, Holding: s.held != nil,
		Waiting: -1, Reason: s.machine.Reason, Number: s.machine.Run.Number, Memory: -1, Connections: -1}
	return v
}
