package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) listCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Name the services and their phases",
		Long: `Name the services of the instance, launched or defined by a file, and their
phases. Without a terminal each is one line of tab-separated fields: name, phase,
instance, variant (of env_policy coexist); "-" is none.`,
		Example:           `  fastbind list | cut -f1`,
		Aliases:           []string{"ls"},
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	everywhere := cmd.Flags().Bool("all-instances", false, "of every instance")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		views, err := a.everything(cmd.Context(), *everywhere)
		if err != nil {
			return err
		}
		if a.json {
			a.print(statusReply{Schema: schema, Services: jsonOf(views)})
			return nil
		}
		t := table{heads: []string{"SERVICE", "PHASE", "INSTANCE", "VARIANT"}}
		if a.out.terminal && !manyInstances(views) {
			t.heads = t.heads[:2]
		}
		for _, v := range views {
			name := v.name
			if a.out.terminal {
				name = v.label()
			}
			t.rows = append(t.rows, []string{name, v.phase, v.instance, v.variant}[:len(t.heads)])
		}
		t.paint = func(column int, value string) string {
			if column == 1 {
				return phaseColour(value)
			}
			return ""
		}
		t.print(a.out)
		return nil
	}
	return cmd
}
