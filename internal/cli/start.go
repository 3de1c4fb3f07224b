package cli

import (
	"context"

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
		l, err := a.ensure(p.ctx, p.plan, p.ready)
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
