package cli

import (
	"context"
	"errors"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

// An asker is a connection to the living broker of an instance.
type asker interface {
	Request(ctx context.Context, name string, verb supervise.Verb) (supervise.Answer, error)
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Reload(ctx context.Context) error
	Close() error
}

// asker connects to the living broker of the instance; nil, and no error, if there is
// none. It launches nothing. The caller closes it.
func (a *app) asker(ctx context.Context) (asker, error) {
	b := a.named(standing.Service)
	place, err := b.Env.Find(a.instance, b.DirName())
	if err != nil {
		return nil, nil // there never was one
	}
	entries, err := launch.Generations(place.Dir)
	if err != nil {
		return nil, nil
	}
	if e, ok := launch.Current(place.Dir, entries); !ok || !e.Alive {
		return nil, nil
	}
	conn, reach, err := endpoint.Connect(ctx, place.Sock())
	switch {
	case reach == endpoint.Absent, reach == endpoint.Refused:
		return nil, nil // it has just ended
	case err != nil:
		return nil, b.DirectoryFault(err)
	}
	return newAsker(conn), nil
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
its start on. Who waits in the queue of a service that does not run is refused.
What runs of it runs on, and start and dial launch it as without a broker.`,
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
	if f, err := a.file(name); enabled && (err != nil || f == nil) {
		if err == nil {
			err = &launch.Fault{Class: launch.NoService, Service: name, Instance: a.instance, Stage: launch.StagePolicy,
				Err: errors.New("no file defines it"), Status: -1, Cure: "write " + filepath.Join(a.configDir(), name+fileSuffix)}
		}
		return err
	} else if enabled && f.def.Bind == definition.BindDaemon {
		return &fileError{path: f.path, field: "bind", text: `with "daemon" there is nothing that a broker could hold`}
	}
	ask, err := a.asker(ctx)
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
	if a.json {
		a.print(switchReply{Schema: schema, Service: name, Instance: a.instance, Enabled: enabled, Held: enabled && ask != nil})
		return nil
	}
	text := map[bool]string{true: "enabled", false: "disabled"}[enabled]
	switch {
	case ask == nil:
		text += "; no broker lives, the next one will know"
	case enabled:
		text += ", and held"
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
			ask, err := a.asker(cmd.Context())
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

var _ = broker.ErrUnknown

// serveBroker answers the broker's clients.
func serveBroker(ctx context.Context, ln net.Listener, c *standing.Control) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}

func newAsker(conn *net.UnixConn) asker { return nil }
