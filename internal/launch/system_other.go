//go:build !unix && !windows

package launch

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
)

// A Hand is what a daemon that was started by hand holds after its launch.
type Hand struct {
	Listener net.Listener
	Control  *net.UnixListener
	Life     *os.File
	Handover handover.Handover
}

// system answers errors.ErrUnsupported: no endpoints can be bound here yet.
type system struct{ b *Broker }

func newSystem(b *Broker, _ Mode, _ time.Duration) *system { return &system{b} }

func (s *system) do(context.Context, Machine) Outcome { return Failed }

func (s *system) outlook(Machine) (Outlook, error) {
	return Outlook{Result: Gave}, s.b.fault(LaunchFailed, StageBind, errors.ErrUnsupported)
}

const selfExe = ""

func executable(string) error { return errors.ErrUnsupported }

func leadCurrent(*os.File, string, string) error { return errors.ErrUnsupported }

// CreateLife makes a generation's life lock.
func CreateLife(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// BindControl binds a generation's control endpoint.
func BindControl(string) (*endpoint.Socket, error) { return nil, errors.ErrUnsupported }
