package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
)

type brokerReply struct {
	Schema int          `json:"schema"`
	Broker *serviceJSON `json:"broker"` // who is there already
	Error  *errorJSON   `json:"error"`
}

func (a *app) brokerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Hold the endpoints of all services, and run their daemons",
		Long: `Be the broker of the instance, in the foreground: hold the endpoint of every
service that a definition file defines, unless it is disabled, and launch its
daemon when the first client connects, whoever that is. While a broker lives, who
connects during a crash, an upgrade or an idle exit of a daemon waits in the
endpoint's queue; what a definition says about restarts, readiness and limits is
in force.

Definition files are followed: what is added is held, what is removed is let go,
what is changed holds from the next launch on. One that is wrong is reported and
changes nothing. SIGHUP, and fastbind reload, have them read again.

` + settingsFile + ` beside them says what the daemons may have together, each
of which may be left out:

  max_daemons = 8       # that run at the same time
  max_memory  = "4G"    # bytes, also with K, M, G, T

If that is too much, who was not used for the longest time is asked to end, and is
launched again when somebody connects. None is taken from whom it serves.

Its own end loses nothing but what waits in the queues of services that do not run:
daemons stay, and the next broker, or the next client, goes on. It is a service
itself, called ` + standing.Service + `: status, logs, why and stop take that name.

There is one in an instance; to start another is exit status 9, with who is there.`,
		Example: `  fastbind broker
  fastbind broker install           start it with the session, by systemd or launchd
  fastbind broker upgrade           go on with the version that is installed now
  fastbind stop ` + standing.Service,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	onDemand := cmd.Flags().Bool("on-demand", false, "end when there is nothing to hold")
	_ = cmd.Flags().MarkHidden("on-demand")
	try := cmd.Flags().Bool("check-handover", false, "say what a broker that becomes this program needs to know")
	_ = cmd.Flags().MarkHidden("check-handover")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *try {
			a.print(standing.Try(thisProgram(), a.definitions()))
			return nil
		}
		//fastbindvet:ignore beforerun what this process has from its former program it must take before anything forks
		inheritance, err := standing.Inherit()
		switch {
		case err != nil:
			return err
		case *onDemand:
			return a.serveAsBroker(cmd.Context(), standing.Config{OnDemand: true, Inheritance: inheritance})
		}
		return a.beBroker(cmd.Context(), inheritance)
	}
	cmd.AddCommand(a.brokerInstallCommand(), a.brokerUninstallCommand(), a.brokerUpgradeCommand())
	return cmd
}

// supported says that the system can have no broker, if that is so.
func supported() error {
	if errors.Is(broker.Supported(), errors.ErrUnsupported) {
		return &hinted{errors.New("there is no standing broker for this system yet"), "start and dial launch daemons without one"}
	}
	return nil // whatever else is wrong is told by whom it keeps from something
}

func thisProgram() standing.Program {
	version, revision := buildVersion()
	return standing.Program{Version: version, Build: revision}
}

// beBroker is the broker's process, started by hand or by a service manager.
//
//fastbindvet:ignore beforerun nobody has launched this process, so nobody waits for it yet
func (a *app) beBroker(ctx context.Context, inheritance *standing.Inheritance) error {
	if err := supported(); err != nil {
		return err
	}
	manager, err := activation.Take(unit.SocketName)
	if err != nil {
		return err
	}
	if inheritance != nil {
		manager.Sockets = inheritance.Sockets
	}
	by, err := a.brokerDefinition()
	if err != nil {
		return err
	}
	var legacy *standing.Legacy
	if len(manager.Sockets) > 0 && inheritance == nil {
		// The service manager's broker is the one that is to stay, and has what another
		// one holds.
		legacy = standing.Claim(ctx, a.dirs, a.instance)
		if _, err := a.broker(by).Stop(ctx); err != nil && !isClass(err, launch.NotRunning) && !isClass(err, launch.NoService) {
			return err
		}
	}
	err = a.serveAsBroker(ctx, standing.Config{By: &by, Manager: manager, Legacy: legacy, Inheritance: inheritance})
	if errors.Is(err, fastbind.ErrAlreadyBound) {
		return a.brokerThere(ctx, by)
	}
	if err == nil && a.json {
		a.print(brokerReply{Schema: schema})
	}
	return err
}

// serveAsBroker completes c and is the broker. A broker that was launched does nothing
// before.
func (a *app) serveAsBroker(ctx context.Context, c standing.Config) error {
	ctx, stop := a.notify(ctx, syscall.SIGTERM)
	defer stop()
	c.Instance, c.Env, c.Client = a.instance, a.dirs, a.clientEnv
	program := thisProgram()
	c.Version, c.Build = program.Version, program.Build
	c.Read, c.Quota, c.Dir, c.Reload = a.definitions, a.quota, a.configDir, func() (<-chan struct{}, func()) { return a.ticks(syscall.SIGHUP) }
	c.Serve, c.Say, c.Upgraded = serveBroker, a.sayer(), tellUpgraded
	c.Replacement = func() (standing.Replacement, error) {
		exe, err := a.installedSelf()
		return standing.Replacement{Path: exe, Args: append([]string{exe}, a.args...), Env: os.Environ}, err
	}
	broker.UseOneProcessor(a.getenv("GOMAXPROCS"))
	return standing.Run(ctx, c)
}

// sayer tells lines of the broker on stderr, which is its log when it is in the
// background.
func (a *app) sayer() func(string) {
	var mu sync.Mutex
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		io.WriteString(a.streams.Err, "fastbind: "+harmless(text)+"\n")
	}
}

// brokerDefinition is how a broker of this instance is launched.
func (a *app) brokerDefinition() (definition.Definition, error) {
	exe, err := a.installedSelf()
	if err != nil {
		return definition.Definition{}, err
	}
	d := standing.Definition(a.instance, exe, a.brokerVariables())
	if err := d.Check(); err != nil {
		return d, &usageError{err.Error(), ""}
	}
	return d, nil
}

// brokerVariables are those that a broker needs to find what its clients find, and
// those that it passes on to daemons: what definitions name.
func (a *app) brokerVariables() []string {
	names := []string{"FASTBIND_CONFIG_DIR", "FASTBIND_RUNTIME_DIR", "FASTBIND_STATE_DIR"}
	for _, f := range a.definitions() {
		for _, e := range f.Service.Definition.Env {
			if !strings.Contains(e, "=") {
				names = append(names, e)
			}
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return a.getenv(name) == "" })
	slices.Sort(names)
	return slices.Compact(names)
}

// installedSelf is the path by which this executable is to be found also when it was
// replaced by another version: a link in PATH that leads to it, or else its own.
func (a *app) installedSelf() (string, error) {
	self, err := a.self()
	if err != nil {
		return "", err
	}
	is, err := os.Stat(self)
	if err != nil {
		return self, nil // it was replaced; the next one is at the same path
	}
	for _, dir := range filepath.SplitList(a.getenv("PATH")) {
		path := filepath.Join(dir, filepath.Base(self))
		if fi, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && os.SameFile(fi, is) {
			return path, nil
		}
	}
	return self, nil
}

// definitions are what the files say to the broker, without those that are disabled.
func (a *app) definitions() []standing.File {
	var files []standing.File
	for _, name := range a.fileNames() {
		if standing.Disabled(a.dirs, a.instance, name) {
			continue
		}
		f, err := a.file(name)
		switch {
		case err != nil:
			files = append(files, standing.File{Name: name, Err: err})
		case f == nil: // it has gone meanwhile
		case launch.Launchable(f.def) != nil:
			err := &fileError{path: f.path, text: "not held: " + launch.Launchable(f.def).Error()}
			files = append(files, standing.File{Name: name, Err: err, Unheld: true})
		case f.def.Bind == definition.BindDaemon:
			files = append(files, standing.File{Name: name, Err: f.broker.unheld(f.path), Unheld: true})
		default:
			files = append(files, standing.File{Name: name, Service: f.broker.service})
		}
	}
	return files
}

// A thereError says that the instance has a broker.
type thereError struct {
	broker view
	since  string
}

func (e *thereError) Error() string {
	s := "instance " + e.broker.instance + " has a broker: pid " + number(e.broker.pid)
	if e.since != "" {
		s += ", since " + e.since
	}
	if e.broker.version != "" {
		s += ", version " + e.broker.version
	}
	return s + ", endpoint " + e.broker.endpoint
}

// brokerThere says who is there.
func (a *app) brokerThere(ctx context.Context, by definition.Definition) error {
	v, err := a.look(ctx, a.broker(by))
	if err != nil {
		return err
	}
	there := &thereError{broker: v}
	if !v.started.IsZero() {
		there.since = v.started.Local().Format(time.DateTime)
	}
	if !a.json {
		return there
	}
	j := v.json()
	a.print(brokerReply{Schema: schema, Broker: &j, Error: errorOf(there)})
	return quiet(exitThere)
}
