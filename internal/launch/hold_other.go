//go:build !unix && !windows

package launch

import (
	"context"
	"errors"

	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// stands has no functions: nothing here can hold a listener beside who accepts from it,
// and Hold and Activate answer errors.ErrUnsupported.
var stands standing

func (b *Broker) markHeld(context.Context, *Holding) error { return errors.ErrUnsupported }

// PutBack is for names that were deleted.
func (b *Broker) PutBack(context.Context, runtimedir.Place, record.Inode) error {
	return errors.ErrUnsupported
}

// Deny is for who waits in the queue of a held listener.
func (b *Broker) Deny(context.Context, *Holding, *Fault) error { return errors.ErrUnsupported }

// CloseStrays is for a standing broker.
func CloseStrays() error { return nil }
