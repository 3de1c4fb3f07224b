package proc

import (
	"time"

	"golang.org/x/sys/windows"
)

func bootTime() time.Duration { return windows.DurationSinceBoot() }
