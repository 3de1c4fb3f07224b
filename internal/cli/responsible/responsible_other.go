//go:build !darwin

package responsible

import "errors"

func of(int) (int, string, error) { return 0, "", errors.ErrUnsupported }
