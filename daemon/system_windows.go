package daemon

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// runningFile: a running program's file can be renamed, and is then not at its path.
func runningFile(path string) string { return path }

// acceptQueued takes what was connected when the listener was shut, without waiting;
// syscall.EAGAIN says that nothing is left. Of a listener that could not be shut it takes
// what comes within a moment.
func acceptQueued(ln *endpoint.Listener) (*endpoint.Conn, error) {
	_ = ln.SetDeadline(time.Now().Add(lateClients))
	c, err := ln.AcceptPipe()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = syscall.EAGAIN
	}
	return c, err
}

const lateClients = 20 * time.Millisecond

// hangupInterval keeps a context's end within 100 ms of the hang-up.
const hangupInterval = 50 * time.Millisecond

// watchHangup looks at intervals: no event tells of the end of a pipe that nobody reads.
// Who closes its end has hung up, also while something that it wrote is not read.
func watchHangup(c *endpoint.Conn, f func()) (unwatch func()) {
	t := time.NewTicker(hangupInterval)
	done := make(chan struct{})
	go func() {
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
			}
			hung, err := c.HungUp()
			if hung {
				f()
			}
			if hung || err != nil {
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}
