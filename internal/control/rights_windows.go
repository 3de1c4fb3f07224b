package control

import (
	"context"
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/varlink"
)

func sendWith(conn *endpoint.Conn, frame []byte, _ *endpoint.Listener) error {
	_, err := conn.Write(frame)
	return err
}

// Handover asks the daemon to be succeeded by the caller. There is no file: who succeeds
// makes instances of the pipe's name itself when it takes over. The daemon takes this
// connection for the successor's life: until it is closed it neither ends by itself nor
// refuses anybody.
func (c *Client) Handover(ctx context.Context) (*os.File, error) {
	return nil, c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Handover"}, false, nil)
}

// canBeHeld: an instance of a pipe is one process's, and so is who waits in it.
const canBeHeld = false

// Hold answers errors.ErrUnsupported.
func (c *Client) Hold(context.Context, string) (*os.File, error) { return nil, errors.ErrUnsupported }
