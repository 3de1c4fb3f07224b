//go:build !linux && !darwin && !freebsd && !windows

package lock

import (
	"errors"
	"os"
)

func try(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func unlock(*os.File) error { return errors.ErrUnsupported }

func held(path string) (bool, error) {
	return false, pathError("probe lock", path, errors.ErrUnsupported)
}
