package standing

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fastbind/fastbind/internal/runtimedir"
)

// suffix makes the name of the file by which a service is disabled, beside its log.
// A file for each needs no lock, however many change theirs at a time.
const suffix = ".disabled"

// Disabled reports whether the user wants a service not to be held.
func Disabled(env runtimedir.Env, instance, name string) bool {
	for _, dir := range env.StateDirs(root(env, instance), instance) {
		if env.VerifyState(root(env, instance), dir) != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, name+suffix)); err == nil {
			return true
		}
	}
	return false
}

// SetDisabled keeps whether the user wants a service not to be held, for this broker
// and those after it. ctx bounds the wait for a lock that is held for moments. The
// error is a *runtimedir.Refused, or the system's.
func SetDisabled(ctx context.Context, env runtimedir.Env, instance, name string, disabled bool) error {
	if disabled {
		place, err := env.Resolve(ctx, instance, Service, func(string) bool { return false })
		if err != nil {
			return err
		}
		dir, err := env.State(place.Root, instance)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+suffix), nil, 0o600)
	}
	var failed error
	for _, dir := range env.StateDirs(root(env, instance), instance) {
		if env.VerifyState(root(env, instance), dir) != nil {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
	}
	return failed
}

// root is where the user has the run-time files, which are the place of the wishes
// where there is no home; "" if there are none.
func root(env runtimedir.Env, instance string) string {
	if place, err := env.Find(instance, Service); err == nil {
		return place.Root
	}
	if roots := env.Roots(); len(roots) > 0 {
		return roots[0]
	}
	return env.RuntimeDir
}
