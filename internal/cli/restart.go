package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/launch"
)

type restartReply struct {
	Schema   int           `json:"schema"`
	Stopped  []stoppedJSON `json:"stopped"`
	Services []serviceJSON `json:"services"`
	Error    *errorJSON    `json:"error"`
	Errors   []errorJSON   `json:"errors"`
}

func (a *app) restartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restart NAME…",
		Short: "Replace running services by new generations",
		Long: `Start the named services anew, with the definition of their files, or else the
one they were last started with. The endpoint of each is printed; its path stays
the same.

A daemon made with the SDK hands its listener over: its successor loads while it
serves, then takes over, and nobody is refused or cut off before stop_within is
over. If the successor fails, the old daemon serves on and the exit status is 4.
Another daemon is stopped first. A service that is not running is started. The
broker itself is upgraded; see fastbind broker upgrade.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeNames(0),
	}
	wait := addWaitFlag(cmd)
	timeout := addTimeoutFlag(cmd, "waiting")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := checkNames(names); err != nil {
			return err
		}
		ready, err := wait.ready()
		if err != nil {
			return err
		}
		ctx, cancel := withTimeout(cmd.Context(), *timeout)
		defer cancel()
		r := restartReply{Schema: schema, Stopped: []stoppedJSON{}, Services: []serviceJSON{}}
		var errs []error
		for _, n := range names {
			if err := a.restart(ctx, n, ready, &r); err != nil {
				errs = append(errs, a.blame(err))
			}
		}
		if a.json {
			r.Error, r.Errors = worstOf(cmd.Context(), errs), errorsOf(errs)
			a.print(r)
		}
		return a.reportAll(cmd.Context(), errs)
	}
	return cmd
}

func (a *app) restart(ctx context.Context, name string, ready bool, r *restartReply) error {
	p, err := a.plan(name, nil, nil)
	if err != nil {
		return err
	}
	if name == standing.Service {
		if done, err := a.restartBroker(ctx, p, r); done || err != nil {
			return err
		}
	}
	held := false
	err = again(ctx, func() error {
		c, err := a.summon(ctx, p)
		if held = c != nil; err != nil || !held {
			return err
		}
		defer c.Close()
		return a.restartHeld(ctx, c, p, ready, r)
	})
	if held || err != nil {
		return err
	}
	old := p.broker
	if p.stored != nil {
		old = a.broker(*p.stored) // its variant may be another one than the file's
	}
	if done, err := a.replaced(ctx, p, ready, r); done || err != nil {
		return err
	}
	stopped, err := old.Stop(ctx)
	for _, s := range stopped {
		r.Stopped = append(r.Stopped, stoppedJSON{name, a.instance, s.Generation, s.PID, s.Killed})
	}
	if err != nil && !isClass(err, launch.NotRunning) && !isClass(err, launch.NoService) {
		return err
	}
	l, err := a.ensure(ctx, p, ready)
	if err != nil {
		return err
	}
	if !a.json {
		line(a.out.w, l.place.Sock())
		return nil
	}
	v, err := a.look(ctx, p.broker)
	if err == nil {
		v.file = p.file
		r.Services = append(r.Services, v.json())
	}
	return err
}

// replaced replaces a running generation by one that takes its listener over;
// done is false if there is none that can.
func (a *app) replaced(ctx context.Context, p *plan, ready bool, r *restartReply) (done bool, err error) {
	// Another program that may know nothing of fastbind would wait for a listener
	// that nobody hands it.
	if p.def.Foreign && (p.stored == nil || len(a.diff(*p.stored, p.def)) > 0) {
		return false, nil
	}
	v, err := a.look(ctx, p.broker)
	if err != nil || !v.alive || v.status.Identity == nil || p.broker.Mode() == launch.DaemonBinds {
		return false, nil
	}
	if err := p.broker.Replace(ctx); err != nil {
		if isClass(err, launch.Refusal) || isClass(err, launch.NotRunning) {
			return false, nil // it cannot hand over, or ended meanwhile: the old way
		}
		return true, err
	}
	r.Stopped = append(r.Stopped, stoppedJSON{v.name, a.instance, v.generation, v.pid, false})
	if ready {
		if err := a.awaitReady(ctx, p.broker); err != nil {
			return true, err
		}
	}
	if !a.json {
		line(a.out.w, v.endpoint)
		return true, nil
	}
	if v, err = a.look(ctx, p.broker); err == nil {
		v.file = p.file
		r.Services = append(r.Services, v.json())
	}
	return true, err
}

// restartHeld has the broker that holds the service put a new generation in place of
// the one that runs.
func (a *app) restartHeld(ctx context.Context, c *wire.Client, p *plan, ready bool, r *restartReply) error {
	before, err := a.look(ctx, p.broker)
	if err == nil {
		err = c.Reload(ctx) // the definition may be of a moment ago
	}
	if err != nil {
		return err
	}
	if _, err = c.Restart(ctx, p.def.Service); err == nil && ready {
		_, err = c.Launch(ctx, p.def.Service, true)
	}
	if err != nil {
		return a.brokerFault(ctx, p.broker, err)
	}
	if before.alive {
		r.Stopped = append(r.Stopped, stoppedJSON{before.name, a.instance, before.generation, before.pid, false})
	}
	if !a.json {
		line(a.out.w, before.endpoint)
		return nil
	}
	v, err := a.look(ctx, p.broker)
	if err == nil {
		v.file = p.file
		r.Services = append(r.Services, v.json())
	}
	return err
}
