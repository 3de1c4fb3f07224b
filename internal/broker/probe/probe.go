// Package probe finds out when a daemon is ready. SDK backends say so; of a
// foreign daemon the definition says how it shows: it announces it, accepts a
// connection, answers a path over HTTP, prints a line, lets a command succeed, or
// has had time enough (see [Parse]).
//
// A connect alone proves nothing: the broker has bound and listens before the
// daemon exists, and the kernel queues whoever connects. So "accept" asks the
// kernel whether the connection was accepted (package backlog), on Linux.
// Elsewhere a daemon shows that only by writing or closing, and the probe is
// [errors.ErrUnsupported], as it is for TCP.
//
//	sign, err := probe.Parse(def.Ready)
//	err = probe.New(sign, target).Await(ctx) // nil: it is ready
//
// Await ends with its context, whose cause the caller chooses: the deadline, or the
// daemon's end. Until then it waits for events where there are some (a message, a
// line, an answer, a timer), and looks again and again where there are none, at
// intervals that double up to a second: it is late by about as long as the daemon
// took, and by a second at most. The error says what the last look saw.
//
// A Probe decides nothing and changes nothing, but for what a look is: "accept" and
// "http" are one client more, and "command" runs a program.
package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// A Target is the daemon that is probed. What its sign does not need may be zero.
type Target struct {
	// Network and Address are where it is dialled: "unix" and a path, or "tcp" and a
	// port of the loopback.
	Network, Address string

	// Listener is the listening socket that the daemon accepts on, if the caller has
	// a copy: then "accept" also sees that others were accepted who came before the
	// probe, which a daemon that serves one client at a time needs. It stays the
	// caller's, and open while Await runs.
	Listener syscall.Conn

	// Log is the file that takes the daemon's output, by the name that it has when
	// Await begins; LogOffset is where that output begins.
	Log       string
	LogOffset int64

	// Dir and Env are the daemon's working directory and environment, for a command.
	Dir string
	Env []string

	// Announced is closed when the daemon has said READY=1.
	Announced <-chan struct{}
}

// A Probe watches one daemon for one sign. Await may be called again, by one
// caller at a time.
type Probe struct {
	sign Sign
	open func(context.Context) (watch, error)
}

// A watch is one Await's view of a daemon. It belongs to one goroutine.
type watch interface {
	// look reports whether the daemon is ready, and what else was seen, for people. It
	// may take its time, until ctx ends. An error says that no look will ever tell.
	look(ctx context.Context) (ready bool, seen string, err error)

	// changed makes another look worthwhile; nil if only time does.
	changed() <-chan struct{}

	close()
}

// New returns the probe for a sign that Parse has read.
func New(sign Sign, target Target) *Probe {
	p := &Probe{sign: sign}
	switch sign.Kind {
	case Notify:
		p.open = func(context.Context) (watch, error) { return openAnnouncement(target.Announced) }
	case Accept:
		p.open = func(context.Context) (watch, error) { return openQueue(target) }
	case HTTP:
		p.open = func(context.Context) (watch, error) {
			return &httpGet{target: target, path: sign.Path, within: tryWithin}, nil
		}
	case Output:
		p.open = func(context.Context) (watch, error) { return &output{target: target, pattern: sign.Pattern}, nil }
	case Command:
		p.open = func(context.Context) (watch, error) { return openCommand(sign.Command, target) }
	case Delay:
		p.open = func(context.Context) (watch, error) { return openDelay(sign.Delay), nil }
	default:
		p.open = func(context.Context) (watch, error) { return nil, errors.ErrUnsupported }
	}
	return p
}

// NotReady is why a daemon was not seen to be ready.
type NotReady struct {
	Sign Sign
	Seen string // by the last look, "" if there was none
	Err  error  // the context's cause, or why no look can tell
}

func (e *NotReady) Error() string {
	s := "not ready by " + clean(e.Sign.String(), maxSeen)
	if e.Seen != "" {
		s += ": " + e.Seen
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *NotReady) Unwrap() error { return e.Err }

// Await returns nil when the daemon is ready, and *NotReady when ctx ends first, or
// when no look can ever tell: the sign is [errors.ErrUnsupported] here, or a command
// cannot be executed.
func (p *Probe) Await(ctx context.Context) error {
	var seen string
	failed := func(err error) error { return &NotReady{Sign: p.sign, Seen: seen, Err: err} }
	if ctx.Err() != nil {
		return failed(context.Cause(ctx))
	}
	w, err := p.open(ctx)
	if err != nil {
		return failed(err)
	}
	defer w.close()
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		ready, now, err := w.look(ctx)
		if now != "" {
			seen = now
		}
		switch {
		case ready:
			return nil
		case ctx.Err() != nil:
			return failed(context.Cause(ctx))
		case err != nil:
			return failed(err)
		}
		if err := sleep(ctx, w.changed(), pause); err != nil {
			return failed(err)
		}
	}
}

// Pauses between looks where nothing tells that another is worthwhile.
const (
	firstPause = 2 * time.Millisecond
	maxPause   = time.Second
)

// sleep waits for a change, or if there is no telling for the pause.
func sleep(ctx context.Context, changed <-chan struct{}, pause time.Duration) error {
	var over <-chan time.Time
	if changed == nil {
		t := time.NewTimer(pause)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-changed:
	case <-over:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// tryWithin bounds one look at a daemon that has taken a connection, and one run of
// a command: what takes longer is hung, and the next may not be.
const tryWithin = 10 * time.Second

// maxSeen bounds what is said of a look, in bytes.
const maxSeen = 256

// clean makes a daemon's or a command's words one harmless line.
func clean(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max-len("…")], "") + "…"
}

// quoted is clean with quotes.
func quoted(s string) string { return fmt.Sprintf("%q", clean(s, maxSeen)) }

// An announcement is READY=1, which somebody else hears.
type announcement <-chan struct{}

func openAnnouncement(announced <-chan struct{}) (watch, error) {
	if announced == nil {
		return nil, errors.New("nobody listens to what the daemon announces")
	}
	return announcement(announced), nil
}

func (a announcement) look(context.Context) (bool, string, error) {
	select {
	case <-a:
		return true, "", nil
	default:
		return false, "it has not said READY=1", nil
	}
}

func (a announcement) changed() <-chan struct{} { return a }

func (a announcement) close() {}

// A delay is time that passes.
type delay struct {
	of    time.Duration
	timer *time.Timer
	over  chan struct{}
}

func openDelay(of time.Duration) *delay {
	d := &delay{of: of, over: make(chan struct{})}
	d.timer = time.AfterFunc(of, func() { close(d.over) })
	return d
}

func (d *delay) look(context.Context) (bool, string, error) {
	select {
	case <-d.over:
		return true, "", nil
	default:
		return false, d.of.String() + " have not passed", nil
	}
}

func (d *delay) changed() <-chan struct{} { return d.over }

func (d *delay) close() { d.timer.Stop() }
