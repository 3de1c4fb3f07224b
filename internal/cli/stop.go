package cli

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

type stopReply struct {
	Schema  int           `json:"schema"`
	Stopped []stoppedJSON `json:"stopped"`
	Error   *errorJSON    `json:"error"`
	Errors  []errorJSON   `json:"errors"`
}

type stoppedJSON struct {
	Service    string `json:"service"`
	Instance   string `json:"instance"`
	Generation uint64 `json:"generation"`
	PID        int    `json:"pid"`
	Killed     bool   `json:"killed"`
}

func (a *app) stopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop NAME… | --all",
		Short: "Stop services and wait for their end",
		Long: `Ask every living generation of the named services to end, and wait until their
processes have: they serve who is connected or queued, and are killed when their
stop_within is over, or at once with --now. The definition is kept: start NAME
starts it again.

Each stopped generation is one line. Of a service that is not running the exit
status is 3.`,
		ValidArgsFunction: a.completeNames(0),
	}
	all := cmd.Flags().Bool("all", false, "every running service of the instance")
	now := cmd.Flags().Bool("now", false, "kill at once, cutting off who is connected")
	everywhere := cmd.Flags().Bool("all-instances", false, "every running service of every instance")
	timeout := addTimeoutFlag(cmd, "waiting")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		*all = *all || *everywhere
		if *all == (len(names) > 0) {
			return &usageError{"give NAMEs or --all", "see: " + cmd.CommandPath() + " --help"}
		}
		if err := checkNames(names); err != nil {
			return err
		}
		ctx, cancel := withTimeout(cmd.Context(), *timeout)
		defer cancel()
		r := stopReply{Schema: schema, Stopped: []stoppedJSON{}}
		var errs []error
		if *all {
			if err := a.usable(); err != nil {
				return err
			}
			brokers := a.all(*everywhere)
			// Who holds services goes first: it would see an end that nobody asked it for.
			slices.SortStableFunc(brokers, func(x, y *launch.Broker) int {
				return order(x.Def.Service != standing.Service) - order(y.Def.Service != standing.Service)
			})
			for _, b := range brokers {
				if err := a.stopOne(ctx, b, *now, &r); err != nil && !isClass(err, launch.NotRunning) && !isClass(err, launch.NoService) {
					errs = append(errs, a.blame(err))
				}
			}
		}
		for _, n := range names {
			if err := a.stopName(ctx, n, *now, &r); err != nil {
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

// stopName stops all variants of a service. It is not running only if none is.
func (a *app) stopName(ctx context.Context, name string, now bool, r *stopReply) error {
	brokers := a.found(name)
	if len(brokers) == 0 {
		brokers = []*launch.Broker{a.named(name)}
	}
	before := len(r.Stopped)
	var missing error
	for _, b := range brokers {
		err := a.stopOne(ctx, b, now, r)
		switch {
		case isClass(err, launch.NotRunning), isClass(err, launch.NoService):
			missing = err
		case err != nil:
			return err
		}
	}
	if len(r.Stopped) > before {
		return nil
	}
	if isClass(missing, launch.NoService) {
		if f, err := a.file(name); err == nil && f != nil {
			return &launch.Fault{Class: launch.NotRunning, Service: name, Instance: a.instance, Stage: launch.StageStop, Err: errNeverRan, Status: -1}
		}
	}
	return missing
}

func (a *app) stopOne(ctx context.Context, b *launch.Broker, now bool, r *stopReply) error {
	end := b.Stop
	if now {
		end = b.Kill
	} else if held, err := a.stopHeld(ctx, b, r); held || err != nil {
		return err
	}
	stopped, err := end(ctx)
	for _, s := range stopped {
		a.tellStopped(b, s, now, r)
	}
	return err
}

func (a *app) tellStopped(b *launch.Broker, s launch.Stopped, now bool, r *stopReply) {
	r.Stopped = append(r.Stopped, stoppedJSON{b.Def.Service, b.Def.Instance, s.Generation, s.PID, s.Killed})
	if a.json {
		return
	}
	text := b.Def.Service + ": stopped generation " + number(s.Generation) + ", pid " + number(s.PID)
	switch {
	case s.Killed && now:
		text = b.Def.Service + ": killed generation " + number(s.Generation) + ", pid " + number(s.PID)
	case s.Killed:
		text = b.Def.Service + ": killed generation " + number(s.Generation) + ", pid " + number(s.PID) + ": it did not end in time"
	}
	line(a.out.w, text)
}

var errNeverRan = errors.New("it is not running: it was never launched")

func order(later bool) int {
	if later {
		return 1
	}
	return 0
}

// stopHeld has the broker that holds a service stop it; held is false if none does, or
// nothing of it runs.
func (a *app) stopHeld(ctx context.Context, b *launch.Broker, r *stopReply) (held bool, err error) {
	c, err := a.holder(ctx, b)
	if c == nil || err != nil {
		return false, err
	}
	defer c.Close()
	v, err := a.look(ctx, b)
	if err != nil || !v.alive {
		return false, err
	}
	if err := c.Stop(ctx, b.Def.Service); err != nil {
		if _, refused := errors.AsType[*wire.RefusedError](err); !refused && ctx.Err() == nil {
			return false, nil // it holds it no more, or has ended
		}
		return true, a.brokerFault(ctx, b, err)
	}
	for _, e := range slices.Backward(v.status.Generations) {
		if !e.Alive {
			continue
		}
		killed := false
		if rec, err := record.Read(filepath.Join(e.Dir, record.FileName)); err == nil {
			killed = rec.Killed
		}
		a.tellStopped(b, launch.Stopped{Generation: e.Number, PID: e.Record.PID, Killed: killed}, false, r)
	}
	return true, nil
}
