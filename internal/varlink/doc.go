// Package varlink is the wire of fastbind's own endpoints, and the bounds that it
// is kept in: Varlink (https://varlink.org), JSON objects, each ended by a NUL byte,
// over a connection-oriented socket. A client that knows nothing of fastbind can
// ask for an interface's description, and use it.
//
// Guaranteed are bounds: frames of MaxFrame bytes in both directions, a limited
// number of peers, a time limit for a request that began and for every write. A peer
// that stops reading delays no other and makes the server keep at most the one reply
// it does not read.
//
// It does not open, name or delete sockets, and it authenticates nobody: the
// Service's Check and whoever dials do. The bounds are no boundary against one's own
// uid. What a description says is not enforced: each method takes its parameters
// apart with Fields.
//
// The server is
//
//	s := varlink.NewServer(service)
//	go s.Serve(ln)
//	defer s.Close()
//
// and the client, who has dialled and checked conn,
//
//	c := varlink.NewClient(conn)
//	defer c.Close()
//	err := c.Ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Drain"}, false, nil)
package varlink

// MaxFrame bounds a request or reply, in bytes, its NUL byte not counted.
const MaxFrame = 64 << 10
