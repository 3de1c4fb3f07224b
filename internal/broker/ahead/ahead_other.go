//go:build !linux

package ahead

import "errors"

type process struct{ pid, pidfd int }

func start() (*process, error) { return nil, errors.ErrUnsupported }

const (
	starting = iota
	resting
	dead
)

func (*process) state() int { return dead }

func (*process) send([]byte, []int) error { return errors.ErrUnsupported }

func (*process) settle() {}

func (*process) end() {}
