package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages into a directory",
		Long:   `Write the manual pages, one for each verb and topic, into a directory that exists.`,
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if !filepath.IsAbs(dir) {
				wd, err := a.cwd()
				if err != nil {
					return err
				}
				dir = filepath.Join(wd, dir)
			}
			root := cmd.Root()
			root.InitDefaultHelpCmd()
			root.InitDefaultCompletionCmd()
			return writeManual(dir, root)
		},
	}
}

// writeManual writes the page of cmd and those of its verbs.
func writeManual(dir string, cmd *cobra.Command) error {
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	err := os.WriteFile(filepath.Join(dir, name+".1"), []byte(manual(cmd)), 0o644)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			err = errors.Join(err, writeManual(dir, c))
		}
	}
	return err
}

// manual is a command's page in the macros of man(7). The tree of commands has
// all of it; the generator that comes with cobra would bring a Markdown parser
// into the command for this.
func manual(cmd *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	b.WriteString(".TH " + quoteRoff(strings.ToUpper(name)) + " 1 \"\" fastbind \"User Commands\"\n")
	b.WriteString(".SH NAME\n" + roff(name) + ` \- ` + roff(cmd.Short) + "\n")
	if cmd.Runnable() {
		b.WriteString(".SH SYNOPSIS\n.nf\n" + roff(cmd.UseLine()) + "\n.fi\n")
	}
	b.WriteString(".SH DESCRIPTION\n")
	description := cmd.Long
	if description == "" {
		description = cmd.Short
	}
	prose(&b, description)
	options(&b, "OPTIONS", cmd.NonInheritedFlags())
	options(&b, "OPTIONS OF EVERY COMMAND", cmd.InheritedFlags())
	if cmd.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(cmd.Example) + "\n.fi\n")
	}
	var see []string
	if cmd.HasParent() {
		see = append(see, strings.ReplaceAll(cmd.Parent().CommandPath(), " ", "-"))
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
			see = append(see, strings.ReplaceAll(c.CommandPath(), " ", "-"))
		}
	}
	slices.Sort(see)
	for i, s := range see {
		if i == 0 {
			b.WriteString(".SH SEE ALSO\n")
		}
		end := ",\n"
		if i == len(see)-1 {
			end = "\n"
		}
		b.WriteString(".BR " + roff(s) + " (1)" + end)
	}
	return b.String()
}

// prose writes paragraphs; indented ones, and tables, as they stand.
func prose(b *strings.Builder, s string) {
	for _, p := range strings.Split(s, "\n\n") {
		if strings.HasPrefix(p, "  ") || strings.Contains(p, "    ") {
			b.WriteString(".PP\n.nf\n" + roff(p) + "\n.fi\n")
		} else {
			b.WriteString(".PP\n" + roff(p) + "\n")
		}
	}
}

func options(b *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH " + title + "\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		head := "--" + f.Name
		if f.Shorthand != "" {
			head = "-" + f.Shorthand + ", " + head
		}
		b.WriteString(".TP\n\\fB" + roff(head) + "\\fR")
		if value != "" {
			b.WriteString(" \\fI" + roff(value) + "\\fR")
		}
		b.WriteString("\n" + roff(usage))
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" && d != "-1" {
			b.WriteString(" (default " + roff(d) + ")")
		}
		b.WriteString("\n")
	})
}

// roff escapes text for man(7): backslashes, hyphens that are meant as such,
// and lines that would be requests.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\&...`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func quoteRoff(s string) string { return `"` + roff(s) + `"` }
