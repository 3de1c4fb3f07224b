// Package fastbind connects a tool to the daemon it wants to stay, and starts
// that daemon if nobody has.
//
// What it guarantees: Dial returns as soon as the service's endpoint is bound,
// which is normally before the daemon exists, and the connection waits in the
// kernel's accept queue while the daemon loads. However many processes dial at
// once, one daemon is launched. A dial, its first byte included, fails only with
// the caller's deadline, with the reason why the launch failed, or with a
// refusal and its reason. Whoever answers runs under the caller's own uid.
//
// What it does not: it does not know the daemon's protocol, restarts nothing
// that nobody dials, and is no boundary against programs of the same user.
//
// The three usual calls, the first two in the client and the third in the
// daemon's main:
//
//	svc := fastbind.Service{Name: "greeter", Args: []string{"daemon"}}
//	conn, err := fastbind.Dial(ctx, svc)
//
//	daemon.Run[greeter]()
package fastbind
