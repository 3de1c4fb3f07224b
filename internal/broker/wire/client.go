package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

// A Client asks a broker on one connection. It is safe for concurrent use; calls wait
// for each other.
//
// Its errors are those of a [varlink.Client], and of the broker: broker.ErrUnknown for
// a service that it does not have, broker.ErrEnded if it ends, *RefusedError with its
// reason, and *FormatError if the two sides speak different formats. After
// io.ErrUnexpectedEOF it may be dialled again: too many had asked, or it is gone.
type Client struct {
	wire   *varlink.Client
	format int64 // what the client asks for; Format but in tests
}

// NewClient returns a client that owns conn. The caller has dialled it and has
// checked who its peer is.
func NewClient(conn net.Conn) *Client {
	return &Client{varlink.NewClient(conn), Format}
}

// Close closes the connection and ends a call that is under way.
func (c *Client) Close() error { return c.wire.Close() }

// maxListed bounds what a list is taken of: 4 times what a broker holds at most.
const maxListed = 1 << 14

var errTooLong = errors.New("the broker lists no end of services")

// ask makes a call and decodes each reply's parameters into a new R.
func ask[R any](ctx context.Context, c *Client, method string, more bool, each func(R) (stop bool, err error), parameters ...jsonlite.Member) error {
	parameters = append(parameters, jsonlite.Member{Name: "format", Value: jsonlite.Int(c.format)})
	call := varlink.Call{Method: Interface + "." + method, Parameters: jsonlite.Object(parameters...), More: more}
	return meant(c.wire.Ask(ctx, call, false, func(v jsonlite.Value) (bool, error) {
		var r R
		if err := json.Unmarshal(v.Append(nil), &r); err != nil {
			return false, err
		}
		return each(r)
	}))
}

// one makes a call that has one reply.
func one[R any](ctx context.Context, c *Client, method string, parameters ...jsonlite.Member) (r R, err error) {
	err = ask(ctx, c, method, false, func(got R) (bool, error) {
		r = got
		return true, nil
	}, parameters...)
	return r, err
}

// meant is the broker's error in place of the wire's.
func meant(err error) error {
	r, ok := err.(*varlink.RemoteError)
	if !ok {
		return err
	}
	f := varlink.FieldsOf(r.Parameters)
	switch r.Name {
	case Interface + "." + errNoSuchService:
		return broker.ErrUnknown
	case Interface + "." + errEnding:
		return broker.ErrEnded
	case Interface + "." + errRefused:
		e := &RefusedError{Reason: f.Text("reason")}
		if at := f.TextOrNull("retry_at"); at != "" {
			e.RetryAt, _ = time.Parse(time.RFC3339Nano, at)
		}
		if f.Err == nil {
			return e
		}
	case Interface + "." + errUnsupportedFormat:
		e := &FormatError{Peer: f.IntegerOr("supported", 0), Ours: f.IntegerOr("wanted", 0)}
		if f.Err == nil && e.Peer > 0 && e.Ours > 0 {
			return e
		}
	}
	return err
}

func name(n string) jsonlite.Member {
	return jsonlite.Member{Name: "name", Value: jsonlite.String(n)}
}

// List returns the services, by name.
func (c *Client) List(ctx context.Context) (list []Service, err error) {
	type reply struct{ Services []Service }
	err = ask(ctx, c, "List", true, func(r reply) (bool, error) {
		if list = append(list, r.Services...); len(list) > maxListed {
			return false, errTooLong
		}
		return false, nil
	})
	return list, err
}

// Describe returns a service and its definition, cut if there is more of it.
func (c *Client) Describe(ctx context.Context, service string) (s Service, fields []Field, cut bool, err error) {
	r, err := one[describeReply](ctx, c, "Describe", name(service))
	return r.Service, r.Definition, r.Cut, err
}

// Launch has a generation run, with ready one that is ready.
func (c *Client) Launch(ctx context.Context, service string, ready bool) (Service, error) {
	r, err := one[serviceReply](ctx, c, "Launch", name(service), jsonlite.Member{Name: "ready", Value: jsonlite.Bool(ready)})
	return r.Service, err
}

// Restart has a generation run that was not there before.
func (c *Client) Restart(ctx context.Context, service string) (Service, error) {
	r, err := one[serviceReply](ctx, c, "Restart", name(service))
	return r.Service, err
}

// Stop ends those that run, and waits for that. One that does not run is refused.
func (c *Client) Stop(ctx context.Context, service string) error {
	return c.tell(ctx, "Stop", name(service))
}

// Reset forgets the failures that keep a service from being launched.
func (c *Client) Reset(ctx context.Context, service string) error {
	return c.tell(ctx, "Reset", name(service))
}

// Enable has a service held from now on.
func (c *Client) Enable(ctx context.Context, service string) error {
	return c.tell(ctx, "Enable", name(service))
}

// Disable lets a service go.
func (c *Client) Disable(ctx context.Context, service string) error {
	return c.tell(ctx, "Disable", name(service))
}

// Reload has the definition files read again.
func (c *Client) Reload(ctx context.Context) error { return c.tell(ctx, "Reload") }

// Upgrade has the broker execute the program that is at its path now, and returns when
// that holds what was held. The client is of no more use then.
func (c *Client) Upgrade(ctx context.Context) (from, to Program, err error) {
	r, err := one[upgradeReply](ctx, c, "Upgrade")
	return r.From, r.To, err
}

func (c *Client) tell(ctx context.Context, method string, parameters ...jsonlite.Member) error {
	_, err := one[struct{}](ctx, c, method, parameters...)
	return err
}

// Events calls each with what the broker notes from now on of the named services, or
// of all if there is no name: first with no event, when nothing more is missed. lost is
// how many events before this one were dropped, because each took too long. It ends
// with stop, ctx, or the broker, which is broker.ErrEnded.
func (c *Client) Events(ctx context.Context, names []string, each func(e *Event, lost uint64) (stop bool)) error {
	var parameters []jsonlite.Member
	if len(names) > 0 {
		var list []jsonlite.Value
		for _, n := range names {
			list = append(list, jsonlite.String(n))
		}
		parameters = append(parameters, jsonlite.Member{Name: "names", Value: jsonlite.Array(list...)})
	}
	return ask(ctx, c, "Events", true, func(r eventReply) (bool, error) { return each(r.Event, r.Lost), nil }, parameters...)
}

// Metrics returns what was counted.
func (c *Client) Metrics(ctx context.Context) (m Metrics, err error) {
	err = ask(ctx, c, "Metrics", true, func(r Metrics) (bool, error) {
		m.Since, m.BoundsUS, m.Quota = r.Since, r.BoundsUS, r.Quota
		if m.Services = append(m.Services, r.Services...); len(m.Services) > maxListed {
			return false, errTooLong
		}
		return false, nil
	})
	return m, err
}
