// Package supervise decides what the standing broker does for a service: when it
// binds, launches, waits, replaces, gives up and answers for the dead.
//
// It touches nothing. A [Machine] is a comparable value that goes from one state to
// the next by events, and says what is to be done as effects; time and randomness
// arrive with each event. So the same decisions run on the real system and, in the
// tests, on a simulated one, where all their sequences can be tried.
//
//	m := supervise.New(policy)
//	m, effects := m.Next(supervise.Moment{At: proc.BootTime(), Jitter: rand.Float64()}, event)
//
// A [Schedule] keeps the deadlines of many services, and a [Quota] says whose
// daemons a user has too many of, and which goes first.
//
// # The life of a service
//
// An enabled service is always in one of these states. The listener is the
// broker's own copy, which it keeps while a generation serves.
//
//		             enable
//		 disabled ──────────▶ binding ───── somebody is there ──────▶ following
//		    ▲                  │   ▲ ▲                                   │
//		    │            bound │   │ └────────── it is gone ─────────────┘
//		    │                  ▼   │
//		    │ disable        held  │ the time has come
//		    │                  │   │
//		    │   a client waits │   └───────────── refusing ◀──┐
//		    │                  ▼                     ▲        │ it cannot be launched,
//		    │              launching ────────────────┴────────┘ or three in 30 s
//		    │               ▲  │                                were never ready
//		    │      its time │  │ there is a process
//		    │               │  ▼
//		    │            backoff   starting ──▶ ready
//		    │               ▲         │           │
//		    │               │         │ too late  │ silent, or it accepts nobody
//		    │               │         ▼           ▼
//		    │               │       capturing ──▶ killing
//		    │               │         │           │
//		    │               └─────────┴───────────┴── ended; so are held and launching
//		    │                                     ▲
//		    └──────────── draining ───────────────┘
//		                     ▲ a stop, a restart, or the daemon's own wish
//
//	  - disabled: nothing is ours.
//	  - binding: the broker looks who is at the endpoint, and binds if nobody is.
//	  - held: the listener is ours and nobody runs. The kernel tells when a client
//	    waits; until then nothing happens, and no process exists.
//	  - launching: a process is being made.
//	  - starting: it exists, has the listener, and has not said that it serves. With
//	    ready_within it has only so long.
//	  - ready: it serves. The broker looks at nothing, except for signs of life if it
//	    has promised some.
//	  - draining: it accepts no more, or was asked to. It has stop_within; then it is
//	    killed. A backend that drains leaves the queue to the next generation, which is
//	    launched beside it as soon as somebody waits. A foreign daemon has to be gone
//	    first: it may not stand a second one of its kind.
//	  - capturing, killing: it hangs. Evidence comes first, then the kill.
//	  - backoff: it ended badly, and is launched again at a certain time.
//	  - refusing: the broker answers for the dead. The reason is on record, the
//	    listener is shut, and who dials gets the reason from the launch protocol, at
//	    once. When the retry time comes, the broker binds anew.
//	  - following: somebody serves at the endpoint with a listener that we have no copy
//	    of: a client has launched it, or a former broker. It is watched, and when it is
//	    gone the broker binds.
//	  - departed: the broker ends. Daemons and listeners stay.
//
// # When a generation has ended
//
// Who was asked to end is followed by another only if somebody wants one. Of the
// others an end is bad unless it was clean, after being ready, and left nobody
// waiting. Bad ends in a row, none of which served for backoff_reset, make the
// backoff longer.
//
//   - If somebody waits, the next is launched at once: a connection is a person who
//     waits, and systemd's socket units activate at once too (systemd.socket(5),
//     subject to TriggerLimitBurst=). This holds for the first three of a row. After that
//     the client waits for the backoff in the queue, so that a daemon that dies of each
//     request does not become a busy loop.
//   - If nobody waits, the restart policy says whether there is a next one, after
//     the backoff. Under each policy a service that was never used is not started. A
//     client that comes during the backoff cuts it short, under the same rule.
//   - Three that died before they were ready, within 30 s, exhaust the budget, whoever
//     waits: refusing. These are the rule and the numbers of the embedded broker, which goes
//     on to answer from what is on record. At most three starts in 30 s fail so.
//
// A launch that comes to no process is answered at once with its reason to all who wait,
// as an embedded broker's is.
//
// # What the driver promises
//
// It does the effects in their order, and answers those that say so. Events come one
// at a time and in the order of time; a generation's Exited is its last and comes after
// its Launched. It keeps at most one Bind, Launch, Succeed and Capture under way, since
// it is not told to do more.
package supervise
