package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// startReply is a service and whether this call launched it.
type startReply struct {
	Schema int `json:"schema"`
	serviceJSON
	Launched bool       `json:"launched"`
	Error    *errorJSON `json:"error"`
}

func (a *app) startCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start NAME [flags] [-- COMMAND ARG…]",
		Short: "Make sure a service runs; print its endpoint",
		Long: `Make sure that NAME runs, and print the path of its endpoint, a Unix socket that
any program can connect to.

The definition is COMMAND and the flags, else the file NAME.toml, else what NAME
was last started with; see fastbind help definition. A COMMAND is kept and
survives stop. A different one is refused with the fields that differ, unless
--replace is given, which stops what runs first.

Without --wait ready, the endpoint accepts connections when start returns, and
the daemon may still be loading. Why it failed later, fastbind why NAME tells.`,
		Example: `  fastbind start web -- gunicorn app:main
  fastbind start index --wait ready --timeout 1m
  sock=$(fastbind start agent -- gpg-agent --supervised)`,
		ValidArgsFunction: a.completeNames(1),
	}
	flags := addCallFlags(cmd, "waiting")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := a.call(cmd, args, flags)
		if err != nil {
			return err
		}
		defer p.cancel()
		l, err := a.run(p.ctx, p.plan, p.ready)
		if err == nil {
			err = take(p.ctx, p.broker, p.leases)
		}
		if err != nil {
			return err
		}
		return a.printStarted(cmd.Context(), p.plan, l)
	}
	return cmd
}

func (a *app) printStarted(ctx context.Context, p *plan, l launched) error {
	if !a.json {
		line(a.out.w, l.place.Sock())
		a.warnIdle(p, l)
		return nil
	}
	v, err := a.look(ctx, p.broker)
	if err != nil {
		return err
	}
	v.file = p.file
	a.print(startReply{Schema: schema, serviceJSON: v.json(), Launched: l.generation != nil})
	return nil
}

// run makes sure that a service runs as planned: by the broker that holds it, else by
// this process.
func (a *app) run(ctx context.Context, p *plan, ready bool) (l launched, err error) {
	held := false
	err = again(ctx, func() error {
		c, err := a.summon(ctx, p)
		if held = c != nil; err != nil || !held {
			return err
		}
		defer c.Close()
		l, err = a.launchHeld(ctx, c, p, ready)
		return err
	})
	if held || err != nil {
		return l, err
	}
	return a.ensure(ctx, p, ready)
}

// warnIdle says which fields of the file nobody keeps of a service that this process
// has launched.
func (a *app) warnIdle(p *plan, l launched) {
	if p.file == nil || l.generation == nil || heldBy(l.place.Dir) != 0 || len(p.file.broker.given) == 0 {
		return
	}
	a.warn(`"`+p.def.Service+`" runs without `+strings.Join(p.file.broker.given, ", ")+": only a standing broker keeps that, and none holds it",
		"run: fastbind broker, or fastbind broker install, or write hold = true into "+p.file.path)
}
