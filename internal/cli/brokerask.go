package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// living connects to the broker of an instance that lives; nil, and no error, if there
// is none. One that hangs is a *launch.Fault of class Hung after answersWithin: what it is
// asked has no bound of its own. It launches nothing. The caller closes it.
func (a *app) living(ctx context.Context, instance string) (*wire.Client, error) {
	b := a.broker(definition.Definition{Service: standing.Service, Instance: instance}.Complete())
	place, err := b.Env.Find(instance, b.DirName())
	if err != nil {
		return nil, nil // there never was one
	}
	entries, _ := launch.Generations(place.Dir)
	e, ok := launch.Current(place.Dir, entries)
	if !ok || !e.Alive {
		return nil, nil
	}
	if hangs(ctx, place, e) {
		return nil, &launch.Fault{Class: launch.Hung, Service: standing.Service, Instance: instance, Generation: e.Number, Stage: launch.StageServe,
			Err: errors.New("it does not answer at its control endpoint"), Status: -1, Cure: "run: fastbind stop --now " + standing.Service}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return connect(ctx, b, place.Sock())
}

// hangs reports whether a generation accepts at its control endpoint and says nothing
// there, which answers whatever it does.
func hangs(ctx context.Context, place runtimedir.Place, e launch.Entry) bool {
	within, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	c, err := launch.DialControl(within, place, e.Name)
	if err != nil {
		return false // it has not bound it yet, or has ended
	}
	defer c.Close()
	_, err = c.Identify(within, launch.Nonce())
	return err != nil && ctx.Err() == nil && within.Err() != nil
}

// answersWithin is what package launch gives a daemon that says nothing there.
const answersWithin = 5 * time.Second

func connect(ctx context.Context, b *launch.Broker, sock string) (*wire.Client, error) {
	conn, reach, err := endpoint.Connect(ctx, sock)
	switch {
	case err == nil:
		return wire.NewClient(conn), nil
	case reach == endpoint.Absent, reach == endpoint.Refused:
		return nil, nil // it has just ended
	}
	return nil, b.DirectoryFault(err)
}

// heldBy is the pid of the living broker that holds the endpoint in a service's
// directory, 0 if none does.
func heldBy(dir string) int {
	holder := launch.Holder(dir)
	if holder == "" {
		return 0
	}
	r, err := record.Read(filepath.Join(holder, record.FileName))
	if err != nil {
		return 0
	}
	return r.PID
}

// isHeld reports whether a living broker holds the service.
func (a *app) isHeld(b *launch.Broker) bool {
	place, err := b.Env.Find(b.Def.Instance, b.DirName())
	return err == nil && b.Def.Service != standing.Service && launch.Holder(place.Dir) != ""
}

// holder connects to the broker that has the service: it holds the endpoint, or follows
// who serves there, or answers for one that cannot be launched. It is nil, and no error,
// if none does. The caller closes it.
func (a *app) holder(ctx context.Context, b *launch.Broker) (*wire.Client, error) {
	if a.isHeld(b) {
		return a.living(ctx, b.Def.Instance)
	}
	c, _ := a.follower(ctx, b)
	return c, nil
}

// follower connects to the broker that has the service without holding its endpoint, and
// returns what it says; nil if there is none that says so within followWithin. The caller
// closes it.
func (a *app) follower(ctx context.Context, b *launch.Broker) (*wire.Client, wire.Service) {
	if b.Def.Service == standing.Service || b.DirName() != b.Def.Service { // a variant may be another one than the broker's
		return nil, wire.Service{}
	}
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	c, err := a.living(ctx, b.Def.Instance)
	if c == nil || err != nil {
		return nil, wire.Service{}
	}
	s, _, _, err := c.Describe(ctx, b.Def.Service)
	if err != nil {
		_ = c.Close()
		return nil, wire.Service{}
	}
	return c, s
}

// followWithin bounds the question to a broker that nothing depends on: one that hangs
// and holds the service is found out by its holder's name.
const followWithin = time.Second

// summon is holder for a service that is to run: if its file has hold, a broker is
// launched that holds it. One that cannot be had is no reason not to go on.
func (a *app) summon(ctx context.Context, p *plan) (*wire.Client, error) {
	if p.given && !a.isHeld(p.broker) { // the broker has it as the file says
		return nil, nil
	}
	c, err := a.holder(ctx, p.broker)
	if c != nil || err != nil || p.file == nil || !p.file.broker.hold || standing.Disabled(a.dirs, a.instance, p.def.Service) {
		return c, err
	}
	err = again(ctx, func() error {
		if c, err = a.launchBroker(ctx); err != nil {
			return err
		}
		// It may have read the files before this one was written.
		if err = c.Reload(ctx); err != nil {
			_ = c.Close()
		}
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		a.warn(`"`+p.def.Service+`" is not held by a broker: `+err.Error(), "see: fastbind why "+a.nameArgs(standing.Service))
		return nil, nil
	}
	return c, nil
}

// again does what asks a broker until it has an answer. One that is killed accepts for
// a moment, and one that ends has a successor.
func again(ctx context.Context, ask func() error) error {
	var err error
	for range askTimes {
		if err = ask(); !errorsIsAny(err, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, broker.ErrEnded) {
			break
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// A broker that was killed is gone within a second, by far.
const (
	askTimes = 50
	askPause = 20 * time.Millisecond
)

// launchBroker connects to the broker of the instance and has it launched if there is
// none, by the service manager if that has been told to.
func (a *app) launchBroker(ctx context.Context) (*wire.Client, error) {
	c, err := a.living(ctx, a.instance)
	if c != nil || err != nil {
		return c, err
	}
	if err := supported(); err != nil {
		return nil, err
	}
	by, err := a.brokerDefinition()
	if err != nil {
		return nil, err
	}
	b := a.broker(by)
	for _, root := range a.dirs.Roots() {
		if c, err := connect(ctx, b, unit.Socket(root, a.instance)); c != nil && err == nil {
			return c, nil
		}
	}
	if _, err := b.Start(ctx, a.now()); err != nil {
		return nil, err
	}
	if err := b.AwaitReady(ctx, func(string, float64) {}); err != nil {
		return nil, err
	}
	if c, err = a.living(ctx, a.instance); c == nil && err == nil {
		err = errors.New("the broker has ended at once")
	}
	return c, err
}

// launchHeld has the broker that holds a service launch it.
func (a *app) launchHeld(ctx context.Context, c *wire.Client, p *plan, ready bool) (launched, error) {
	before, err := a.look(ctx, p.broker)
	if err != nil {
		return launched{}, err
	}
	l := launched{place: before.status.Place}
	got, err := c.Launch(ctx, p.def.Service, ready)
	if err != nil {
		return l, a.brokerFault(ctx, p.broker, err) // which keeps its cause
	}
	if got.Generation != 0 && (!before.alive || got.Generation != before.generation) {
		l.generation = &launch.Generation{Number: got.Generation, PID: got.PID}
		return l, nil
	}
	return l, a.checkAttached(p)
}

// brokerFault is why the broker has not done what it was asked for a service.
func (a *app) brokerFault(ctx context.Context, b *launch.Broker, err error) error {
	if ctx.Err() != nil {
		return b.DeadlineFault(ctx)
	}
	f := &launch.Fault{Class: launch.LaunchFailed, Service: b.Def.Service, Instance: b.Def.Instance, Stage: launch.StageSpawn, Err: err, Status: -1}
	refused, ok := errors.AsType[*wire.RefusedError](err)
	if !ok {
		f.Class, f.Stage = launch.Refusal, launch.StageControl
		f.Err = fmt.Errorf("the broker: %w", err)
		return f
	}
	if f.RetryAt = refused.RetryAt; !f.RetryAt.IsZero() {
		f.Class, f.Stage = launch.Refusal, launch.StageBudget
	}
	// What is on record says it better: stage, exit, and the last lines of the log.
	if v, err := a.look(ctx, b); err == nil && v.failure != nil && strings.Contains(refused.Reason, v.failure.Error()) {
		known := *v.failure
		if known.Class, known.RetryAt = f.Class, f.RetryAt; refused.Reason != v.failure.Error() {
			known.Stage, known.Err = f.Stage, f.Err // there is more to it, such as how often
			known.Status, known.Signal = -1, ""     // which the reason says
		}
		return &known
	}
	return f
}

type switchReply struct {
	Schema   int        `json:"schema"`
	Service  string     `json:"service"`
	Instance string     `json:"instance"`
	Enabled  bool       `json:"enabled"`
	Held     bool       `json:"held"` // by a living broker
	Error    *errorJSON `json:"error"`
}

func (a *app) enableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "enable NAME",
		Short: "Have a service held by the broker",
		Long: `Have the service that NAME.toml defines held by the broker of the instance, now if
one lives, and from its start on. That is so of every file unless the service was
disabled.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setEnabled(cmd.Context(), args[0], true)
		},
	}
}

func (a *app) disableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "disable NAME",
		Short: "Have a service held by no broker",
		Long: `Have the broker of the instance let NAME go, now if one lives, and not hold it from
its start on. What runs of it runs on, and start and dial launch it as without a
broker; for those who wait in its queue at this moment the broker does that.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setEnabled(cmd.Context(), args[0], false)
		},
	}
}

// setEnabled has the living broker hold a service or let it go, or keeps the wish for
// the next one.
func (a *app) setEnabled(ctx context.Context, name string, enabled bool) error {
	if err := checkNames([]string{name}); err != nil {
		return err
	}
	if name == standing.Service {
		return &usageError{standing.Service + " is the broker itself", "see: fastbind broker --help"}
	}
	f, err := a.file(name)
	switch {
	case !enabled && (err != nil || f != nil || standing.Disabled(a.dirs, a.instance, name)):
	case err != nil:
		return err
	case f == nil:
		return &launch.Fault{Class: launch.NoService, Service: name, Instance: a.instance, Stage: launch.StagePolicy,
			Err: errors.New("no file defines it"), Status: -1, Cure: "write " + filepath.Join(a.configDir(), name+fileSuffix)}
	case f.def.Bind == definition.BindDaemon:
		return &fileError{path: f.path, text: unholdable}
	}
	ask, err := a.living(ctx, a.instance)
	if err != nil {
		return err
	}
	if ask != nil {
		defer ask.Close()
	}
	switch {
	case ask == nil:
		err = standing.SetDisabled(ctx, a.dirs, a.instance, name, !enabled)
	case enabled:
		err = ask.Enable(ctx, name)
	default:
		err = ask.Disable(ctx, name)
	}
	if err != nil {
		return err
	}
	held := enabled && ask != nil && a.isHeld(a.broker(f.def))
	if a.json {
		a.print(switchReply{Schema: schema, Service: name, Instance: a.instance, Enabled: enabled, Held: held})
		return nil
	}
	text := map[bool]string{true: "enabled", false: "disabled"}[enabled]
	switch {
	case ask == nil:
		text += "; no broker lives, the next one will know"
	case held:
		text += ", and held"
	case enabled: // a foreign daemon hands nothing over
		text += ", and watched; its endpoint will be held when what runs has ended"
	default:
		text += ", and held no more"
	}
	line(a.out.w, name+": "+text)
	return nil
}

type reloadReply struct {
	Schema   int        `json:"schema"`
	Reloaded bool       `json:"reloaded"`
	Error    *errorJSON `json:"error"`
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the broker read the definition files again",
		Long: `Have the broker of the instance read the definition files again, and wait until it
holds what they say. It follows changes by itself; this waits for them, and helps
where the system does not tell of changes. Without a broker there is nothing to do:
files are read by every start and dial.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask, err := a.living(cmd.Context(), a.instance)
			if err != nil {
				return err
			}
			if ask != nil {
				defer ask.Close()
				err = ask.Reload(cmd.Context())
			}
			switch {
			case err != nil:
				return err
			case a.json:
				a.print(reloadReply{Schema: schema, Reloaded: ask != nil})
			case ask == nil:
				line(a.out.w, "no broker lives; the next one reads the files when it starts")
			default:
				line(a.out.w, "reloaded")
			}
			return nil
		},
	}
}

// serveBroker answers the broker's clients.
func serveBroker(ctx context.Context, ln net.Listener, c *standing.Control) error {
	version, _ := buildVersion()
	return wire.Serve(ctx, ln, c, version)
}
