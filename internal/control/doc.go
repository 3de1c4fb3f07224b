// Package control is the control endpoint of a generation: its second socket,
// on which the daemon itself says who it is and how far it is.
//
// The wire is Varlink (https://varlink.org): JSON objects, each ended by a NUL
// byte, over a connection-oriented socket; a client that knows nothing of
// fastbind can ask for the interface's description. Package control guarantees
//
//   - the daemon's own truth: every reply is made from State when it is
//     written; nothing but the nonce, by which a caller recognises the answer
//     to its own question, comes from the request;
//   - bounds: frames of MaxFrame bytes in both directions, nonces of MaxNonce
//     bytes, a limited number of peers, a time limit for a request that began
//     and for every write. A peer that stops reading delays no other and makes
//     the daemon keep at most the one reply it does not read;
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

// Format is the major format of the control wire that this release speaks. It
// is raised only by a change that a reader of the former could not ignore.
const Format = 1

// Bounds of the wire, in bytes.
const (
	MaxFrame = 64 << 10 // a request or reply, its NUL byte not counted
	MaxNonce = 128      // enough for any hash in hexadecimal digits
)
