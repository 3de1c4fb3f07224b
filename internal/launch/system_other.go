//go:build !unix && !windows

package launch

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/proc"
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

func (s *system) do(context.Context, Machine) Outcome { return Failed }

func (s *system) outlook(context.Context, Machine) (Outlook, error) {
	return Outlook{Result: Gave}, s.b.fault(LaunchFailed, StageBind, errors.ErrUnsupported)
}

func (s *system) furtherLost() bool { return false }

const selfExe = ""

func leadCurrent(*os.File, string, string) error { return errors.ErrUnsupported }

// CreateLife makes a generation's life lock.
func CreateLife(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// BindControl binds a generation's control endpoint.
func BindControl(string) (*endpoint.Socket, error) { return nil, errors.ErrUnsupported }

func (b *Broker) connect(ctx context.Context, path string) (*endpoint.Conn, endpoint.Reach, error) {
	return endpoint.Connect(ctx, path)
}

func (b *Broker) dirOf(string) string { return "" }

func endpointNames(string) []string { return nil }

func openLocked(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func lockedPath(dir string) string { return dir }

func createCurrent(string, string) error { return errors.ErrUnsupported }

// IsNamed reports whether a name of the endpoint leads to the listener.
func IsNamed(string, record.Inode) bool { return false }

func removeNamesLocked(string, record.Inode) {}

func askToEnd(context.Context, runtimedir.Place, Entry, *proc.Handle, syscall.Signal) error {
	return errors.ErrUnsupported
}

func removeAll(string) error { return errors.ErrUnsupported }

func isPath(string) bool { return false }

func pathOf([]string) string { return "" }

func findExecutable(string) (string, error) { return "", errors.ErrUnsupported }
