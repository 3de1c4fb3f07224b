package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/control"
)

// callFlags are what start and dial have in common: the definition's fields, and
// what is asked of the service in this call.
type callFlags struct {
	definition *definitionFlags
	wait       *waitFlag
	lease      *leaseFlags
	want       *string
	timeout    *time.Duration
	replace    *bool
}

func addCallFlags(cmd *cobra.Command, timeoutFor string) *callFlags {
	return &callFlags{
		definition: addDefinitionFlags(cmd), wait: addWaitFlag(cmd), lease: addLeaseFlags(cmd), want: addWantFlag(cmd),
		timeout: addTimeoutFlag(cmd, timeoutFor),
		replace: cmd.Flags().Bool("replace", false, "stop a running service that is defined otherwise"),
	}
}

// A call is a service that may be launched or used as planned, and what is asked
// of it.
type call struct {
	*plan
	ready  bool
	leases []control.Lease
	began  time.Time

	ctx    context.Context // ends at the deadline too
	cancel context.CancelFunc
}

// call takes the arguments apart and settles the plan. The caller cancels it.
func (a *app) call(cmd *cobra.Command, args []string, f *callFlags) (*call, error) {
	name, command, err := nameAndCommand(cmd, args)
	if err != nil {
		return nil, err
	}
	c := &call{began: a.now()}
	if c.ready, err = f.wait.ready(); err != nil {
		return nil, err
	}
	if c.leases, err = f.lease.leases(a.cwd); err != nil {
		return nil, err
	}
	if err := checkWant(*f.want); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = withTimeout(cmd.Context(), *f.timeout)
	if c.plan, err = a.plan(name, command, f.definition); err == nil {
		c.broker.Want = *f.want
		err = a.settle(c.ctx, c.plan, *f.replace)
	}
	if err != nil {
		c.cancel()
		return nil, err
	}
	return c, nil
}
