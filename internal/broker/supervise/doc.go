// Package supervise decides what the standing broker does for a service: when it
// binds, launches, waits, replaces, gives up and answers for the dead.
//
// It touches nothing. A [Machine] is a comparable value that goes from one state to
// the next by events, and says what is to be done as effects; time and randomness
// arrive with each event. So the same decisions run on the real system and, in the
// tests, on a simulated one, where their sequences can be searched.
//
//	m := supervise.New(policy)
//	m, effects := m.Next(supervise.Moment{At: proc.BootTime(), Jitter: rand.Float64()}, event)
//
// A [Schedule] keeps the deadlines of many services, and a [Quota] says whose
// daemons a user has too many of, and which goes first.
//
// # The life of a service
//
// A service is in one of these states. The listener is the broker's own copy, which
// it keeps while a generation serves.
//
//	disabled
//	   │ enable
//	   ▼          somebody is there
//	binding ───────────────────────────▶ following
//	 ▲ ▲ │ nobody is                          │
//	 │ └─┼────────────────────────────────────┘ it is gone
//	 │   ▼
//	 │  held ◀─────────────── an end, and nobody waits ─────────────┐
//	 │   │ a client waits                                           │
//	 │   ▼                                                          │
//	 │  launching ◀────────── an end, and somebody waits ───────────┤
//	 │   │     │ ▲                                                  │
//	 │   │     │ └── backoff ◀─ an end, and it is too soon ─────────┤
//	 │   │     │     there is a process                             │
//	 │   │     └─────────────────▶ starting ──▶ ready ──▶ draining ─┤
//	 │   │ there is none              │           │          │      │
//	 │   ▼                            │ late      │ hangs    │ late │
//	 │  refusing ◀─┐                  ▼           ▼          │      │
//	 │   │         │                   capturing             │      │
//	 └───┘         │                       │                 │      │
//	  its time     │                       ▼                 │      │
//	               │                    killing ◀────────────┘      │
//	               │                       │                        │
//	               │                       └────────────────────────┤
//	               └───── an end, the third of those never ready ───┘
//
// In words:
//
//   - disabled: nothing is ours.
//   - binding: the broker looks who is at the endpoint, and binds if nobody is.
//   - held: the listener is ours and nobody runs. The kernel tells when a client
//     waits; until then nothing happens, and there is no process.
//   - launching: a process is being made.
//   - starting: it exists, has the listener, and has not said that it serves. With
//     ready_within it has only so long.
//   - ready: it serves. Nothing is looked at, but for signs of life if it was told to
//     give any, and what is seen of its queue from outside.
//   - draining: it was asked to end, or ends by itself. It has stop_within; then it is
//     killed. A backend that drains has left the queue to the next generation, which is
//     launched beside it as soon as somebody waits. A foreign daemon has to be gone
//     first: it may not stand a second one of its kind.
//   - capturing, killing: it hangs. Evidence comes first, then the kill. Who becomes
//     ready meanwhile, or is looked at with a debugger, is spared.
//   - backoff: it is launched again at a certain time.
//   - refusing: the broker answers for the dead. The reason is on record, the
//     listener is shut, and who dials gets the reason from the launch protocol, at
//     once. When its time has come the broker binds anew.
//   - following: somebody serves at the endpoint with a listener that we have no copy
//     of: a client has launched it, or a former broker. It is watched, and when it is
//     gone the broker binds.
//   - succeeding: the generation has died while its successor loads, which has the
//     listener. Nobody else is launched before it is known what becomes of that one.
//   - ended: the broker has. Daemons stay, and listeners are handed on.
//
// From everywhere a disable leads, by way of draining if somebody runs, to disabled;
// and if both names of the endpoint are deleted, back to binding, or to following when
// a client has launched another daemon there.
//
// # When a generation has ended
//
// Who was asked to end is followed by another only if somebody wants one. Of the
// others an end is good if it was clean, of one that was ready, and left nobody
// waiting; else it is bad. Bad ends make a row, until somebody has served for
// backoff_reset.
//
//   - If somebody waits, the next is launched at once: a connection is a person who
//     waits, and systemd's socket units activate at once too, within limits
//     (systemd.socket(5), TriggerLimitBurst=). So it is for the first three of a row.
//     After that clients wait in the queue for a backoff that doubles, so that a daemon
//     that dies of each request, and a client that asks again, make no busy loop.
//   - If nobody waits, the restart policy says whether there is a next one, after
//     the backoff. A client that comes meanwhile cuts that short, within the same
//     limit. No policy starts a service that was never used.
//   - Three that died before they were ready, within 30 s, exhaust the budget, whoever
//     waits: refusing. Rule and numbers are the embedded broker's, which goes on to
//     answer from what is on record. So of one definition at most three starts fail in 30 s.
//
// A launch that comes to no process is answered at once, with its reason, for all who
// wait, as an embedded broker's is. The next is tried after the backoff.
//
// # What the driver promises
//
// It does the effects in their order, and answers those that say so. Events come one
// at a time and in the order of time. A generation's [Exited] is its last, and comes
// after its [Launched]. While a [Bind] or [Launch] is under way nothing is found at the
// endpoint but by that. What a daemon or a client sends is bounded where it is read.
package supervise
