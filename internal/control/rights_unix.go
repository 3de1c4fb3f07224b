//go:build unix

package control

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

// sendWith sends a frame and the listener's descriptor.
func sendWith(conn *net.UnixConn, frame []byte, ln *net.UnixListener) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var werr error
	err = raw.Control(func(fd uintptr) {
		var n int
		// A short frame into an empty buffer: it is written whole.
		if n, _, werr = conn.WriteMsgUnix(frame, unix.UnixRights(int(fd)), nil); werr == nil && n < len(frame) {
			werr = errors.New("the reply was cut")
		}
	})
	if err == nil {
		err = werr
	}
	return err
}

// hold gives the peer a copy of the listener.
func hold(p *varlink.Peer, c varlink.Call, with func() (*Succession, error)) error {
	return share(p, c, with)
}

// Handover asks the daemon for its listener, as its successor. The file is the
// caller's. The daemon takes this connection for the successor's life: until it
// is closed it neither ends by itself nor refuses anybody.
func (c *Client) Handover(ctx context.Context) (*os.File, error) {
	return c.share(ctx, varlink.Call{Method: "io.fastbind.Daemon.Handover"})
}

// Hold asks the daemon for its listener, as the standing broker that holds it. The
// file is the caller's. Until this connection is closed, the daemon leaves its queue
// to the caller when it ends, and does not shut the listener down. holder is the
// directory of the broker's generation, whose life lock shows that the broker lives.
func (c *Client) Hold(ctx context.Context, holder string) (*os.File, error) {
	return c.share(ctx, varlink.Call{Method: "io.fastbind.Daemon.Hold",
		Parameters: jsonlite.Object(jsonlite.Member{Name: "holder", Value: jsonlite.String(holder)})})
}

func (c *Client) share(ctx context.Context, request varlink.Call) (*os.File, error) {
	conn, ok := c.wire.Conn().(*net.UnixConn)
	if !ok {
		return nil, errors.New("the connection carries no descriptors")
	}
	r := &rightsReader{conn: conn}
	err := c.of(c.wire.AskThrough(ctx, r, request, false, nil))
	if err == nil && r.file == nil {
		err = errors.New("the daemon replied without its listener")
	}
	if err != nil && r.file != nil {
		_ = r.file.Close()
		return nil, err
	}
	return r.file, err
}

// A rightsReader reads a stream and keeps the first descriptor that comes along;
// further ones are closed.
type rightsReader struct {
	conn *net.UnixConn
	file *os.File
}

func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, rightsSpace)
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	for _, f := range filesIn(oob[:oobn]) {
		if r.file == nil {
			r.file = f
		} else {
			_ = f.Close()
		}
	}
	return max(n, 0), err // of an error ReadMsgUnix says -1
}

// rightsSpace takes a few descriptors: who sends more than one is refused them.
var rightsSpace = unix.CmsgSpace(4 * 4)

// filesIn takes the descriptors of a control message, close-on-exec
// (MSG_CMSG_CLOEXEC, which package net asks for where there is one).
func filesIn(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	return files
}
