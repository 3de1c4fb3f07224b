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
	_, err := buildsBy(ctx, c, packages, at)
	return err
}

// buildsBy is builds that returns the pids that the go commands had.
func buildsBy(ctx context.Context, c cache, packages string, at int) ([]int, error) {
	pids, errs := make([]int, at), make([]error, at)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", packages)
			cmd.Env = append(os.Environ(), append(c.env, "CGO_ENABLED=0", "GOFLAGS=")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("go build %s: %w: %s", packages, err, out)
				return
			}
			pids[i] = cmd.Process.Pid
		})
	}
	wg.Wait()
	return pids, errors.Join(errs...)
}

// profileBuilds samples warm builds with each cache by turns, one at once and then four.
func profileBuilds(ctx context.Context, w *world, s size, by sorter) (all []profileResult, err error) {
	names := []string{"built-in cache", "floor", "gocache"}
	open := map[string]cache{}
	defer func() {
		for _, c := range open {
			err = errors.Join(err, c.done())
		}
	}()
	for _, name := range names {
		if open[name], err = caches[name](w); err != nil {
			return nil, err
		}
		if err := builds(ctx, open[name], s.packages, 1); err != nil { // fills it
			return nil, err
		}
	}
	daemons, err := w.strays()
	if err != nil {
		return nil, err
	}
	rounds := 2 * s.rounds
	for _, at := range []int{1, 4} {
		took, whose := map[string]time.Duration{}, map[int]string{} // by cache; by pid
		turns := slices.Clone(names)
		turn := func() error {
			for _, name := range turns {
				began := time.Now()
				pids, err := buildsBy(ctx, open[name], s.packages, at)
				if err != nil {
					return err
				}
				took[name] += time.Since(began)
				for _, pid := range pids {
					whose[pid] = name
				}
			}
			turns = append(turns[1:], turns[0])
			return nil
		}
		if err := turn(); err != nil { // to warm up
			return nil, err
		}
		clear(took)
		seen, err := w.sampled(ctx, by, func() error {
			for range rounds {
				if err := turn(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		rolesOf(seen, whose, daemons)
		for _, name := range names {
			all = append(all, profileOfBuild(seen, whose, name, at, rounds, took[name])...)
		}
	}
	return all, nil
}

// profileOfBuild is the profile of so many builds at once with a cache, on the average of
// the rounds, and those of its processes by role.
func profileOfBuild(seen map[int]*sampled, whose map[int]string, cache string, at, rounds int, took time.Duration) []profileResult {
	what := cache
	if at > 1 {
		what = fmt.Sprintf("%s, %d at once", cache, at)
	}
	sum := profileResult{What: what, Times: rounds, Elapsed: took.Seconds() / float64(rounds), Kinds: map[string]float64{}}
	var parts []profileResult
	for _, role := range roles {
		part, err := average(seen, whose, cache+": "+role, rounds)
		if err != nil {
			continue // it has none
		}
		for kind, v := range part.Kinds {
			sum.Kinds[kind] += v
		}
		part.What = what + ": " + role
		parts = append(parts, part)
	}
	return append([]profileResult{sum}, parts...)
}

// buildSteps are what the processes of a build do, by their functions: the go command's
// first, then those of who speaks GOCACHEPROG with it, and of the daemon.
var buildSteps = []kind{
	{"GOCACHEPROG in the go command", []string{"cache.(*ProgCache)"}},
	{"built-in cache", []string{"cache.(*DiskCache)"}},
	{"hashing sources", []string{"cache.FileHash"}},
	{"loading packages", []string{"cmd/go/internal/modload.", "cmd/go/internal/load.", "cmd/go/internal/modindex."}},
	{"JSON", []string{"encoding/json."}},
	{"answering the go command", []string{"gocache.(*client).write", "gocache.(*client).flush"}},
	{"looking at a body", []string{"gocache.store.stat"}},
	{"pinning it", []string{"gocache.(*pinner)"}},
	{"client and daemon", []string{"gocache.(*link)", "gocache.(*uplink)", "gocache.(*server)", "gocache.(*trail)", "gocache.(*replier)"}},
	{"collector", []string{"runtime.gcBgMarkWorker", "runtime.gcStart", "runtime.bgsweep", "runtime.gcAssist"}},
}

func buildStep(stack []string) string { return firstOf(buildSteps, stack) }

// roles of the processes of a build: the go command itself, who speaks GOCACHEPROG with
// it, the daemon behind that, and the compiler and others, which the go command asks for
// their versions.
var roles = []string{"go command", "GOCACHEPROG", "daemon", "tools"}

// rolesOf completes whose, which has the go commands' caches by pid, to all processes of
// theirs, "CACHE: ROLE".
func rolesOf(seen map[int]*sampled, whose map[int]string, daemons []int) {
	commands := maps.Clone(whose)
	for pid, s := range seen {
		at := pid
		for range 8 { // generations; a number may come again
			if commands[at] == "" && seen[at] != nil {
				at = seen[at].parent
			}
		}
		cache := commands[at]
		switch {
		case slices.Contains(daemons, pid):
			whose[pid] = "gocache: daemon"
		case cache == "":
		case s.comm == "go":
			whose[pid] = cache + ": go command"
		case s.comm == cache:
			whose[pid] = cache + ": GOCACHEPROG"
		default:
			whose[pid] = cache + ": tools"
		}
	}
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
