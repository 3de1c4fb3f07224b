package supervise

import (
	"syscall"

	"github.com/fastbind/fastbind/internal/proc"
)

// An End is how a generation's process ended, as far as a decision depends on it.
type End uint8

// The ends.
const (
	EndUnknown    End = iota // nobody could tell: its launcher had left
	EndClean                 // exit status 0
	EndTerminated            // by a signal that asks to leave: SIGTERM, SIGINT, SIGHUP
	EndKilled                // SIGKILL, by somebody else
	EndStatus                // another exit status
	EndSignal                // a signal of its own making: a crash
	EndMemory                // its memory limit
)

var endNames = [...]string{"unknown", "clean", "terminated", "killed", "status", "signal", "memory"}

func (e End) String() string {
	if int(e) < len(endNames) {
		return endNames[e]
	}
	return "end beyond " + endNames[len(endNames)-1]
}

// EndOf classifies an exit; memory says that the kernel ended it for its memory limit.
func EndOf(exit proc.Exit, memory bool) End {
	switch {
	case memory:
		return EndMemory
	case !exit.Known:
		return EndUnknown
	case exit.Signal == syscall.SIGKILL:
		return EndKilled
	case exit.Signal == syscall.SIGTERM, exit.Signal == syscall.SIGINT, exit.Signal == syscall.SIGHUP:
		return EndTerminated
	case exit.Signal != 0:
		return EndSignal
	case exit.Code != 0:
		return EndStatus
	}
	return EndClean
}

// failed reports whether RestartOnFailure restarts: what systemd.service(5) has in
// its table of Restart=, where a SIGTERM that the daemon leaves by is no failure.
func (e End) failed() bool { return e != EndClean && e != EndTerminated }

// counts reports whether such an end of a generation that was never ready spends
// the budget. It does if the daemon did it itself. Leaving with status 0 before it
// is ready is no better than any other way of not coming up: a daemon that goes
// to the background would be launched for ever. Of an end that nobody saw the
// embedded broker's rule holds: a foreign daemon may have served well for as long
// as it lived.
func (e End) counts(backend bool) bool {
	switch e {
	case EndKilled, EndTerminated:
		return false
	case EndUnknown:
		return backend
	}
	return true
}
