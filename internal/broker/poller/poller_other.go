//go:build !linux && !windows

package poller

import (
	"errors"

	"github.com/fastbind/fastbind/internal/endpoint"
)

type queue struct{}

func open() (queue, error) { return queue{}, errors.ErrUnsupported }

func (queue) watch(*endpoint.Socket, uint64) error { return errors.ErrUnsupported }

func (queue) forget(*endpoint.Socket) error { return errors.ErrUnsupported }

func (queue) wait(keys []uint64) ([]uint64, error) { return keys, errors.ErrUnsupported }

func (queue) close() error { return nil }
