// Package cli is the command fastbind: arguments in, text or JSON and an exit
// status out.
//
// It guarantees that results go to stdout and everything else to stderr; that
// with --json each command prints one object, failures included; that what a
// daemon wrote reaches a terminal without control characters; and that status,
// list, why, events, metrics, top, doctor, validate and version start nothing,
// delete nothing and take no launch lock.
//
// Nothing in the package but Main looks at the process: arguments, environment,
// clock and working directory are values of type process.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// Streams are what the command reads and writes. What is an *os.File on a
// terminal gets tables, colours and progress.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs the command with its arguments, its name left out, and returns the
// exit status. It catches SIGINT for as long as it runs, unless it was started
// with SIGINT ignored, as a shell's background jobs are; a second one ends the
// process.
func Main(args, env []string, streams Streams) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	catch := func() {
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, os.Interrupt)
		//fastbindvet:ignore beforerun it sleeps until there is a signal, also in a broker
		go func() {
			<-interrupts
			cancel(errInterrupted)
			signal.Stop(interrupts)
		}()
	}
	switch {
	case signal.Ignored(os.Interrupt):
	case len(args) > 0 && args[0] == "dial":
		//fastbindvet:ignore beforerun as above
		defer time.AfterFunc(moment, catch).Stop()
	default:
		catch()
	}
	return run(ctx, process{
		args: args, env: env, streams: streams,
		cwd: os.Getwd, now: time.Now, uid: os.Geteuid(),
		self: os.Executable, notify: notifyContext, ticks: ticks,
	})
}

// moment is how long an interrupt ends a dial as it does any other process. To catch it
// takes the Go runtime three threads, a tenth of what it takes to dial a daemon that runs,
// and nobody's fingers are that fast. Whatever is under way may be ended at any step.
const moment = 20 * time.Millisecond

// ticks ticks at each signal, unless there is none such or the process was started with
// it ignored, until the function is called.
func ticks(s os.Signal) (<-chan struct{}, func()) {
	signals, ticks := make(chan os.Signal, 1), make(chan struct{})
	if s == nil || signal.Ignored(s) {
		return nil, func() {}
	}
	signal.Notify(signals, s)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-signals:
			case <-done:
				return
			}
			select {
			case ticks <- struct{}{}:
			case <-done:
				return
			}
		}
	}()
	return ticks, func() { signal.Stop(signals); close(done) }
}

// notifyContext is signal.NotifyContext but for signals that are ignored: nohup
// and its like mean it.
func notifyContext(ctx context.Context, signals ...os.Signal) (context.Context, context.CancelFunc) {
	signals = slices.DeleteFunc(slices.Clone(signals), signal.Ignored)
	if len(signals) == 0 { // none would mean all
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, signals...)
}

// process is everything that the command takes from the process it runs in.
type process struct {
	args    []string
	env     []string
	streams Streams
	cwd     func() (string, error)
	now     func() time.Time
	uid     int
	self    func() (string, error) // path of this executable
	notify  func(context.Context, ...os.Signal) (context.Context, context.CancelFunc)
	ticks   func(os.Signal) (<-chan struct{}, func())
}

// app is one run of the command.
type app struct {
	process
	out, err screen
	dirs     runtimedir.Env

	// Flags of every verb.
	json     bool
	instance string

	entered  bool        // a verb runs: errors from here on are not of the arguments
	streamed atomic.Bool // the verb's stdout carries data: no object may follow
}

func run(ctx context.Context, p process) int {
	a := newApp(p)
	return a.execute(ctx, a.command(a.args))
}

// execute runs the verb that the arguments name.
func (a *app) execute(ctx context.Context, root *cobra.Command) int {
	root.SetArgs(a.args)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.entered {
		err = usage(root, a.args, err)
		// The flag may stand behind the mistake.
		before, _, _ := cutDash(a.args)
		a.json = a.json || slices.Contains(before, "--json")
	}
	return a.end(ctx, err)
}

func newApp(p process) *app {
	a := &app{process: p}
	plain := a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb"
	a.out, a.err = newScreen(p.streams.Out, plain), newScreen(p.streams.Err, plain)
	a.dirs = runtimedir.FromEnviron(a.getenv, p.uid, func() string {
		home, _, _, err := proc.Account(p.uid)
		if err != nil {
			return ""
		}
		return home
	})
	return a
}

func (a *app) getenv(name string) string {
	for _, e := range slices.Backward(a.env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func cutDash(args []string) (before, after []string, found bool) {
	if i := slices.Index(args, "--"); i >= 0 {
		return args[:i], args[i+1:], true
	}
	return args, nil, false
}

// A verb is a part of the tree. What has no group is a topic, or about all others.
type verb struct {
	name, group string
	make        func() *cobra.Command
}

func (a *app) verbs() []verb {
	return []verb{
		{"try", groupUse, a.tryCommand},
		{"start", groupUse, a.startCommand}, {"dial", groupUse, a.dialCommand}, {"stop", groupUse, a.stopCommand}, {"restart", groupUse, a.restartCommand},
		{"status", groupLook, a.statusCommand}, {"list", groupLook, a.listCommand}, {"logs", groupLook, a.logsCommand}, {"why", groupLook, a.whyCommand},
		{"events", groupLook, a.eventsCommand}, {"top", groupLook, a.topCommand}, {"metrics", groupLook, a.metricsCommand}, {"stacks", groupLook, a.stacksCommand},
		{"doctor", groupLook, a.doctorCommand}, {"check", groupLook, a.checkCommand}, {"validate", groupLook, a.validateCommand}, {"version", groupLook, a.versionCommand},
		{"broker", groupCare, a.brokerCommand}, {"enable", groupCare, a.enableCommand}, {"disable", groupCare, a.disableCommand}, {"reload", groupCare, a.reloadCommand},
		{"reset", groupCare, a.resetCommand}, {"purge", groupCare, a.purgeCommand},
		{"man", "", a.manCommand}, {"definition", "", definitionTopic}, {"exit-status", "", exitTopic},
	}
}

// command builds the tree of verbs, the source of help, completions and manual
// pages alike. If the arguments begin with a verb's name it is that verb alone: to make
// them all takes as long as what most of them do.
func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "fastbind",
		Short: "Start daemons, connect to them, see what is wrong with them",
		Long: `fastbind makes sure that a daemon runs and connects to it. The endpoint is bound
before the daemon has loaded anything, so clients are connected at once and wait
in the kernel's queue. However many start or dial a service at the same time, one
daemon is launched.

Any program that takes a listener by systemd's convention (LISTEN_FDS), or as a
descriptor in an argument or a variable, can be run this way unchanged.`,
		Example: `  fastbind start web -- gunicorn app:main   prints the endpoint's path
  curl --unix-socket "$(fastbind start web)" http://web/
  echo hello | fastbind dial echo -- ./echod
  fastbind why web`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(a.streams.In)
	root.SetOut(a.out.w)
	root.SetErr(a.streams.Err)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object instead of text; help stays text")
	root.PersistentFlags().StringVarP(&a.instance, "instance", "i", "default", "namespace of services")
	_ = root.RegisterFlagCompletionFunc("instance", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return a.instances(), cobra.ShellCompDirectiveNoFileComp
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := definition.CheckName("instance", a.instance); err != nil {
			return err
		}
		a.entered = true
		return nil
	}
	root.AddGroup(
		&cobra.Group{ID: groupUse, Title: "Run and use a service:"},
		&cobra.Group{ID: groupLook, Title: "Look, and change nothing:"},
		&cobra.Group{ID: groupCare, Title: "Take care:"},
	)
	verbs := a.verbs()
	alone := func(v verb) bool { return v.group != "" && len(args) > 0 && v.name == args[0] }
	if i := slices.IndexFunc(verbs, alone); i >= 0 {
		verbs = verbs[i : i+1]
		root.CompletionOptions.DisableDefaultCmd = true
		root.SetHelpCommand(&cobra.Command{Use: "help", Hidden: true})
	}
	for _, v := range verbs {
		c := v.make()
		c.GroupID = v.group
		root.AddCommand(c)
	}
	root.SetHelpCommandGroupID(groupCare)
	root.SetCompletionCommandGroupID(groupCare)
	if len(verbs) > 1 {
		strict(root)
	}
	return root
}

// strict makes mistakes of what cobra's own verbs take for success: help for a
// topic that is none, and completion for a shell that is none.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			help := c.Run
			c.Run, c.RunE = nil, func(cmd *cobra.Command, args []string) error {
				if topic, rest, err := root.Find(args); err != nil || topic != root && len(rest) > 0 {
					return &usageError{"no help topic " + strconv.Quote(strings.Join(args, " ")), "see: fastbind --help"}
				}
				help(cmd, args)
				return nil
			}
		case "completion":
			c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

const (
	groupUse  = "use"
	groupLook = "look"
	groupCare = "care"
)

// usage makes one line and a hint of an error of the arguments. The hint names
// the verb that was meant, or the help of the one that was given.
func usage(root *cobra.Command, args []string, err error) error {
	var u *usageError
	if errors.As(err, &u) {
		return u
	}
	text, _, _ := strings.Cut(err.Error(), "\n") // cobra's suggestions follow
	cmd, _, missing := root.Find(args)
	if missing != nil || cmd == nil {
		cmd = root
		if i := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") }); i >= 0 {
			if meant := root.SuggestionsFor(args[i]); len(meant) > 0 {
				return &usageError{text, "did you mean: fastbind " + strings.Join(meant, ", fastbind ") + "?"}
			}
		}
	}
	return &usageError{text, "see: " + cmd.CommandPath() + " --help"}
}

// broker returns the embedded broker for a completed definition.
func (a *app) broker(d definition.Definition) *launch.Broker {
	return launch.NewBroker(a.dirs, d, a.clientEnv)
}

func (a *app) clientEnv() []string { return a.env }

// named returns a broker that knows the service's name only.
func (a *app) named(name string) *launch.Broker {
	return a.broker(definition.Definition{Service: name, Instance: a.instance}.Complete())
}

// found returns the brokers of a service's directories in this instance: one,
// or with policy coexist one for each environment.
func (a *app) found(name string) []*launch.Broker {
	var list []*launch.Broker
	for _, f := range launch.Services(a.dirs) {
		if f.Instance == a.instance && f.Service == name {
			list = append(list, launch.Of(a.dirs, f, a.clientEnv))
		}
	}
	return list
}

// all returns the brokers of every service that was launched, of this instance
// or of all.
func (a *app) all(everywhere bool) []*launch.Broker {
	var list []*launch.Broker
	for _, f := range launch.Services(a.dirs) {
		if everywhere || f.Instance == a.instance {
			list = append(list, launch.Of(a.dirs, f, a.clientEnv))
		}
	}
	return list
}

func (a *app) instances() []string {
	var names []string
	for _, f := range launch.Services(a.dirs) {
		if !slices.Contains(names, f.Instance) {
			names = append(names, f.Instance)
		}
	}
	return names
}

// checkNames makes bad names errors of usage.
func checkNames(names []string) error {
	for _, n := range names {
		if err := definition.CheckName("service", n); err != nil {
			return &usageError{err.Error(), ""}
		}
	}
	return nil
}

// withTimeout bounds ctx by a --timeout, 0 meaning none.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// completeNames completes the names of services, at most max of them.
func (a *app) completeNames(max int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if max > 0 && len(args) >= max {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, n := range a.names() {
			if !slices.Contains(args, n) {
				names = append(names, n)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// names are the services that were launched in the instance or are defined by
// a file, sorted.
func (a *app) names() []string {
	var names []string
	for _, f := range launch.Services(a.dirs) {
		if f.Instance == a.instance {
			names = append(names, f.Service)
		}
	}
	names = append(names, a.fileNames()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// dead reports whether err says that the connection's other side is gone.
func dead(err error) bool {
	return errorsIsAny(err, io.EOF, syscall.ECONNRESET, syscall.EPIPE)
}
