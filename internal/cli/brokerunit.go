package cli

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/proc"
)

type unitReply struct {
	Schema  int          `json:"schema"`
	Changes []changeJSON `json:"changes"`
	Next    []string     `json:"next"` // commands that were not run
	Error   *errorJSON   `json:"error"`
}

type changeJSON struct {
	Action string  `json:"action"` // write, replace, keep or remove
	Path   string  `json:"path"`
	Text   *string `json:"text"` // what the file says then, with --dry-run
}

func (a *app) brokerInstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have the system's service manager start the broker",
		Long: `Write the files by which the system's service manager starts the broker of the
instance for this user, and have it started: a systemd user service and its socket,
or a launchd agent. FASTBIND_* and XDG_*_HOME variables that are set now are set for
it too. What is as it should be is left alone; what is not ours is refused.

Each file is one line: what is done with it, and its path. Where the service manager
cannot be reached, the commands that are left to be run follow.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	dry := cmd.Flags().Bool("dry-run", false, "print what would be written, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := a.serviceManager()
		if err != nil {
			return err
		}
		exe, err := a.installedSelf()
		if err != nil {
			return err
		}
		u := unit.Unit{Executable: exe, Instance: a.instance, Root: a.getenv("FASTBIND_RUNTIME_DIR"), Environment: unit.Environment(a.getenv)}
		if *dry {
			plan, err := m.Plan(u)
			if err != nil {
				return err
			}
			a.printUnits(unit.Result{Changes: plan}, true, nil)
			return nil
		}
		if err := supported(); err != nil {
			return err
		}
		r, err := m.Install(cmd.Context(), u, unit.Exec)
		return a.units(cmd.Context(), r, err)
	}
	return cmd
}

func (a *app) brokerUninstallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Undo install: stop the broker and remove its files",
		Long: `Have the system's service manager stop the broker of the instance, and remove the
files that install has written. Daemons stay.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	dry := cmd.Flags().Bool("dry-run", false, "print what would be removed, and change nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := a.serviceManager()
		if err != nil {
			return err
		}
		if *dry {
			plan, err := m.PlanRemoval(a.instance)
			if err != nil {
				return err
			}
			a.printUnits(unit.Result{Changes: plan}, true, nil)
			return nil
		}
		r, err := m.Uninstall(cmd.Context(), a.instance, unit.Exec)
		return a.units(cmd.Context(), r, err)
	}
	return cmd
}

func (a *app) serviceManager() (unit.Manager, error) {
	home := a.getenv("HOME")
	if home == "" {
		home, _, _, _ = proc.Account(a.uid)
	}
	m, err := unit.Here(a.getenv, home, a.uid)
	if errors.Is(err, errors.ErrUnsupported) {
		if serr := supported(); serr != nil {
			return m, serr
		}
		err = &hinted{errors.New("no service manager that can start the broker is known on this system"), "run it yourself: fastbind broker"}
	}
	return m, err
}

// units prints what was done, and returns why not all of it.
func (a *app) units(ctx context.Context, r unit.Result, err error) error {
	a.printUnits(r, false, err)
	if err != nil && a.json {
		return quiet(exitStatus(ctx, err))
	}
	return err
}

func (a *app) printUnits(r unit.Result, texts bool, err error) {
	if a.json {
		reply := unitReply{Schema: schema, Changes: []changeJSON{}, Next: []string{}, Error: errorOf(err)}
		for _, c := range r.Changes {
			j := changeJSON{Action: string(c.Action), Path: c.Path}
			if texts {
				j.Text = some(c.Text)
			}
			reply.Changes = append(reply.Changes, j)
		}
		for _, argv := range r.Next {
			reply.Next = append(reply.Next, strings.Join(argv, " "))
		}
		a.print(reply)
		return
	}
	for _, c := range r.Changes {
		line(a.out.w, string(c.Action)+" "+c.Path)
		if texts && c.Text != "" {
			io.WriteString(a.out.w, "\n"+c.Text+"\n")
		}
	}
	for _, argv := range r.Next {
		line(a.out.w, "next: "+strings.Join(argv, " "))
	}
}
