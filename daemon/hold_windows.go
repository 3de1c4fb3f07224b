package daemon

import (
	"os"
	"path/filepath"
	"time"

	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
)

// A broker that holds the queue has copies of the pipe's instances, and gives up that of
// each which the daemon says that it takes (pipe.Hold). It knows whom nobody has taken
// only as long as the daemon takes nobody untold, and else has to be told that: by a file,
// since its connection may be what fails.

// awaitHoldLocked has nobody taken until the broker has come that holds the queue, or is
// seen to be dead.
func (g *giver) awaitHoldLocked() {
	if g.ln != nil && g.tenure.Hold == generation.Promised {
		g.ln.ul.Await(g.alone)
		time.AfterFunc(lookAtHolder, g.lookAtHolder)
	}
}

// lookAtHolder is how soon a broker that does not come is looked at, and again.
const lookAtHolder = 100 * time.Millisecond

func (g *giver) lookAtHolder() {
	g.mu.Lock()
	awaits, holder := g.tenure.Hold == generation.Promised, g.holder
	g.mu.Unlock()
	switch {
	case !awaits:
	case launch.HolderLives(holder):
		time.AfterFunc(lookAtHolder, g.lookAtHolder) // until holdWithin
	default:
		g.loseHold(generation.Promised)
	}
}

// stopAwaitingLocked: it has not come.
func (g *giver) stopAwaitingLocked() {
	if g.ln != nil {
		g.ln.ul.StopAwaiting()
	}
}

// heldLocked: it is told from now on.
func (g *giver) heldLocked() { _ = os.Remove(filepath.Join(g.dir, launch.AloneName)) }

// alone says that somebody is taken untold. Where the file cannot be made its directory is
// gone, and the broker looks for nothing there.
func (g *giver) alone() {
	_ = os.WriteFile(filepath.Join(g.dir, launch.AloneName), nil, 0o600)
}
