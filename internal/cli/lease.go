package cli

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
)

// leaseFlags are --lease-dir and --lease-pid: flags of the call, not of the
// service.
type leaseFlags struct {
	dirs []string
	pids []int
}

func addLeaseFlags(cmd *cobra.Command) *leaseFlags {
	f := &leaseFlags{}
	cmd.Flags().StringArrayVar(&f.dirs, "lease-dir", nil, "end the daemon when `DIR` is gone (repeatable)")
	cmd.Flags().IntSliceVar(&f.pids, "lease-pid", nil, "end the daemon when process `PID` is gone (repeatable)")
	_ = cmd.MarkFlagDirname("lease-dir")
	return f
}

// leases returns what was asked for, with paths and processes as they are now.
func (f *leaseFlags) leases(cwd func() (string, error)) ([]control.Lease, error) {
	var list []control.Lease
	for _, d := range f.dirs {
		if !filepath.IsAbs(d) {
			wd, err := cwd()
			if err != nil {
				return nil, err
			}
			d = filepath.Join(wd, d)
		}
		// A link is not what ends.
		real, err := filepath.EvalSymlinks(d)
		if err != nil {
			return nil, &usageError{"--lease-dir " + d + ": " + cause(err), ""}
		}
		list = append(list, control.Lease{Directory: real})
	}
	for _, pid := range f.pids {
		id, err := proc.Of(pid)
		if err != nil {
			return nil, &usageError{"--lease-pid " + number(pid) + ": " + err.Error(), ""}
		}
		list = append(list, control.Lease{PID: pid, StartedTicks: id.Start})
	}
	return list, nil
}

// take takes the leases of the generation that serves.
func take(ctx context.Context, b *launch.Broker, list []control.Lease) error {
	for _, l := range list {
		if _, err := b.Lease(ctx, l); err != nil {
			return err
		}
	}
	return nil
}
