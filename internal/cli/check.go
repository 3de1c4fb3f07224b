package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/fastbindtest"
)

type checkReply struct {
	Schema int         `json:"schema"`
	OK     bool        `json:"ok"`
	Mode   *string     `json:"mode"`
	Holds  int         `json:"holds"`
	Broken int         `json:"broken"`
	NotApp int         `json:"not_applicable"`
	Undec  int         `json:"undecided"`
	TookMS float64     `json:"took_ms"`
	Cases  []caseReply `json:"cases"`
	Error  *errorJSON  `json:"error"`
}

type caseReply struct {
	Name        string   `json:"name"`
	Requirement string   `json:"requirement"`
	Rule        string   `json:"rule"`
	Modes       []string `json:"modes"`
	Outcome     *string  `json:"outcome"` // null with --list
	Reason      *string  `json:"reason"`
	Observed    []string `json:"observed"`
	TookMS      *float64 `json:"took_ms"`
}

// checkFlags are the target and what is asked of it.
type checkFlags struct {
	client, setup, stop, request, expect, http string
	status, env, only, skip                    []string
	idle                                       time.Duration
	limits                                     fastbindtest.Limits
	list, verbose                              bool
	junit                                      string
}

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [flags] [-- COMMAND ARG…]",
		Short: "Torture a daemon of any make and say what is wrong with it",
		Long: `Start a daemon in many ways that go wrong, and say which rules it breaks: crowds,
kill -9, SIGSTOP, deleted sockets, a caller that waits for the end of its pipe. It
need not know of fastbind. The COMMAND says how it comes by its endpoint:

  -- webd                       it is handed a listener by systemd's convention
  -- webd --fd {fd}             or as a descriptor
  -- webd --listen {socket}     it binds that path
  -- webd --port {port}         it binds that port of 127.0.0.1
  --client 'tool ping'          a command, run by sh, starts the daemon itself

Without --request, --http or --expect clients only connect, and cases that need an
answer do not apply. In arguments, commands and variables {dir} is a temporary
directory. HOME, TMPDIR and the XDG directories lead there. Everything is gone at
the end, also after Ctrl-C, with every process that was started. What insists on a
fixed port is best run below unshare -n. On Windows {socket} is a pipe, there is no
{fd}, and commands are started without a shell.

The exit status is 1 if a rule is broken, or could not be judged, and 0 if all that
apply hold.`,
		Example: `  fastbind check --http / -- gunicorn app:main
  fastbind check --client 'tool ping' --stop 'tool stop' --status 'tool status'
  fastbind check -- redis-server --port 0 --unixsocket {socket}`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := &checkFlags{}
	set := cmd.Flags()
	set.StringVar(&f.client, "client", "", "`command` that uses the daemon and starts it if none runs")
	set.StringVar(&f.setup, "setup", "", "`command` that first makes what the target needs")
	set.StringArrayVar(&f.status, "status", nil, "with --client: `command` that only looks (repeatable)")
	set.StringVar(&f.stop, "stop", "", "with --client: `command` that ends the daemon")
	set.StringVar(&f.request, "request", "", "`text` that a client sends; \\n and the like are understood")
	set.StringVar(&f.expect, "expect", "", "`regexp` that the answer matches, or with --client the output")
	set.StringVar(&f.http, "http", "", "request this `path` by HTTP")
	set.StringArrayVar(&f.env, "env", nil, "pass variable `K` on, or set it with K=V (repeatable)")
	set.DurationVar(&f.idle, "idle-exit", 0, "idle exit to try, which {idle} or {idle_seconds} tells the daemon")
	set.IntVar(&f.limits.Crowd, "crowd", 16, "clients or starters at once, 2 to 1000")
	set.IntVar(&f.limits.Rounds, "rounds", 3, "how often such a crowd comes")
	set.DurationVar(&f.limits.BoundWithin, "bound-within", 500*time.Millisecond, "from exec to listening, if the daemon binds")
	set.DurationVar(&f.limits.Patience, "patience", 30*time.Second, "for a start, an answer or an end; a client has twice that")
	set.DurationVar(&f.limits.HangWithin, "hang-within", 45*time.Second, "after which a client of a stopped daemon has ended")
	set.DurationVar(&f.limits.Case, "case-timeout", 3*time.Minute, "after which a case is undecided")
	set.DurationVar(&f.limits.Total, "timeout", 30*time.Minute, "after which the rest is undecided")
	set.StringSliceVar(&f.only, "only", nil, "judge these `cases` only (comma separated)")
	set.StringSliceVar(&f.skip, "skip", nil, "leave these `cases` out (comma separated)")
	set.BoolVar(&f.list, "list", false, "print the cases and judge nothing")
	set.BoolVarP(&f.verbose, "verbose", "v", false, "print what was observed also where a rule holds")
	set.StringVar(&f.junit, "junit", "", "write a JUnit report into this `file`")
	for _, name := range []string{"only", "skip"} {
		_ = cmd.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range fastbindtest.Cases() {
				names = append(names, c.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		})
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.list {
			a.listCases()
			return nil
		}
		if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
			return &usageError{"a COMMAND stands after --", "write: fastbind check -- " + strings.Join(args, " ")}
		}
		target, err := f.target(args)
		if err != nil {
			return err
		}
		// There is something to clean up also when it is not Ctrl-C.
		ctx, stop := a.notify(cmd.Context(), syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		return a.check(ctx, cmd.Context(), f, target)
	}
	return cmd
}

// target makes a target of the flags.
func (f *checkFlags) target(command []string) (fastbindtest.Target, error) {
	t := fastbindtest.Target{Command: command, Env: f.env, Expect: f.expect, IdleExit: f.idle, Only: f.only, Skip: f.skip, Limits: f.limits}
	var err error
	for text, argv := range map[*string]*[]string{&f.client: &t.Client, &f.setup: &t.Setup, &f.stop: &t.Stop} {
		if *text != "" && err == nil {
			*argv, err = shellCommand(*text)
		}
	}
	for _, s := range f.status {
		if err == nil {
			var argv []string
			argv, err = shellCommand(s)
			t.Status = append(t.Status, argv)
		}
	}
	if err != nil {
		return t, &usageError{err.Error(), ""}
	}
	if f.request != "" {
		// A shell's line breaks are as good as \n.
		text, err := strconv.Unquote(`"` + strings.NewReplacer(`"`, `\"`, "\n", `\n`, "\r", `\r`).Replace(f.request) + `"`)
		if err != nil {
			return t, &usageError{"--request has an escape that is none", `write \\ for a backslash`}
		}
		t.Request = text
	}
	if f.http != "" {
		if t.Request != "" {
			return t, &usageError{"--request and --http are two requests", ""}
		}
		t.Request = "GET " + f.http + " HTTP/1.0\r\nHost: localhost\r\n\r\n"
		if t.Expect == "" {
			t.Expect = `^HTTP/1\.[01] [1-4]`
		}
	}
	for _, d := range []time.Duration{t.Limits.BoundWithin, t.Limits.Patience, t.Limits.HangWithin, t.Limits.Case, t.Limits.Total} {
		if d <= 0 {
			return t, &usageError{"a limit must be more than 0s", ""} // 0 would mean the default
		}
	}
	if t.Limits.Crowd == 0 || t.Limits.Rounds == 0 {
		return t, &usageError{"--crowd must be 2 to 1000, --rounds 1 to 1000", ""}
	}
	if err := t.Validate(); err != nil {
		return t, &usageError{err.Error(), "see: fastbind check --help"}
	}
	return t, nil
}

// check judges the target; outer is ctx without what ends it besides Ctrl-C.
func (a *app) check(ctx, outer context.Context, f *checkFlags, target fastbindtest.Target) error {
	p := &bar{s: a.err}
	all := len(fastbindtest.Cases()) - len(f.skip)
	if len(f.only) > 0 {
		all = len(f.only)
	}
	done := 0
	report, err := fastbindtest.Check(ctx, target, func(c fastbindtest.Case, r *fastbindtest.Result) {
		if r == nil {
			p.show(c.Name, float64(done)/float64(max(all, 1)))
			return
		}
		done++
		p.clear()
		if !a.json && r.Outcome != fastbindtest.NotApplicable {
			a.printCase(*r, f.verbose)
		}
	})
	p.clear()
	switch {
	case err == nil:
	case ctx.Err() != nil && outer.Err() == nil:
		return quiet(exitInterrupted)
	default:
		return err
	}
	if f.junit != "" {
		if err := a.writeJUnit(f.junit, report, cmp.Or(f.client, strings.Join(target.Command, " "))); err != nil {
			return err
		}
	}
	if a.json {
		a.print(checkedJSON(report))
	} else {
		a.printVerdict(report)
	}
	if !report.OK() {
		return quiet(exitOther)
	}
	return nil
}

func (a *app) writeJUnit(path string, r fastbindtest.Report, suite string) error {
	if !filepath.IsAbs(path) {
		wd, err := a.cwd()
		if err != nil {
			return err
		}
		path = filepath.Join(wd, path)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	err = r.WriteJUnit(file, suite)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

func checkedJSON(r fastbindtest.Report) checkReply {
	mode := string(r.Mode)
	out := checkReply{Schema: schema, OK: r.OK(), Mode: &mode, Holds: r.Count(fastbindtest.Holds), Broken: r.Count(fastbindtest.Broken),
		NotApp: r.Count(fastbindtest.NotApplicable), Undec: r.Count(fastbindtest.Undecided), TookMS: float64(r.Took.Milliseconds())}
	for _, res := range r.Results {
		outcome, took := string(res.Outcome), float64(res.Took.Milliseconds())
		c := caseJSON(res.Case)
		c.Outcome, c.Reason, c.Observed, c.TookMS = &outcome, some(res.Reason), res.Observed, &took
		out.Cases = append(out.Cases, c)
	}
	return out
}

func caseJSON(c fastbindtest.Case) caseReply {
	return caseReply{Name: c.Name, Requirement: c.Requirement, Rule: c.Rule, Modes: words(c.Modes)}
}

func words(modes []fastbindtest.Mode) (list []string) {
	for _, m := range modes {
		list = append(list, string(m))
	}
	return list
}

func (a *app) listCases() {
	if a.json {
		out := checkReply{Schema: schema, OK: true}
		for _, c := range fastbindtest.Cases() {
			out.Cases = append(out.Cases, caseJSON(c))
		}
		a.print(out)
		return
	}
	t := table{heads: []string{"CASE", "REQUIREMENT", "JUDGED", "RULE"}}
	for _, c := range fastbindtest.Cases() {
		t.rows = append(t.rows, []string{c.Name, c.Requirement, strings.Join(words(c.Modes), ","), c.Rule})
	}
	t.print(a.out)
}

// printCase prints what came of a case that applies: the rule, and where it does
// not hold why, and what was seen.
func (a *app) printCase(r fastbindtest.Result, verbose bool) {
	mark, colour := "ok  ", good
	switch r.Outcome {
	case fastbindtest.Broken:
		mark, colour = "FAIL", bad
	case fastbindtest.Undecided:
		mark, colour = "????", bad
	case fastbindtest.NotApplicable, fastbindtest.Holds:
	}
	line(a.out.w, a.out.paint(colour, mark)+fmt.Sprintf("  %-8s  %-14s  ", r.Case.Requirement, r.Case.Name)+harmless(r.Case.Rule))
	failed := r.Outcome == fastbindtest.Broken || r.Outcome == fastbindtest.Undecided
	if failed {
		line(a.out.w, "      "+a.out.paint(bold, harmless(r.Reason)))
	}
	if failed || verbose {
		for _, seen := range r.Observed {
			line(a.out.w, a.out.paint(quietly, "      seen: "+harmless(seen)))
		}
	}
}

// printVerdict prints what does not apply, by reason, and the count.
func (a *app) printVerdict(r fastbindtest.Report) {
	var reasons []string
	names := map[string][]string{}
	for _, res := range r.Results {
		if res.Outcome != fastbindtest.NotApplicable {
			continue
		}
		if names[res.Reason] == nil {
			reasons = append(reasons, res.Reason)
		}
		names[res.Reason] = append(names[res.Reason], res.Case.Name)
	}
	for _, reason := range reasons {
		line(a.out.w, a.out.paint(quietly, "n/a   "+strings.Join(names[reason], ", ")+": "+harmless(reason)))
	}
	text := fmt.Sprintf("%s: %d hold, %d broken, %d not applicable", r.Mode, r.Count(fastbindtest.Holds), r.Count(fastbindtest.Broken),
		r.Count(fastbindtest.NotApplicable))
	if n := r.Count(fastbindtest.Undecided); n > 0 {
		text += fmt.Sprintf(", %d undecided", n)
	}
	line(a.out.w, text+fmt.Sprintf("; %.1f s", r.Took.Seconds()))
}
