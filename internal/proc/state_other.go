//go:build !linux

package proc

import "errors"

func (h *Handle) state() (State, error) { return State{}, errors.ErrUnsupported }

func (h *Handle) evidence() []string { return nil }
