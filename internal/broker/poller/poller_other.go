//go:build !linux

package poller

import "errors"

func open() (int, error) { return -1, errors.ErrUnsupported }

func watch(int, int, uint64) error { return errors.ErrUnsupported }

func forget(int, int) error { return errors.ErrUnsupported }

func collect(_ int, keys []uint64) ([]uint64, error) { return keys, errors.ErrUnsupported }
