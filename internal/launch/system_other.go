//go:build !unix

package launch

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A Hand is what a daemon that was started by hand holds after its launch.
type Hand struct {
	Listener net.Listener
	Control  *endpoint.Socket
	Life     *os.File
	Handover handover.Handover
}

// system answers errors.ErrUnsupported: no endpoints can be bound here yet.
type system struct{ b *Broker }

func newSystem(b *Broker, _ Mode, _ time.Duration) *system { return &system{b} }

func (b *Broker) markHeld(context.Context, *Holding) error { return errors.ErrUnsupported }

// PutBack is for names that were deleted.
func (b *Broker) PutBack(context.Context, runtimedir.Place, record.Inode) error {
	return errors.ErrUnsupported
}

// Deny is for who waits in the queue of a held listener.
func (b *Broker) Deny(context.Context, *Holding, *Fault) error { return errors.ErrUnsupported }

func (s *system) do(context.Context, Machine) Outcome { return Failed }

func (s *system) outlook(context.Context, Machine) (Outlook, error) {
	return Outlook{Result: Gave}, s.b.fault(LaunchFailed, StageBind, errors.ErrUnsupported)
}

func (s *system) furtherLost() bool { return false }

var stands standing

const selfExe = ""

func executable(string) error { return errors.ErrUnsupported }

func leadCurrent(*os.File, string, string) error { return errors.ErrUnsupported }

// CreateLife makes a generation's life lock.
func CreateLife(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// BindControl binds a generation's control endpoint.
func BindControl(string) (*endpoint.Socket, error) { return nil, errors.ErrUnsupported }

// CloseStrays: nothing is launched here yet.
func CloseStrays() error { return nil }
