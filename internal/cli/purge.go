package cli

import (
	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/launch"
)

type purgeReply struct {
	Schema  int         `json:"schema"`
	DryRun  bool        `json:"dry_run"`
	Removed []string    `json:"removed"` // with dry_run: would be removed
	Kept    []string    `json:"kept"`    // services that run
	Error   *errorJSON  `json:"error"`
	Errors  []errorJSON `json:"errors"`
}

func (a *app) purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge [NAME…]",
		Short: "Remove the files of services that do not run",
		Long: `Remove the run-time files, logs and journals of the named services, or of all in
the instance, and with them the definitions that were given on a command line. A
service with a living generation is left alone; named, it is refused. Definition
files are yours and stay.`,
		ValidArgsFunction: a.completeNames(0),
	}
	dry := cmd.Flags().BoolP("dry-run", "n", false, "only print what would be removed")
	everywhere := cmd.Flags().Bool("all-instances", false, "of every instance")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := checkNames(names); err != nil {
			return err
		}
		if err := a.usable(); err != nil {
			return err
		}
		r := purgeReply{Schema: schema, DryRun: *dry, Removed: []string{}, Kept: []string{}}
		var brokers []*launch.Broker
		if len(names) == 0 {
			brokers = a.all(*everywhere)
		}
		for _, n := range names {
			found := a.found(n)
			if len(found) == 0 {
				found = []*launch.Broker{a.named(n)}
			}
			brokers = append(brokers, found...)
		}
		var errs []error
		for _, b := range brokers {
			if a.isHeld(b) {
				r.Kept = append(r.Kept, b.DirName())
				if len(names) > 0 {
					errs = append(errs, refusal(b.Def, "the broker holds it", "run: fastbind disable "+a.nameArgs(b.Def.Service), nil))
				}
				continue
			}
			paths, err := b.Purge(cmd.Context(), *dry)
			switch {
			case err != nil:
				errs = append(errs, err)
				continue
			case len(paths) == 0:
				r.Kept = append(r.Kept, b.DirName())
				if len(names) > 0 {
					f := refusal(b.Def, "it is running", "run: fastbind stop "+a.nameArgs(b.Def.Service), nil)
					errs = append(errs, f)
				}
			}
			r.Removed = append(r.Removed, paths...)
			for _, p := range paths {
				if !a.json {
					line(a.out.w, harmless(p))
				}
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
