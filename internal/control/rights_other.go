//go:build !unix && !windows

package control

import (
	"context"
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/varlink"
)

func sendWith(*endpoint.Conn, []byte, *endpoint.Listener) error { return errors.ErrUnsupported }

// Handover answers errors.ErrUnsupported.
func (c *Client) Handover(context.Context) (*os.File, error) { return nil, errors.ErrUnsupported }

func hold(p *varlink.Peer, c varlink.Call, _ func() (*Succession, error)) error {
	return p.Fail(c, errHandoverRefused, "reason", "this system has no listener that two processes hold")
}

// Hold answers errors.ErrUnsupported.
func (c *Client) Hold(context.Context, string) (*os.File, error) { return nil, errors.ErrUnsupported }
