// Package pipe serves and dials Windows named pipes with the guarantees that the
// Unix sockets of the other systems give. It exists on Windows only.
//
// A name is served by instances, each good for one connection. Those that wait for
// a client are an accept queue: a client that opens one is connected and may write
// before any server has asked for it (ConnectNamedPipe then answers
// ERROR_PIPE_CONNECTED), and an instance lives as long as any process has a handle
// of it. So a broker claims a name, a daemon inherits its instances, and
// the broker closes its copies, as with a listening socket.
//
// It guarantees:
//
//   - The first instance is created with FILE_CREATE: whoever claims a name is the
//     only one, or is refused (R35). Further instances can be created only by the
//     same user.
//   - The access list names the user's SID alone, the user is the owner whatever group
//     an administrator's token would make it, and clients on other machines are rejected.
//   - A client compares the owner on the handle it has opened with its own user, so
//     nobody else's server passes, and lets no server act in its name
//     (SECURITY_IDENTIFICATION). A server compares the client's user before it hands out
//     the first byte read (R34).
//   - A listener creates the next instance before it hands out a connection, so the
//     name is never gone and the queue has its length again.
//   - Nothing that was connected is lost by [Listener.Shut].
//
// It does not guarantee that a client finds a free instance at once: when as many wait
// as there are instances, further clients try again until their own deadline.
//
// An instance that a process inherits is the same object in both: it has one completion
// port and one state. That is why no instance is tied to a port, which would be for
// ever, before it has become a connection; and why a broker that keeps copies of what
// a daemon serves keeps the daemon's connections from ending.
//
// Usual calls:
//
//	held, err := pipe.Claim(name, pipe.Queue)   // the broker
//	copies, err := held.Inheritable()           // for AdditionalInheritedHandles
//
//	held, err := pipe.Adopt(name, handles)      // the daemon
//	ln, err := held.Listen()
//
//	conn, err := pipe.Dial(ctx, name)           // the client
package pipe
