//go:build !linux && !darwin && !freebsd && !windows

package proc

import "time"

func bootTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
