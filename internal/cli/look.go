package cli

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A view is a service as it is shown.
type view struct {
	name, instance string
	variant        string // what tells it from those of other environments
	known          bool   // it was launched here
	phase          string // "" unless known
	generation     uint64
	pid            int
	version        string
	endpoint       string
	further        []string // names of further endpoints
	started        time.Time
	uptime         time.Duration
	alive          bool
	connections    *int
	leases         *int
	endsIn         *time.Duration // nil: it does not end by itself
	log            string
	progress       *progressJSON
	failure        *launch.Fault
	retry          time.Time
	file           *fileDefinition
	payoff         *payoffJSON
	hash           string // of the executable, if that was asked for
	heldBy         int    // pid of the standing broker that holds it, 0 if none does
	followed       bool   // by a standing broker, which does not hold it
	disabled       bool   // the user wants no broker to hold it
	status         launch.Status
	broker         *launch.Broker
}

// look inspects a service, changing nothing.
func (a *app) look(ctx context.Context, b *launch.Broker) (view, error) {
	s, err := b.Inspect(ctx)
	if err != nil {
		return view{}, err
	}
	v := view{
		name: b.Def.Service, instance: b.Def.Instance, known: true, broker: b, status: s,
		phase: string(s.Phase), endpoint: s.Place.Sock(), failure: s.LastFailure, retry: s.RetryAt, alive: s.Alive(),
	}
	if s.Held {
		v.heldBy = heldBy(s.Place.Dir)
	}
	if _, variant, ok := strings.Cut(b.DirName(), "+"); ok {
		v.variant = variant
	}
	if e := s.Shown; e != nil {
		v.generation, v.started, v.log = e.Number, e.Record.Launched, e.Record.Log
		v.version = e.Record.Version
		if v.version == "" {
			v.version = e.Record.Definition.Version
		}
		if e.Alive {
			v.pid = e.Record.PID
			if !v.started.IsZero() {
				v.uptime = max(0, a.now().Sub(v.started))
			}
		}
	}
	v.further = s.Further
	if v.log == "" {
		v.log, _ = b.Files(s.Place)
	}
	if id := s.Identity; id != nil {
		v.pid, v.version = id.PID, id.Version
		v.progress = progressOf(id.Progress)
		v.connections, v.leases = &id.Connections, &id.Leases
		if id.EndsIn >= 0 {
			v.endsIn = &id.EndsIn
		}
	}
	return v, nil
}

// defined is the view of a service that only a file knows.
func (a *app) defined(name string, f *fileDefinition) view {
	return view{name: name, instance: a.instance, file: f, disabled: standing.Disabled(a.dirs, a.instance, name)}
}

// views looks at all variants of a service. An unknown name is a *launch.Fault
// of class NoService.
func (a *app) views(ctx context.Context, name string) ([]view, error) {
	brokers := a.found(name)
	if len(brokers) == 0 {
		f, err := a.file(name)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return []view{a.defined(name, f)}, nil
		}
		// It has the reason if the directory cannot be looked at.
		brokers = []*launch.Broker{a.named(name)}
	}
	return a.lookAll(ctx, brokers)
}

func (a *app) lookAll(ctx context.Context, brokers []*launch.Broker) ([]view, error) {
	var views []view
	for _, b := range brokers {
		v, err := a.look(ctx, b)
		if err != nil {
			return views, err
		}
		if b.Def.Instance == a.instance {
			v.file, _ = a.file(v.name) // a refused one is doctor's finding
			v.disabled = standing.Disabled(a.dirs, a.instance, v.name)
		}
		if v.file != nil && len(v.file.broker.given) > 0 && v.heldBy == 0 {
			if c, _ := a.follower(ctx, b); c != nil {
				v.followed = true
				_ = c.Close()
			}
		}
		views = append(views, v)
	}
	return views, nil
}

// everything looks at all services, those that only files know included. A
// directory that cannot be used is an error only where it was asked for by
// FASTBIND_RUNTIME_DIR.
func (a *app) everything(ctx context.Context, everywhere bool) ([]view, error) {
	if err := a.usable(); err != nil {
		return nil, err
	}
	brokers := a.all(everywhere)
	views, err := a.lookAll(ctx, brokers)
	if err != nil {
		return views, err
	}
	have := map[string]bool{}
	for _, v := range views {
		if v.instance == a.instance {
			have[v.name] = true
		}
	}
	for _, name := range a.fileNames() {
		if have[name] {
			continue
		}
		f, err := a.file(name)
		if err != nil {
			f = &fileDefinition{path: filepath.Join(a.configDir(), name+fileSuffix)} // start and doctor say what is wrong
		}
		if f != nil {
			views = append(views, a.defined(name, f))
		}
	}
	return views, nil
}

// usable refuses an explicit runtime directory that cannot be used. Other
// candidates are passed over, and an unusable one has no services.
func (a *app) usable() error {
	var r *runtimedir.Refused
	if _, err := a.dirs.Find(a.instance, "-"); errors.As(err, &r) { // no service has this name
		return r
	}
	return nil
}

func (v view) json() serviceJSON {
	s := serviceJSON{
		Service: v.name, Instance: v.instance, Variant: some(v.variant), Phase: some(v.phase),
		Generation: some(v.generation), PID: some(v.pid), Version: some(v.version), Endpoint: some(v.endpoint),
		StartedAt: stamp(v.started), Connections: v.connections, Leases: v.leases, Log: some(v.log), Progress: v.progress,
		RetryAt: stamp(v.retry), Payoff: v.payoff, SHA256: some(v.hash), Environment: differencesOf(v.status.Environment),
	}
	if v.alive {
		seconds := int64(v.uptime / time.Second)
		s.UptimeSeconds = &seconds
	}
	if v.endsIn != nil {
		seconds := int64(*v.endsIn / time.Second)
		s.EndsIn = &seconds
	}
	for _, name := range v.further {
		if s.Endpoints == nil {
			s.Endpoints = map[string]string{}
		}
		s.Endpoints[name] = v.status.Place.Further(name)
	}
	if v.failure != nil {
		s.LastFailure = errorOf(v.failure)
	}
	if v.file != nil {
		s.Definition = &v.file.path
	}
	s.HeldBy, s.Disabled, s.NotInForce = some(v.heldBy), v.disabled, v.notInForce()
	if v.alive && v.status.Shown != nil {
		s.Limits = v.status.Shown.Record.Limits
	}
	return s
}

func jsonOf(views []view) []serviceJSON {
	out := []serviceJSON{}
	for _, v := range views {
		out = append(out, v.json())
	}
	return out
}

// number writes n, "" for 0.
func number[N int | uint64](n N) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(n), 10)
}

// ago writes a duration as a person would say it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// label is the name of a service in a table.
func (v view) label() string {
	if v.variant != "" {
		return v.name + "+" + v.variant
	}
	return v.name
}

// progressText is "loading index 40%", "" without progress.
func progressText(p *progressJSON) string {
	if p == nil {
		return ""
	}
	s := p.Message
	if p.Fraction != nil {
		s += " " + strconv.Itoa(int(*p.Fraction*100+0.5)) + "%"
	}
	return strings.TrimSpace(s)
}

// differs returns the fields in which the shown generation is not what the
// definition file says.
func (a *app) differs(v view) []definition.Difference {
	if v.file == nil || v.status.Shown == nil || v.status.Shown.Err != nil || len(v.status.Shown.Record.Definition.Command) == 0 {
		return nil
	}
	have := v.status.Shown.Record.Definition.Complete()
	return a.diff(have, v.file.def)
}

// stopped reports whether no generation lives.
func (v view) stopped() bool { return !v.alive }

// loading reports whether the daemon is on its way.
func (v view) loading() bool {
	return v.phase == string(record.Launching) || v.phase == string(record.Loading)
}

// unholdable reports whether no broker can hold the service as its file defines it.
func (v view) unholdable() bool { return v.file != nil && v.file.def.Bind == definition.BindDaemon }

// notInForce are the fields of the service's file that nobody keeps: those that only a
// standing broker does, of a service that none has, and of one that was launched by
// somebody else those that a process has from its start on.
func (v view) notInForce() []string {
	if v.file == nil {
		return nil
	}
	limited := v.alive && v.status.Shown != nil && len(v.status.Shown.Record.Limits) > 0
	var fields []string
	for _, key := range v.file.broker.given {
		idle := v.heldBy == 0 && !v.followed
		switch {
		case bindsFromStart(key) && v.alive:
			idle = !limited // the record says of each what became of it
		case bindsWhileHeld(key) && v.alive:
			idle = v.heldBy == 0
		}
		if idle {
			fields = append(fields, key)
		}
	}
	return fields
}
