//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// upgrade measures the 99.9th percentile of a loop of dials and requests while the
// daemon is replaced, against the same loop in peace.
func upgrade(ctx context.Context, w *world, s size) (result, error) {
	svc := w.service("upgrade")
	if err := ask(ctx, svc); err != nil {
		return result{}, err
	}
	defer svc.Stop(ctx)
	const length = 2 * time.Second
	loop := func() (time.Duration, error) {
		var all []time.Duration
		for end := time.Now().Add(length); time.Now().Before(end); {
			d, err := timed(func() error { return ask(ctx, svc) })
			if err != nil {
				return 0, err
			}
			all = append(all, d)
		}
		return quantile(all, 0.999), nil
	}
	upgrades := 0
	ours := func() (time.Duration, error) {
		done := make(chan error, 1)
		go func() {
			time.Sleep(length / 4)
			done <- w.command("fastbind", "restart", "upgrade").Run()
		}()
		d, err := loop()
		upgrades++
		return d, errors.Join(err, <-done)
	}
	r, err := pairs(s.rounds, ours, loop)
	if err != nil {
		return r, err
	}
	st, err := svc.Status(ctx)
	r.Counts = fmt.Sprintf("%s, no error", plural(upgrades, "upgrade"))
	if err == nil && st.Generation != uint64(upgrades+1) {
		r.Broken = fmt.Sprintf("generation %d after %s", st.Generation, plural(upgrades, "upgrade"))
	}
	return r, err
}
