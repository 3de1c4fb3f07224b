package control

import (
	"context"
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
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
	return nil, c.ask(ctx, call{method: "io.fastbind.Daemon.Handover"}, false, heard)
}
