//go:build !unix

package probe

import "errors"

func peek(int) error { return errors.ErrUnsupported }
