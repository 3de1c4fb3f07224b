package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

type stacksReply struct {
	Schema  int        `json:"schema"`
	Service string     `json:"service"`
	Stacks  string     `json:"stacks"`
	Cut     bool       `json:"cut"` // the log has more
	Error   *errorJSON `json:"error"`
}

func (a *app) stacksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stacks NAME",
		Short: "Show what a daemon's goroutines do",
		Long: `Ask NAME's daemon for the stacks of all its goroutines and print them. The daemon
writes them to its log too, where there is more if they were cut here. It answers
however busy it is; one that does not is hung: see fastbind why NAME.

Only daemons made with the SDK can be asked.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
	}
	timeout := addTimeoutFlag(cmd, "waiting")
	_ = cmd.Flags().Set("timeout", "5s")
	cmd.Flags().Lookup("timeout").DefValue = "5s"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkNames(args); err != nil {
			return err
		}
		ctx, cancel := withTimeout(cmd.Context(), *timeout)
		defer cancel()
		b := a.named(args[0])
		if found := a.found(args[0]); len(found) > 0 {
			b = found[0]
		}
		text, cut, err := b.Stacks(ctx)
		if err != nil {
			return err
		}
		if a.json {
			a.print(stacksReply{Schema: schema, Service: args[0], Stacks: text, Cut: cut})
			return nil
		}
		io.WriteString(a.out.w, harmlessLines(text))
		if cut {
			a.warn("cut here: the log has the rest", "run: fastbind logs "+a.nameArgs(args[0]))
		}
		return nil
	}
	return cmd
}

// harmlessLines is harmless for text of several lines.
func harmlessLines(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		b.WriteString(harmless(strings.TrimSuffix(l, "\n")) + "\n")
	}
	return b.String()
}
