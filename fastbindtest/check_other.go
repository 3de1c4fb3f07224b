//go:build !linux && !windows

package fastbindtest

import (
	"context"
	"errors"
	"fmt"
)

func servable(Target) error { return nil }

func check(context.Context, Target, Watcher) (Report, error) {
	return Report{}, fmt.Errorf("daemons are judged on Linux and Windows only: %w", errors.ErrUnsupported)
}
