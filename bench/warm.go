//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/bench/internal/echo"
)

// daemonArg makes this executable the daemon of the warm rows.
const daemonArg = "--daemon"

// batch is how many dials one sample of the warm rows has: a clock read and a
// scheduler's whim weigh nothing then.
const batch = 200

// warmDial measures Dial of a running daemon against net.Dial of its endpoint, in
// this process, connection closed included. check is what else the other side does.
func warmDial(policy fastbind.VersionPolicy, check func(net.Conn) error) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		// As a tool is that launches itself.
		svc := fastbind.Service{Name: "warm", Args: []string{daemonArg}, OnVersion: policy}
		if err := ask(ctx, svc); err != nil {
			return result{}, err
		}
		defer svc.Stop(ctx)
		ep, err := svc.Endpoint()
		if err != nil {
			return result{}, err
		}
		ours := func() error {
			c, err := fastbind.Dial(ctx, svc)
			if err != nil {
				return err
			}
			return c.Close()
		}
		theirs := func() error {
			c, err := net.Dial("unix", ep.Path())
			if err != nil {
				return err
			}
			return errors.Join(check(c), c.Close())
		}
		settled := func() error { return ask(ctx, svc) }
		r, err := pairs(s.pairs*10, many(ours, settled), many(theirs, settled))
		if err != nil {
			return r, err
		}
		a, err := allocations(ours)
		if err != nil {
			return r, err
		}
		b, err := allocations(theirs)
		if err != nil {
			return r, err
		}
		r.Counts = plural(a-b, "allocation") + " more"
		if policy == "" && a-b > 6 {
			r.Broken = r.Counts + ", not 6"
		}
		return r, nil
	}
}

func unchecked(net.Conn) error { return nil }

// checkedByHand asks the kernel who is at the other end.
func checkedByHand(c net.Conn) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err == nil && int(peer.Uid) != os.Geteuid() {
		err = errors.New("another user's")
	}
	return err
}

// many is the time of one call of f, as the mean of a batch. Before the next one
// the daemon has accepted what this one left in its queue.
func many(f, settled func() error) sample {
	return func() (time.Duration, error) {
		d, err := timed(func() error {
			for range batch {
				if err := f(); err != nil {
					return err
				}
			}
			return nil
		})
		return d / batch, errors.Join(err, settled())
	}
}

// allocations counts those of one call, in this process.
func allocations(f func() error) (int, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range batch {
		if err := f(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return int((after.Mallocs - before.Mallocs) / batch), nil
}

// ask dials, sends a line and awaits the reply.
func ask(ctx context.Context, svc fastbind.Service) error {
	c, err := fastbind.Dial(ctx, svc)
	if err != nil {
		return err
	}
	return errors.Join(echoed(c), c.Close())
}

func echoed(c net.Conn) error {
	reply, err := echo.Request(c, bufio.NewReader(c))
	if err == nil && reply != "hello\n" {
		err = errors.New("the reply is " + reply)
	}
	return err
}

// warmProcess measures `fastbind dial` with one request against the least client.
func warmProcess(ctx context.Context, w *world, s size) (result, error) {
	svc := fastbind.Service{Name: "tool"}
	if err := w.run("fastbind", "dial", "tool"); err != nil {
		return result{}, err
	}
	defer w.run("fastbind", "stop", "tool")
	ep, err := svc.Endpoint()
	if err != nil {
		return result{}, err
	}
	return pairs(s.pairs,
		func() (time.Duration, error) { return timed(func() error { return w.run("fastbind", "dial", "tool") }) },
		func() (time.Duration, error) { return timed(func() error { return w.run("minimal", ep.Path()) }) })
}

// warmTool is the same for a tool that links the SDK.
func warmTool(ctx context.Context, w *world, s size) (result, error) {
	if err := w.run("tool"); err != nil {
		return result{}, err
	}
	defer w.run("fastbind", "stop", "tool")
	ep, err := fastbind.Service{Name: "tool"}.Endpoint()
	if err != nil {
		return result{}, err
	}
	return pairs(s.pairs,
		func() (time.Duration, error) { return timed(func() error { return w.run("tool") }) },
		func() (time.Duration, error) { return timed(func() error { return w.run("minimal", ep.Path()) }) })
}
