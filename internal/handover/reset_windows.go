package handover

import (
	"math"

	"golang.org/x/sys/windows"
)

// closeOnExec: a handle that is none of ours takes no harm by it.
func closeOnExec(h int) {
	_ = windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, 0)
}

// inherits: handles have 32 bits that matter, and are multiples of 4.
func inherits(h int) bool { return h > 0 && h%4 == 0 && int64(h) <= math.MaxUint32 }

// resetProcess: there is no umask and there are no such limits.
func resetProcess() {}
