//go:build !linux

package proc

import "errors"

func children() ([]ID, error) { return nil, errors.ErrUnsupported }
