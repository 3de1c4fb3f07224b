//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fastbind/fastbind"
)

// coldConnected measures a dial that launches, until it is connected, against
// starting the same executable and nothing else.
func coldConnected(ctx context.Context, w *world, s size) (result, error) {
	svc := w.service("cold")
	ours := func() (time.Duration, error) {
		var c *fastbind.Conn
		d, err := timed(func() (err error) {
			c, err = fastbind.Dial(ctx, svc)
			return err
		})
		if err != nil {
			return 0, err
		}
		return d, errors.Join(echoed(c), c.Close(), svc.Stop(ctx))
	}
	theirs := func() (time.Duration, error) {
		cmd := exec.Command(w.path("tool"), "--exit")
		d, err := timed(cmd.Start)
		if err != nil {
			return 0, err
		}
		return d, cmd.Wait()
	}
	return pairs(s.pairs, ours, theirs)
}

// coldReply measures a dial that launches, until its first reply, against a bind,
// a spawn with the listener inherited, and a connect.
func coldReply(ctx context.Context, w *world, s size) (result, error) {
	svc := w.service("cold")
	return pairs(s.pairs,
		func() (time.Duration, error) {
			d, err := timed(func() error { return ask(ctx, svc) })
			return d, errors.Join(err, svc.Stop(ctx))
		},
		func() (time.Duration, error) { return byHand(w) })
}

func byHand(w *world) (time.Duration, error) {
	dir, err := w.inMemory()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	sock := filepath.Join(dir, "sock")
	var cmd *exec.Cmd
	d, err := timed(func() error {
		ln, err := net.Listen("unix", sock)
		if err != nil {
			return err
		}
		defer ln.Close()
		f, err := ln.(*net.UnixListener).File()
		if err != nil {
			return err
		}
		defer f.Close()
		cmd = exec.Command(w.path("plain"))
		cmd.ExtraFiles = []*os.File{f}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		c, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		defer c.Close()
		return echoed(c)
	})
	if cmd != nil && cmd.Process != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return d, err
}

// coldProcess measures a whole client process that launches its daemon, to its
// end after the first reply, against the reference written by hand.
func coldProcess(ctx context.Context, w *world, s size) (result, error) {
	return pairs(s.pairs,
		func() (time.Duration, error) {
			d, err := timed(func() error { return w.run("tool") })
			return d, errors.Join(err, fastbind.Service{Name: "tool"}.Stop(ctx), w.endStrays())
		},
		func() (time.Duration, error) {
			dir, err := w.inMemory()
			if err != nil {
				return 0, err
			}
			d, err := timed(func() error { return w.run("ref", dir) })
			return d, errors.Join(err, w.endStrays())
		})
}

// profileCold samples what the processors do while the tool and the reference by hand are
// launched by turns.
func profileCold(ctx context.Context, w *world, s size, by sorter) ([]profileResult, error) {
	launches := max(s.pairs*2, 8)
	whose := map[int]string{} // by pid
	seen, err := w.sampled(ctx, by, func() error {
		for range launches {
			for _, name := range []string{"tool", "ref"} {
				if err := errors.Join(w.launchedBy(ctx, name, whose), ctx.Err()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []profileResult
	for _, what := range []string{"client, tool", "client, ref", "daemon, tool", "daemon, ref"} {
		res, aerr := average(seen, whose, what, launches)
		all, err = append(all, res), errors.Join(err, aerr)
	}
	return all, err
}

// launchedBy launches once, and says which process was what.
func (w *world) launchedBy(ctx context.Context, name string, whose map[int]string) error {
	args := []string(nil)
	if name == "ref" {
		dir, err := w.inMemory()
		if err != nil {
			return err
		}
		args = append(args, dir)
	}
	if _, err := w.input.Seek(0, 0); err != nil {
		return err
	}
	cmd := w.command(name, args...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	whose[cmd.Process.Pid] = "client, " + name
	pids, err := w.strays()
	for _, pid := range pids {
		whose[pid] = "daemon, " + name
	}
	if name == "tool" { // killed, the next launch would look at what it has left
		err = errors.Join(err, fastbind.Service{Name: "tool"}.Stop(ctx))
	}
	return errors.Join(err, w.endStrays())
}

// afterKill measures the next client process after kill -9 of the daemon against
// a cold one.
func afterKill(ctx context.Context, w *world, s size) (result, error) {
	svc := fastbind.Service{Name: "tool"}
	fresh := func() (time.Duration, error) { return timed(func() error { return w.run("tool") }) }
	end := func() error { return errors.Join(svc.Stop(ctx), w.endStrays()) }
	return pairs(s.pairs,
		func() (time.Duration, error) {
			if _, err := fresh(); err != nil {
				return 0, err
			}
			if err := w.endStrays(); err != nil { // kills it
				return 0, err
			}
			d, err := fresh()
			return d, errors.Join(err, end())
		},
		func() (time.Duration, error) {
			d, err := fresh()
			return d, errors.Join(err, end())
		})
}
