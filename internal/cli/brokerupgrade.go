package cli

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/launch"
)

type upgradeReply struct {
	Schema int           `json:"schema"`
	From   *wire.Program `json:"from"`
	To     *wire.Program `json:"to"`
	Broker *serviceJSON  `json:"broker"`
	Error  *errorJSON    `json:"error"`
}

func (a *app) brokerUpgradeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have the broker go on as the version that is installed now",
		Long: `Have the living broker execute the program that is at its path now, with everything
that it holds: the process and its pid stay the same, nobody who connects to a
service is refused or waits for more than that, and daemons do not notice.

The program is tried before. If it cannot be executed, cannot take over what this
broker has, or would not hold what is held, that is refused with the reason, with
exit status 4, and the broker goes on as before.

A broker does this only when it is told to: here, or by fastbind restart ` + standing.Service + `.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	timeout := addTimeoutFlag(cmd, "waiting")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := withTimeout(cmd.Context(), *timeout)
		defer cancel()
		r := upgradeReply{Schema: schema}
		from, to, err := a.upgrade(ctx)
		if err != nil {
			return err
		}
		b := a.named(standing.Service)
		v, err := a.look(ctx, b)
		switch {
		case err != nil:
			return err
		case a.json:
			j := v.json()
			r.From, r.To, r.Broker = &from, &to, &j
			a.print(r)
		default:
			line(a.out.w, standing.Service+": pid "+number(v.pid)+" was "+standing.Program(from).String()+", is "+standing.Program(to).String())
		}
		return nil
	}
	return cmd
}

// upgrade has the living broker upgrade itself.
func (a *app) upgrade(ctx context.Context) (from, to wire.Program, err error) {
	b := a.named(standing.Service)
	c, err := a.living(ctx, a.instance)
	switch {
	case ctx.Err() != nil:
		if c != nil {
			_ = c.Close()
		}
		return from, to, b.DeadlineFault(ctx)
	case err != nil:
		return from, to, err
	case c == nil:
		return from, to, &launch.Fault{Class: launch.NotRunning, Service: standing.Service, Instance: a.instance, Stage: launch.StageControl,
			Err: errors.New("no broker lives, the next one is of the version that is installed"), Status: -1}
	}
	defer c.Close()
	from, to, err = c.Upgrade(ctx)
	switch {
	case err == nil:
		return from, to, nil
	case !errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil:
		return from, to, a.brokerFault(ctx, b, err)
	}
	return from, to, &launch.Fault{Class: launch.LaunchFailed, Service: standing.Service, Instance: a.instance, Stage: launch.StageAdopt, Status: -1, Err: errUnanswered}
}

// errUnanswered: the connection was to be passed on to the program that takes over.
var errUnanswered = errors.New("the connection has ended without an answer, and so has the broker, or the program that was to take over")

// restartBroker upgrades the living broker; done is false if there is none.
func (a *app) restartBroker(ctx context.Context, p *plan, r *restartReply) (done bool, err error) {
	if _, _, err = a.upgrade(ctx); isClass(err, launch.NotRunning) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	v, err := a.look(ctx, p.broker)
	if err != nil {
		return true, err
	}
	if a.json {
		r.Services = append(r.Services, v.json())
	} else {
		line(a.out.w, v.endpoint)
	}
	return true, nil
}

func tellUpgraded(conn net.Conn, from, to standing.Program) error {
	return wire.TellUpgraded(conn, wire.Program(from), wire.Program(to))
}
