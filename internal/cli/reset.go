package cli

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/launch"
)

type resetReply struct {
	Schema   int        `json:"schema"`
	Service  string     `json:"service"`
	Instance string     `json:"instance"`
	Forgot   int        `json:"forgot"`
	Error    *errorJSON `json:"error"`
}

func (a *app) resetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME",
		Short: "Forget a service's failures, so that it may launch again",
		Long: `Forget the failures of NAME. After three launches that died before they were
ready within 30 s, starting is refused until the oldest is 30 s ago; once the
cause is mended, reset frees it at once.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if err := checkNames(args); err != nil {
				return err
			}
			brokers := a.found(name)
			if len(brokers) == 0 {
				brokers = []*launch.Broker{a.named(name)}
			}
			total := 0
			for _, b := range brokers {
				n, err := b.Reset(cmd.Context())
				if err != nil {
					return err
				}
				total += n
				if err := a.resetHeld(cmd.Context(), b); err != nil {
					return err
				}
			}
			if a.json {
				a.print(resetReply{Schema: schema, Service: name, Instance: a.instance, Forgot: total})
				return nil
			}
			text := strconv.Itoa(total) + " failures forgotten"
			switch total {
			case 0:
				text = "no failures on record"
			case 1:
				text = "1 failure forgotten"
			}
			line(a.out.w, name+": "+text)
			return nil
		},
	}
}

// resetHeld has the broker that holds the service forget its failures too.
func (a *app) resetHeld(ctx context.Context, b *launch.Broker) error {
	c, err := a.holder(ctx, b)
	if c == nil || err != nil {
		return err
	}
	defer c.Close()
	if err := c.Reset(ctx, b.Def.Service); err != nil && !errors.Is(err, broker.ErrUnknown) {
		return a.brokerFault(ctx, b, err)
	}
	return nil
}
