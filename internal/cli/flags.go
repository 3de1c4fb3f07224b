package cli

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/version"
)

// definitionFlags are the fields of a definition as flags.
type definitionFlags struct {
	set *pflag.FlagSet
	def definition.Definition
	val struct{ bind, envPolicy, onHang, onVersion string }
}

func addDefinitionFlags(cmd *cobra.Command) *definitionFlags {
	f := &definitionFlags{set: cmd.Flags()}
	d := &f.def
	f.set.StringVar(&f.val.bind, "bind", "broker", "who binds the endpoint: `broker|daemon`")
	f.set.StringVar(&d.Dir, "dir", "/", "working directory of the daemon")
	f.set.StringArrayVar(&d.Env, "env", nil, "pass variable `K` on, or set it with K=V (repeatable)")
	f.set.StringVar(&f.val.envPolicy, "env-policy", "ignore", "clients with another environment: `ignore|coexist|refuse`")
	f.set.StringArrayVar(&d.FDEnv, "fd-env", nil, "variable `NAME=TEMPLATE` with {fd} or {socket} (repeatable)")
	f.set.StringArrayVar(&d.Endpoints, "endpoint", nil, "`NAME` of a further endpoint, with {fd:NAME} and {socket:NAME} (repeatable)")
	f.set.BoolVar(&d.Foreign, "foreign", true, "the program may know nothing of fastbind")
	f.set.StringVar(&d.Version, "version", "", "version of the daemon, if it does not say itself")
	f.set.DurationVar(&d.BoundWithin, "bound-within", definition.DefaultBoundWithin, "with --bind daemon: from exec to listening")
	f.set.DurationVar(&d.AdoptWithin, "adopt-within", definition.DefaultAdoptWithin, "from exec to adopting the listener")
	f.set.DurationVar(&d.StopWithin, "stop-within", definition.DefaultStopWithin, "from the request to stop to the kill")
	f.set.DurationVar(&d.IdleExit, "idle-exit", 0, "end after that long without a client or lease; 0 is never")
	f.set.DurationVar(&d.HangAfter, "hang-after", definition.DefaultHangAfter, "silence after which the daemon is asked whether it lives")
	f.set.StringVar(&f.val.onHang, "on-hang", "replace", "a daemon that does not answer that: `replace|report`")
	f.set.StringVar(&f.val.onVersion, "on-version", "ignore", "a daemon of another build: `ignore|coexist|replace|refuse`")
	f.set.StringVar(&d.MinVersion, "min-version", "", "with --on-version replace or refuse: lowest `VERSION` to be served by")
	f.set.StringArrayVar(&d.AllowVersions, "allow-version", nil, "likewise: `WANT`s of which one must match (repeatable)")
	_ = cmd.RegisterFlagCompletionFunc("on-version", cobra.FixedCompletions([]string{"ignore", "coexist", "replace", "refuse"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("on-hang", cobra.FixedCompletions([]string{"replace", "report"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("bind", cobra.FixedCompletions([]string{"broker", "daemon"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("env-policy", cobra.FixedCompletions([]string{"ignore", "coexist", "refuse"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("dir")
	return f
}

// given reports whether any field was given.
func (f *definitionFlags) given() bool {
	for _, name := range []string{"bind", "dir", "env", "env-policy", "fd-env", "endpoint", "foreign", "version", "bound-within", "adopt-within", "stop-within",
		"idle-exit", "hang-after", "on-hang", "on-version", "min-version", "allow-version"} {
		if f.set.Changed(name) {
			return true
		}
	}
	return false
}

// apply puts the fields that were given into d.
func (f *definitionFlags) apply(d *definition.Definition, cwd func() (string, error)) error {
	if f.set.Changed("dir") {
		d.Dir = f.def.Dir
		if d.Dir == "" {
			return &usageError{"--dir is empty", ""}
		}
		if !filepath.IsAbs(d.Dir) {
			wd, err := cwd()
			if err != nil {
				return err
			}
			d.Dir = filepath.Join(wd, d.Dir)
		}
	}
	for name, put := range map[string]func(){
		"bind":          func() { d.Bind = definition.Bind(f.val.bind) },
		"env":           func() { d.Env = f.def.Env },
		"env-policy":    func() { d.EnvPolicy = definition.EnvPolicy(f.val.envPolicy) },
		"fd-env":        func() { d.FDEnv = f.def.FDEnv },
		"endpoint":      func() { d.Endpoints = f.def.Endpoints },
		"foreign":       func() { d.Foreign = f.def.Foreign },
		"version":       func() { d.Version = f.def.Version },
		"bound-within":  func() { d.BoundWithin = f.def.BoundWithin },
		"adopt-within":  func() { d.AdoptWithin = f.def.AdoptWithin },
		"stop-within":   func() { d.StopWithin = f.def.StopWithin },
		"idle-exit":     func() { d.IdleExit = f.def.IdleExit },
		"hang-after":    func() { d.HangAfter = f.def.HangAfter },
		"on-hang":       func() { d.OnHang = definition.HangPolicy(f.val.onHang) },
		"on-version":    func() { d.OnVersion = definition.VersionPolicy(f.val.onVersion) },
		"min-version":   func() { d.MinVersion = f.def.MinVersion },
		"allow-version": func() { d.AllowVersions = f.def.AllowVersions },
	} {
		if f.set.Changed(name) {
			put()
		}
	}
	for _, v := range []time.Duration{f.def.BoundWithin, f.def.AdoptWithin, f.def.StopWithin, f.def.HangAfter} {
		if v <= 0 {
			return &usageError{"a budget must be 1ms to 1h", ""} // 0 would mean the default
		}
	}
	return nil
}

// waitFlag is --wait.
type waitFlag struct{ value string }

func addWaitFlag(cmd *cobra.Command) *waitFlag {
	w := &waitFlag{}
	cmd.Flags().StringVar(&w.value, "wait", "bound", "until the endpoint is bound, or the daemon ready: `bound|ready`")
	_ = cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{"bound", "ready"}, cobra.ShellCompDirectiveNoFileComp))
	return w
}

func (w *waitFlag) ready() (bool, error) {
	switch w.value {
	case "bound":
		return false, nil
	case "ready":
		return true, nil
	}
	return false, &usageError{"--wait " + w.value + ": use bound or ready", ""}
}

// wantFlag is --want: of the call, not of the service.
func addWantFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("want", "", "be served by a `VERSION` that matches only, such as 1.4.2, 1.4 or \">=1.2, <2\"")
}

// checkWant makes a malformed want an error of usage.
func checkWant(want string) error {
	if want == "" {
		return nil
	}
	if _, err := version.ParseWant(want); err != nil {
		return &usageError{"--want: " + err.Error(), ""}
	}
	return nil
}

func addTimeoutFlag(cmd *cobra.Command, what string) *time.Duration {
	d := new(timeout)
	cmd.Flags().Var(d, "timeout", "`duration` such as 500ms after which "+what+" is given up; 0 is never")
	return (*time.Duration)(d)
}

// A timeout is a duration that is not negative.
type timeout time.Duration

// Set parses what the user gave.
func (t *timeout) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	if d < 0 {
		return errors.New("it is negative; 0 is never")
	}
	*t = timeout(d)
	return nil
}

// Type is what help calls the value.
func (*timeout) Type() string { return "duration" }

func (t *timeout) String() string {
	if *t == 0 {
		return "0" // which help does not show as a default
	}
	return time.Duration(*t).String()
}

// nameAndCommand takes NAME [-- COMMAND ARG…] apart.
func nameAndCommand(cmd *cobra.Command, args []string) (name string, command []string, err error) {
	dash := cmd.ArgsLenAtDash()
	names := args
	if dash >= 0 {
		names, command = args[:dash], args[dash:]
		if len(command) == 0 {
			return "", nil, &usageError{"there is no COMMAND after --", ""}
		}
	}
	switch {
	case len(names) == 0:
		return "", nil, &usageError{"NAME is missing", "see: " + cmd.CommandPath() + " --help"}
	case len(names) > 1:
		return "", nil, &usageError{"one NAME is enough, and a COMMAND stands after --",
			"write: " + cmd.CommandPath() + " " + names[0] + " -- " + names[1] + " …"}
	}
	return names[0], command, checkNames(names)
}
