//go:build !linux

package proc

import "time"

func at(t time.Duration) (<-chan struct{}, func()) { return atByTimer(t) }
