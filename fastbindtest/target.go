package fastbindtest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Target is a daemon to be judged: how it is started, and how it is spoken to.
// It is plain data.
//
// Arguments and variables may contain {dir}, the temporary directory of a case,
// {idle}, the idle exit as a duration such as 2s, or {idle_seconds}, and, with
// Command, {socket}, {port} and {fd}: see [Mode].
type Target struct {
	// Command is the daemon's program with its arguments. The program is found in
	// PATH or against the working directory.
	Command []string

	// Client is, instead of Command, a command that uses a daemon and starts it if
	// none runs. It runs in a directory of its own, so paths are best absolute.
	Client []string

	Status [][]string // with Client: commands that only look
	Stop   []string   // with Client: the command that ends the daemon

	// Setup is a command that makes what the target needs. It is run first, once in
	// every directory in which clients are run; with Command in {dir}.
	Setup []string

	// Env is what is added to the environment of the temporary directory: "K"
	// passes a variable of the caller's on, "K=V" sets one.
	Env []string

	// Request is what a client sends, Expect a regular expression that the answer
	// matches. Without Expect any byte is an answer. Without both, clients only
	// connect, and cases that need an answer are not applicable. With Client,
	// Expect is matched against the command's output.
	Request, Expect string

	// IdleExit is after how long without a client the daemon is to end by itself in
	// the case that is about that. It gets that long from {idle}, or as a backend of
	// package daemon from what it is handed; in all other cases it gets an hour.
	IdleExit time.Duration

	Only, Skip []string // names of cases; without Only, all

	Limits Limits
}

// Limits bound a check. Zero is the default.
type Limits struct {
	Crowd       int           // clients or starters at once: 16
	Rounds      int           // how often a crowd comes, for who wins a race once need not win it again: 3
	BoundWithin time.Duration // from exec to listening, for a daemon that binds: 500 ms
	Patience    time.Duration // for a start, an answer or an end: 30 s; a client has twice that
	HangWithin  time.Duration // after which the client of a stopped daemon has ended: 45 s
	Case        time.Duration // one case: 3 min
	Total       time.Duration // the whole check: 30 min
}

func (l *Limits) complete() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if l.Crowd == 0 {
		l.Crowd = 16
	}
	if l.Rounds == 0 {
		l.Rounds = 3
	}
	set(&l.BoundWithin, 500*time.Millisecond)
	set(&l.Patience, 30*time.Second)
	set(&l.HangWithin, 45*time.Second)
	set(&l.Case, 3*time.Minute)
	set(&l.Total, 30*time.Minute)
}

// A Mode is how the target comes by its endpoint.
type Mode string

// The modes.
const (
	// Inherit: it is handed a listener as fastbind's broker does it, by systemd's
	// convention (LISTEN_FDS) or as the descriptor {fd}.
	Inherit Mode = "inherit"
	Socket  Mode = "socket" // it binds the path {socket}
	Port    Mode = "port"   // it listens on the port {port} of 127.0.0.1
	Client  Mode = "client" // a command starts it
)

// Mode returns how the target comes by its endpoint: by what its arguments and
// variables contain.
func (t Target) Mode() Mode {
	switch {
	case len(t.Client) > 0:
		return Client
	case t.contains("{port}"):
		return Port
	case t.contains("{socket}") && !t.contains("{fd}"):
		return Socket
	}
	return Inherit
}

// contains reports whether a placeholder is among arguments or variables.
func (t Target) contains(placeholder string) bool {
	has := func(s string) bool { return strings.Contains(s, placeholder) }
	return slices.ContainsFunc(slices.Concat(t.Command, t.Client, t.Env), has)
}

// Validate reports what makes no sense.
func (t Target) Validate() error {
	switch {
	case len(t.Command) == 0 && len(t.Client) == 0:
		return errors.New("there is no command to judge")
	case len(t.Command) > 0 && len(t.Client) > 0:
		return errors.New("either a daemon's command or a client's is judged, not both")
	case len(t.Client) == 0 && len(t.Status)+len(t.Stop) > 0:
		return errors.New("commands for status and stop belong to a client")
	case len(t.Client) > 0 && t.Request != "":
		return errors.New("a client sends its own requests")
	case t.IdleExit < 0 || t.IdleExit > 10*time.Second:
		return errors.New("the idle exit must be at most 10s, so that it can be waited for")
	}
	if t.IdleExit > 0 && t.Mode() != Inherit && !t.contains("{idle}") && !t.contains("{idle_seconds}") {
		return errors.New("nothing tells the daemon its idle exit: put {idle} or {idle_seconds} into an argument or a variable")
	}
	if err := servable(t); err != nil {
		return err
	}
	if _, err := regexp.Compile(t.Expect); err != nil {
		return fmt.Errorf("what is expected: %w", err)
	}
	for _, name := range slices.Concat(t.Only, t.Skip) {
		if !slices.ContainsFunc(cases, func(c Case) bool { return c.Name == name }) {
			return fmt.Errorf("there is no case %q", name)
		}
	}
	l := t.Limits
	if l.Crowd < 0 || l.Crowd == 1 || l.Crowd > 1000 {
		return errors.New("a crowd has 2 to 1000 clients")
	}
	if l.Rounds < 0 || l.Rounds > 1000 {
		return errors.New("a crowd comes 1 to 1000 times")
	}
	for _, d := range []time.Duration{l.BoundWithin, l.Patience, l.HangWithin, l.Case, l.Total} {
		if d < 0 {
			return errors.New("a limit is negative")
		}
	}
	return nil
}

// The twins of servable say what in a target the system does not have.

// selected are the cases that were asked for, in order.
func (t Target) selected() []Case {
	return slices.DeleteFunc(slices.Clone(cases), func(c Case) bool {
		return len(t.Only) > 0 && !slices.Contains(t.Only, c.Name) || slices.Contains(t.Skip, c.Name)
	})
}
