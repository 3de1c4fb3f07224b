// Package control is the control endpoint of a generation: its second socket,
// on which the daemon itself says who it is and how far it is.
//
// The wire is that of package varlink, with its bounds. Package control guarantees
//
//   - the daemon's own truth: every reply is made from State when it is
//     written; nothing but the nonce, by which a caller recognises the answer
//     to its own question, comes from the request;
//   - bounds, also of what is said: nonces of MaxNonce bytes;
//   - room for other releases: unknown fields are ignored by the server and
//     kept by the client, unknown methods are refused one by one, and an
//     unknown major Format is refused naming both.
//
// It does not open, name or delete sockets, and it authenticates nobody: the
// check given to NewServer and whoever dials do. Instances and endpoints are no
// boundary against one's own uid, and neither are the bounds.
//
// The server is
//
//	s := control.NewServer(state, check)
//	go s.Serve(ln)
//	defer s.Close()
//
// and the client, who has dialled and checked conn,
//
//	c := control.NewClient(conn)
//	defer c.Close()
//	id, err := c.Identify(ctx, nonce)
package control

import "github.com/fastbind/fastbind/internal/varlink"

// Format is the major format of the control wire that this release speaks. It
// is raised only by a change that a reader of the former could not ignore.
const Format = 1

// Bounds of the wire, in bytes.
const (
	MaxFrame = varlink.MaxFrame
	MaxNonce = 128 // enough for any hash in hexadecimal digits
)
