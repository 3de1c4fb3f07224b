package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
)

func (a *app) dialCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dial NAME [flags] [-- COMMAND ARG…]",
		Short: "Connect stdin and stdout to a service, launching it if needed",
		Long: `Connect stdin and stdout to NAME's endpoint, launching the service if nobody
accepts there. The end of stdin half-closes the connection; dial ends when the
daemon closes it. After a daemon that only half-closes, the rest of stdin is sent.

A daemon that dies before its first byte is a failed launch: exit status 4, with
the reason. One that answers nothing for hang_after, nor at its control endpoint,
is hung: exit status 8, at the deadline as well if it is known by then. --timeout
covers everything up to the first byte of the reply. stdout
is the daemon's: --json prints an object only if there is an error before that.

Where the definition comes from is the same as for start.`,
		Example: `  echo hello | fastbind dial echo -- ./echod
  printf 'GET / HTTP/1.0\r\n\r\n' | fastbind dial web --timeout 2s`,
		ValidArgsFunction: a.completeNames(1),
	}
	flags := addCallFlags(cmd, "the first byte of a reply")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := a.call(cmd, args, flags)
		if err != nil {
			return err
		}
		defer p.cancel()
		if err := p.broker.CheckSelf(); err != nil {
			return err
		}
		held, err := a.summon(p.ctx, p.plan)
		if err != nil {
			return err
		}
		if held != nil { // it launches who is dialled
			_ = held.Close()
		}
		conn, err := p.broker.Dial(p.ctx, p.began)
		if err != nil {
			return err
		}
		defer conn.Close()
		if p.given {
			if err := a.checkAttached(p.plan); err != nil {
				return err
			}
		}
		if err := take(p.ctx, p.broker, p.leases); err != nil {
			return err
		}
		if p.ready {
			if err := a.awaitReady(p.ctx, p.broker); err != nil {
				return err
			}
		}
		c := &connection{a: a, conn: conn, broker: p.broker}
		p.broker.Watch(&c.watched, conn, p.began)
		return c.carry(cmd.Context(), p.ctx)
	}
	return cmd
}

// A connection carries stdin and stdout.
type connection struct {
	a       *app
	conn    *endpoint.Conn
	watched launch.Conn // conn, until the reply begins
	broker  *launch.Broker
}

// carry copies both ways until the daemon has closed both. outer ends with an
// interrupt, inner also with the deadline, which no longer counts once the reply
// has begun.
//
// An interrupt leaves the two copies behind: a write to a pipe that nobody reads
// ends only with the process.
func (c *connection) carry(outer, inner context.Context) error {
	if deadline, ok := inner.Deadline(); ok {
		_ = c.watched.SetReadDeadline(deadline)
	}
	sent := make(chan struct{})
	go func() { // ends with stdin, or with the process
		defer close(sent)
		c.send()
	}()
	type reply struct {
		n   int64
		err error
	}
	received := make(chan reply, 1)
	go func() {
		n, err := c.receive()
		received <- reply{n, err}
	}()
	var r reply
	select {
	case r = <-received:
	case <-outer.Done():
		_ = c.watched.SetDeadline(time.Unix(1, 0)) // nothing more for stdout
		return context.Cause(outer)
	}
	if r.err == nil {
		// It has said all, and may still listen.
		hung, unwatch := hangup(c.conn)
		defer unwatch()
		select {
		case <-sent:
		case <-hung:
		case <-outer.Done():
		}
	}
	switch {
	case outer.Err() != nil:
		return context.Cause(outer)
	case r.n == 0:
		if r.err == nil {
			r.err = io.EOF
		}
		return c.explain(outer, r.err)
	}
	return r.err
}

// receive copies what the daemon says to stdout and returns how much that was.
func (c *connection) receive() (int64, error) {
	buf := make([]byte, 32<<10)
	n, err := c.watched.Read(buf)
	if n == 0 {
		return 0, ignoreEOF(err)
	}
	c.a.streamed.Store(true)
	if err := c.watched.SetReadDeadline(time.Time{}); err != nil {
		return int64(n), err
	}
	if _, err := c.a.streams.Out.Write(buf[:n]); err != nil {
		return int64(n), err
	}
	rest, err := io.Copy(c.a.streams.Out, c.conn)
	return int64(n) + rest, err
}

func ignoreEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (c *connection) send() {
	// The first write begins the watch for a reply; the rest goes the fast way.
	buf := make([]byte, 32<<10)
	n, err := c.a.streams.In.Read(buf)
	if n > 0 {
		_, err = c.watched.Write(buf[:n])
	}
	switch {
	case err == nil:
		_, err = io.Copy(c.conn, c.a.streams.In)
	case n == 0 && err == io.EOF:
		err = nil
	}
	// An error is the daemon's end, which the reader sees too.
	if err == nil || !dead(err) {
		closeWrite(c.conn)
	}
}

// explain says why a connection ended before its first byte.
func (c *connection) explain(outer context.Context, err error) error {
	if outer.Err() != nil {
		return context.Cause(outer)
	}
	var f *launch.Fault
	if errors.As(err, &f) { // it died, or is hung
		return f
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &launch.Fault{Class: launch.Deadline, Service: c.broker.Def.Service, Instance: c.broker.Def.Instance,
			Stage: launch.StageWait, Err: errNoReply, Status: -1, Cure: "see: fastbind status " + c.a.nameArgs(c.broker.Def.Service)}
	}
	if errors.Is(err, io.EOF) {
		return nil // it had nothing to say
	}
	return err
}

var errNoReply = errors.New("connected, but the daemon has not replied")
