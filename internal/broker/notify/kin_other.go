//go:build !linux

package notify

import "errors"

type kin struct{ parent, session int }

func kinOf(int) (kin, error) { return kin{}, errors.ErrUnsupported }

func uidOf(int) (int, error) { return 0, errors.ErrUnsupported }

func cgroupOf(int) string { return "" }
