//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A cache is what a `go build` keeps its results in.
type cache struct {
	env  []string
	done func() error // ends what it runs and removes it
}

// caches are what is compared, by the names of the rows.
var caches = map[string]func(*world) (cache, error){"gocache": gocache, "built-in cache": builtin, "floor": floor}

// goBuild compares `go build std` with gocache with that with another cache, so many
// at once. A cold build finds nothing, a warm one what an earlier one left.
func goBuild(warm bool, at int, against string) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (result, error) {
		took, err := w.goBuilds(ctx, s, warm, at)
		if err != nil {
			return result{}, err
		}
		return compare(took["gocache"], took[against]), nil
	}
}

// goBuilds measures all caches by turns, once for all rows that want it: builds
// take minutes.
func (w *world) goBuilds(ctx context.Context, s size, warm bool, at int) (took map[string][]time.Duration, err error) {
	key := fmt.Sprint(warm, at)
	if took, ok := w.built[key]; ok {
		return took, nil
	}
	names := slices.Sorted(maps.Keys(caches))
	open := map[string]cache{}
	defer func() {
		for _, c := range open {
			err = errors.Join(err, c.done())
		}
	}()
	took = map[string][]time.Duration{}
	rounds := s.rounds
	if !warm && at > 1 {
		rounds = 1 // minutes each
	}
	for i := range rounds {
		for range names {
			name := names[0]
			names = append(names[1:], name)
			c, there := open[name]
			if !there {
				if c, err = caches[name](w); err != nil {
					return nil, err
				}
				open[name] = c
			}
			if warm && i == 0 {
				if err := builds(ctx, c, s.packages, 1); err != nil {
					return nil, err
				}
			}
			d, err := timed(func() error { return builds(ctx, c, s.packages, at) })
			if err != nil {
				return nil, err
			}
			took[name] = append(took[name], d)
			if !warm {
				delete(open, name)
				if err := c.done(); err != nil {
					return nil, err
				}
			}
		}
		slices.Reverse(names) // so that none always comes after the same
	}
	if w.built == nil {
		w.built = map[string]map[string][]time.Duration{}
	}
	w.built[key] = took
	return took, nil
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
