//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// A cache is what a `go build` keeps its results in.
type cache struct {
	env  []string
	done func() error // ends what it runs and removes it
}

// goBuild measures `go build std` with gocache against another cache, with so many
// at once. A warm build was preceded by another one.
func goBuild(warm bool, at int, against func(*world) (cache, error)) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		side := func(open func(*world) (cache, error)) (sample, func() error, error) {
			if !warm {
				return func() (time.Duration, error) {
					c, err := open(w)
					if err != nil {
						return 0, err
					}
					d, err := timed(func() error { return builds(ctx, c, s.packages, at) })
					return d, errors.Join(err, c.done())
				}, func() error { return nil }, nil
			}
			c, err := open(w)
			if err != nil {
				return nil, nil, err
			}
			return func() (time.Duration, error) { return timed(func() error { return builds(ctx, c, s.packages, at) }) }, c.done, nil
		}
		ours, closeOurs, err := side(gocache)
		if err != nil {
			return result{}, err
		}
		theirs, closeTheirs, err := side(against)
		if err != nil {
			return result{}, errors.Join(err, closeOurs())
		}
		r, err := pairs(s.rounds, ours, theirs)
		return r, errors.Join(err, closeOurs(), closeTheirs())
	}
}

// builds runs `go build` of packages so many times at once.
func builds(ctx context.Context, c cache, packages string, at int) error {
	errs := make([]error, at)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", packages)
			cmd.Env = append(os.Environ(), append(c.env, "CGO_ENABLED=0", "GOFLAGS=")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("go build %s: %w: %s", packages, err, out)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func gocache(w *world) (cache, error) {
	dir, err := w.sub("gocache")
	env := []string{"GOCACHEPROG=" + w.path("gocache"), "GOCACHE_DIR=" + dir}
	return cache{env, func() error {
		stop := exec.Command(w.path("gocache"), "stop")
		stop.Env = append(os.Environ(), env...)
		return errors.Join(stop.Run(), os.RemoveAll(dir))
	}}, err
}

func builtin(w *world) (cache, error) {
	dir, err := w.sub("builtin")
	return cache{[]string{"GOCACHEPROG=", "GOCACHE=" + dir}, func() error { return os.RemoveAll(dir) }}, err
}

// floor is a GOCACHEPROG that does no more than the protocol asks for, with its
// bodies in memory.
func floor(w *world) (cache, error) {
	dir := filepath.Join("/dev/shm", filepath.Base(w.dir)+".floor")
	return cache{[]string{"GOCACHEPROG=" + w.path("floor") + " " + dir}, func() error { return os.RemoveAll(dir) }}, nil
}
