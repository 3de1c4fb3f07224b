//go:build !unix && !windows

package endpoint

import (
	"errors"
	"os"
)

// What a standing broker does with a listener that others accept from is for other systems.

// TakeFile makes a Socket of a listener's file.
func TakeFile(f *os.File) (*Socket, error) { return nil, errors.Join(f.Close(), errors.ErrUnsupported) }

// Copy answers errors.ErrUnsupported.
func (s *Socket) Copy() (*Socket, error) { return nil, errors.ErrUnsupported }

// File answers errors.ErrUnsupported.
func (s *Socket) File(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Shut answers errors.ErrUnsupported.
func (s *Socket) Shut() error { return errors.ErrUnsupported }

// Discard answers errors.ErrUnsupported.
func (s *Socket) Discard() error { return errors.ErrUnsupported }

// Waits reports whether somebody is in the queue.
func (s *Socket) Waits() bool { return false }

// IsShut reports whether newcomers are refused.
func (s *Socket) IsShut() bool { return false }
