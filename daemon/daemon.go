// Package daemon is for the daemon's side: a Backend binds, loads and serves, in
// this order, and Run does the rest.
//
// What it guarantees: the endpoint is bound before a byte of state is loaded,
// normally before the process exists; a daemon that was handed a listener never
// binds a second one; the control endpoint answers while the daemon loads or
// works; no child of the daemon sees its listener, locks or variables; a stop
// serves every connection that was accepted or queued; why a daemon ended
// reaches everyone who waits for it.
//
// What it does not: it does not restart a daemon, speak its protocol, or limit
// what its handlers take.
//
// The usual calls, one for each size of daemon:
//
//	daemon.Run[greeter]()                 // a Backend with state
//	daemon.Serve(func(ctx context.Context, ln net.Listener) error { … })
//	err := daemon.Bootstrap[greeter](ctx) // without exit and signals
package daemon

import (
	"context"
	"net"
	"os"

	"github.com/fastbind/fastbind"
)

// A Backend is a daemon: how it binds, loads and serves. The type system keeps
// state out of Bind, so that binding takes microseconds and clients can queue
// before anything is loaded:
//
//   - A backend is a struct without fields (~struct{}): Bind has no receiver
//     state to read. If the compiler says no more than "does not satisfy
//     daemon.Backend", it has a field: move it into the S that Load returns.
//   - Bind takes the endpoint alone. "Wrong type for method Bind": it takes
//     state, which does not exist yet. What it needs is loaded later.
//   - Serve takes the S that Load returns. "Wrong type for method Serve": it
//     wants another.
//
// Run infers S: daemon.Run[myDaemon]().
type Backend[S any] interface {
	~struct{}

	// Bind binds and listens on the endpoint, which Listen does. It is called
	// only if no listener was handed down: for bind policy "daemon", and for a
	// daemon started by hand. It takes microseconds and touches no disk, no
	// network and no state. Its error is ErrInvalidEndpoint, ErrAlreadyBound,
	// a syscall.Errno or something else, wrapped or raw; they are told apart.
	Bind(fastbind.Endpoint) (net.Listener, error)

	// Load loads the daemon's state. It may take minutes; clients queue, and
	// see what Instance.Progress reports. ctx ends when a stop is asked for.
	Load(context.Context, *Instance) (S, error)

	// Serve accepts and serves until ctx ends, then finishes what it has and
	// returns nil. During a stop Accept hands out every connection that was
	// queued, then returns net.ErrClosed, and only then ctx ends; returning at
	// either is right. Returning nil while ctx lives is a failure.
	//
	// A stop waits for the connections that are still open, at most the
	// service's StopWithin: a protocol that keeps idle ones open ends them when
	// ctx ends, as http.Server.Shutdown does.
	Serve(context.Context, net.Listener, S) error
}

// Run is the main of a daemon: it takes over the listener that the broker bound,
// or binds if there is none, loads, serves, and exits the process. It never
// returns: exit status 0 after a stop, 1 after a failure, 2 after a panic.
//
// SIGTERM, SIGINT and SIGHUP ask for a stop. Failures go to stderr, which a
// broker has led to the service's log, and to everyone who waits. Call it first
// thing in main: the broker kills a daemon that has not adopted its listener
// within 10 s.
func Run[B Backend[S], S any](opts ...Option) {
	os.Exit(runProcess(programOf[B, S](), opts))
}

// Bootstrap is Run without the manners of a process: no signals, no output, no
// exit. It blocks until the daemon has stopped, which it does when ctx ends,
// and returns nil after that, else why it failed. A process bootstraps once.
func Bootstrap[B Backend[S], S any](ctx context.Context, opts ...Option) error {
	return run(ctx, programOf[B, S](), opts)
}

// Serve is Run for a daemon without state to load.
func Serve(serve func(context.Context, net.Listener) error, opts ...Option) {
	os.Exit(runProcess(program{
		bind:  Listen,
		load:  func(context.Context, *Instance) (any, error) { return nil, nil },
		serve: func(ctx context.Context, ln net.Listener, _ any) error { return serve(ctx, ln) },
	}, opts))
}

// Listen binds the endpoint and listens: what most backends' Bind returns. The
// listener does not remove its name when it is closed; a name belongs to who
// holds the launch lock.
func Listen(ep fastbind.Endpoint) (net.Listener, error) { return listenAt(ep.Path()) }

// An Option changes how a daemon is run.
type Option func(*options)

type options struct {
	service *fastbind.Service
	version string
}

// For names the service that a daemon serves when it is started by hand: it then
// takes the service's launch lock, binds with Backend.Bind and serves, or fails
// with fastbind.ErrAlreadyBound. A daemon that a broker launched knows already.
func For(s fastbind.Service) Option { return func(o *options) { o.service = &s } }

// Version is what the daemon says its version is. Without it that is the
// version in the service's definition, else the main module's.
func Version(v string) Option { return func(o *options) { o.version = v } }

// A program is a Backend without its type parameters.
type program struct {
	bind  func(fastbind.Endpoint) (net.Listener, error)
	load  func(context.Context, *Instance) (any, error)
	serve func(context.Context, net.Listener, any) error
}

func programOf[B Backend[S], S any]() program {
	var b B
	return program{
		bind: b.Bind,
		load: func(ctx context.Context, inst *Instance) (any, error) { return b.Load(ctx, inst) },
		serve: func(ctx context.Context, ln net.Listener, state any) error {
			s, _ := state.(S) // an S that is a nil interface has no type to assert
			return b.Serve(ctx, ln, s)
		},
	}
}
