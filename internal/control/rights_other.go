//go:build !unix && !windows

package control

import (
	"context"
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
)

func sendWith(*endpoint.Conn, []byte, *endpoint.Listener) error { return errors.ErrUnsupported }

// Handover answers errors.ErrUnsupported.
func (c *Client) Handover(context.Context) (*os.File, error) { return nil, errors.ErrUnsupported }

const canBeHeld = false

// Hold answers errors.ErrUnsupported.
func (c *Client) Hold(context.Context, string) (*os.File, error) { return nil, errors.ErrUnsupported }
