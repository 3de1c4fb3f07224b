//go:build !linux && !darwin && !freebsd && !windows

package proc

import (
	"errors"
	"os"
	"syscall"
)

func pidNamespace() string { return "" }

// handle: open never succeeds here, so no Handle exists.
type handle struct {
	reaped bool
}

func of(int) (ID, error) { return ID{}, errors.ErrUnsupported }

func open(ID) (*Handle, error) { return nil, errors.ErrUnsupported }

func bootID() string { return "" }

func setName(string) {}

func (h *Handle) isDead() bool                { return false }
func (h *Handle) await() bool                 { return false }
func (h *Handle) signal(syscall.Signal) error { return errors.ErrUnsupported }
func (h *Handle) peek() Exit                  { return Exit{} }
func (h *Handle) reap() (Exit, bool, error)   { return Exit{}, false, errors.ErrUnsupported }
func (h *Handle) release() error              { return os.ErrInvalid }
