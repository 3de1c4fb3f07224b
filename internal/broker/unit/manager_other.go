//go:build !linux && !darwin

package unit

import "errors"

func here(func(string) string, string, int) (Manager, error) {
	return Manager{}, errors.ErrUnsupported
}
