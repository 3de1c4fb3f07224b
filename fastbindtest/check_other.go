//go:build !linux

package fastbindtest

import (
	"context"
	"errors"
	"fmt"
)

func check(context.Context, Target, Watcher) (Report, error) {
	return Report{}, fmt.Errorf("daemons are judged on Linux only: %w", errors.ErrUnsupported)
}
