//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

// warmService is a tool's that launches itself.
func warmService(policy fastbind.VersionPolicy) fastbind.Service {
	return fastbind.Service{Name: "warm", Args: []string{daemonArg}, OnVersion: policy}
}

// warmDial measures Dial of a running daemon against net.Dial of its endpoint, in
// this process, connection closed included. check is what else the other side does.
func warmDial(policy fastbind.VersionPolicy, check func(net.Conn) error) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		svc := warmService(policy)
		if err := ask(ctx, svc); err != nil {
			return result{}, err
		}
		defer svc.Stop(ctx)
		ep, err := svc.Endpoint()
		if err != nil {
			return result{}, err
		}
		ours, theirs := dials(ctx, svc), netDials(ep.Path(), check)
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
		if a < b {
			r.Counts = plural(b-a, "allocation") + " fewer"
		}
		if policy == "" && a-b > 6 {
			r.Broken = r.Counts + ", not 6"
		}
		return r, nil
	}
}

// dials connects to a running daemon once, and closes the connection.
func dials(ctx context.Context, svc fastbind.Service) func() error {
	return func() error {
		c, err := fastbind.Dial(ctx, svc)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// netDials is the same with package net and a check.
func netDials(path string, check func(net.Conn) error) func() error {
	return func() error {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		return errors.Join(check(c), c.Close())
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

// dialsArg makes this executable a client that dials for a while, of which perf tells
// what it does: --dials SIDE TIME.
const dialsArg = "--dials"

// A dialer is a side of that.
type dialer struct {
	name string
	dial func(ctx context.Context, path string) func() error
}

// dialers are in the order of the table.
var dialers = []dialer{
	{"net.Dial", func(_ context.Context, path string) func() error { return netDials(path, unchecked) }},
	{"net.Dial and the check by hand", func(_ context.Context, path string) func() error { return netDials(path, checkedByHand) }},
	{"Dial", func(ctx context.Context, _ string) func() error {
		return dials(ctx, warmService(fastbind.VersionIgnore))
	}},
	{"Dial under replace", func(ctx context.Context, _ string) func() error {
		return dials(ctx, warmService(fastbind.VersionReplace))
	}},
}

// dialing are the kinds of what such a client does. The first that matches counts: what is
// allocated for a connection is no more the connection's.
var dialing = []kind{
	{"allocation and collection", []string{"runtime.mallocgc", "runtime.gcBgMarkWorker", "runtime.gcStart", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcAssist"}},
	{"epoll", []string{"poll_runtime_pollOpen", "poll_runtime_pollClose", "epoll_ctl", "EpollCtl"}},
	{"socket", []string{"syscall.Socket", "syscall.socket", "sys_socket"}},
	{"connect", []string{"syscall.Connect", "syscall.connect", "sys_connect"}},
	{"getsockname, getpeername", []string{"syscall.Getsockname", "syscall.Getpeername", "sys_getsockname", "sys_getpeername"}},
	{"the peer's check", []string{"internal/peer.", "checkedByHand", "sys_getsockopt", "sys_geteuid", "rawSyscallNoError"}},
	{"readlink", []string{"CurrentEndsIn", "sys_readlink"}},
	{"close", []string{"syscall.Close", "sys_close", "poll.(*FD).Close", "task_work_run"}},
	{"environment", []string{"os.Getenv", "syscall.Getenv", "runtimedir.(*Env).Leads"}},
	{"definition", []string{"fastbind.(*Service).remembered"}},
	{"rest of net", []string{"net.(*", "net.Dial", "net.unixSocket", "net.socket", "internal/poll."}},
	{"rest of fastbind", []string{"fastbind/fastbind.", "fastbind/fastbind/"}},
	{"scheduler", []string{"runtime.sysmon", "runtime.mcall", "runtime.mstart"}},
}

// dialsFor dials as the side of that name does for so long, and prints how often it has.
func dialsFor(ctx context.Context, out io.Writer, side, long string) error {
	d, err := time.ParseDuration(long)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(dialers, func(d dialer) bool { return d.name == side })
	if i < 0 {
		return fmt.Errorf("no side %q", side)
	}
	svc := warmService(fastbind.VersionIgnore)
	ep, err := svc.Endpoint()
	if err != nil {
		return err
	}
	dial, n := dialers[i].dial(ctx, ep.Path()), 0
	for end := time.Now().Add(d); time.Now().Before(end); n += 5 * batch {
		for range 5 * batch {
			if err := dial(); err != nil {
				return err
			}
		}
		if err := ask(ctx, svc); err != nil { // so that the daemon has accepted them
			return err
		}
	}
	_, err = fmt.Fprintln(out, n)
	return err
}

// profileDials samples processes that do nothing but dial, by turns.
func profileDials(ctx context.Context, w *world, s size, by sorter) ([]profileResult, error) {
	svc := warmService(fastbind.VersionIgnore)
	if err := ask(ctx, svc); err != nil {
		return nil, err
	}
	defer svc.Stop(ctx)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	whose, times := map[int]string{}, map[string]int{} // by pid; by side
	seen, err := w.sampled(ctx, by, func() error {
		for range s.rounds {
			for _, side := range dialers {
				cmd := exec.CommandContext(ctx, self, dialsArg, side.name, (time.Duration(s.pairs) * 20 * time.Millisecond).String())
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				if err != nil {
					return fmt.Errorf("%s: %w", side.name, err)
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(out)))
				if err != nil {
					return err
				}
				whose[cmd.Process.Pid] = side.name
				times[side.name] += n
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []profileResult
	for _, side := range dialers {
		res, aerr := average(seen, whose, side.name, times[side.name])
		all, err = append(all, res), errors.Join(err, aerr)
	}
	return all, err
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
