//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/fastbind/fastbind"
)

// crowd measures n client processes at once, until the last is answered, without
// a daemon, against the same with one running.
func crowd(n int) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		svc := fastbind.Service{Name: "tool"}
		failed, execs := 0, 0
		ours := func() (time.Duration, error) {
			d, f, err := rush(w, n)
			failed += f
			if err != nil {
				return 0, err
			}
			launched, err := w.strays()
			execs = max(execs, len(launched))
			return d, errors.Join(err, svc.Stop(ctx), w.endStrays())
		}
		theirs := func() (time.Duration, error) {
			if err := w.run("tool"); err != nil {
				return 0, err
			}
			d, f, err := rush(w, n)
			failed += f
			return d, errors.Join(err, svc.Stop(ctx), w.endStrays())
		}
		rounds := max(s.rounds, s.pairs*10/n)
		r, err := pairs(rounds, ours, theirs)
		r.Counts = fmt.Sprintf("%s a round at most, %s", plural(execs, "exec"), plural(failed, "failed client"))
		if err == nil && (execs != 1 || failed != 0) {
			r.Broken = r.Counts
		}
		return r, err
	}
}

// rush starts n clients and waits until all have been answered.
func rush(w *world, n int) (time.Duration, int, error) {
	cmds := make([]*exec.Cmd, n)
	outs := make([]bytes.Buffer, n)
	for i := range cmds {
		cmds[i] = exec.Command(w.path("tool"))
		cmds[i].Stdout, cmds[i].Stderr = nil, &outs[i]
	}
	failed := 0
	var first error
	d, err := timed(func() error {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i, cmd := range cmds {
			if err := cmd.Start(); err != nil {
				return err
			}
			wg.Go(func() {
				if err := cmd.Wait(); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
					if first == nil {
						first = fmt.Errorf("%w: %s", err, strings.TrimSpace(outs[i].String()))
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
	if first != nil {
		return d, failed, fmt.Errorf("%d of %d clients failed, first: %w", failed, n, first)
	}
	return d, failed, err
}

// perClient measures the time a client of a crowd takes against one of a crowd of
// a tenth.
func perClient(n int) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		if err := w.run("tool"); err != nil {
			return result{}, err
		}
		side := func(n int) sample {
			return func() (time.Duration, error) {
				d, _, err := rush(w, n)
				return d / time.Duration(n), err
			}
		}
		r, err := pairs(max(s.rounds, s.pairs*10/n), side(n), side(n/10))
		return r, errors.Join(err, fastbind.Service{Name: "tool"}.Stop(ctx), w.endStrays())
	}
}

// perService measures launching one of n services against one of a tenth.
func perService(n int) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		side := func(n int) sample {
			return func() (time.Duration, error) {
				instance := fastbind.Service{Instance: fmt.Sprintf("grow%d", n)}
				all := make([]fastbind.Service, n)
				for i := range all {
					all[i] = w.service(fmt.Sprintf("s%d", i))
					all[i].Instance = instance.Instance
				}
				d, err := timed(func() error {
					for _, svc := range all {
						if err := ask(ctx, svc); err != nil {
							return err
						}
					}
					return nil
				})
				for _, svc := range all {
					err = errors.Join(err, svc.Stop(ctx))
				}
				return d / time.Duration(n), err
			}
		}
		return pairs(max(s.rounds, s.pairs*2/n), side(n), side(n/10))
	}
}
