package endpoint

import (
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/pipe"
)

// What a standing broker does with a listener that others accept from: on Windows it
// keeps copies of the instances in which nobody was taken yet (pipe.Hold).

// BindHeld is Bind for who holds the name and serves it to nobody.
func BindHeld(name string) (*Socket, error) {
	hold, err := pipe.ClaimHold(name)
	if err != nil {
		return nil, err
	}
	return &Socket{hold: hold}, nil
}

// BindHeldBeside is BindHeld beside a process that drains, as BindBeside is.
func BindHeldBeside(name string) (*Socket, error) {
	hold, err := beside(name, pipe.ClaimHold, pipe.JoinHold)
	if err != nil {
		return nil, err
	}
	return &Socket{hold: hold}, nil
}

// HoldOf is what is held of a name that somebody serves, who is yet to tell.
func HoldOf(name string) *Socket { return &Socket{hold: pipe.EmptyHold(name)} }

// Hold is what is held, nil of a Socket that was bound to be served.
func (s *Socket) Hold() *pipe.Hold { return s.hold }

// IsClosed reports whether what is held is given up.
func (s *Socket) IsClosed() bool { return s.closed }

// TakeFile answers errors.ErrUnsupported.
func TakeFile(f *os.File) (*Socket, error) { return nil, errors.Join(f.Close(), errors.ErrUnsupported) }

// Copy returns a Socket of the same queue.
func (s *Socket) Copy() (*Socket, error) {
	if s.hold == nil {
		return nil, errors.ErrUnsupported
	}
	hold, err := s.hold.Copy()
	if err != nil {
		return nil, err
	}
	return &Socket{hold: hold}, nil
}

// File answers errors.ErrUnsupported.
func (s *Socket) File(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Shut answers errors.ErrUnsupported: what is held is shut when it is closed.
func (s *Socket) Shut() error { return errors.ErrUnsupported }

// Discard answers errors.ErrUnsupported.
func (s *Socket) Discard() error { return errors.ErrUnsupported }

// Waits reports whether somebody is in the queue.
func (s *Socket) Waits() bool { return s.hold != nil && s.hold.Waits() }

// Waiting is how many are in the queue, -1 if that is not known.
func (s *Socket) Waiting() int {
	if s.hold == nil {
		return -1
	}
	return s.hold.Waiting()
}

// IsShut reports whether newcomers are refused.
func (s *Socket) IsShut() bool { return false }
