package supervise

import "time"

// A Moment is what the machine may know of the world beside an event.
type Moment struct {
	At     time.Duration // boot-time clock; never goes back
	Jitter float64       // a random fraction in [0,1), drawn anew for each event
}

// A Run is a generation as the broker knows it.
type Run struct {
	Number  uint64 // of the generation; 0: none
	Backend bool   // implements the contract: it can hand its listener over, and when it drains it accepts nothing
	Ready   bool   // it has said that it serves, or was seen to
}

// An Event is something that has happened to a service. Events are plain,
// comparable values; the type says what has happened.
type Event interface{ event() }

type (
	// Bound is the answer to [Bind]: nobody was there, and a listener of ours is.
	Bound struct{}

	// BindFailed is the answer to [Bind] if there is no listener.
	BindFailed struct{ Reason string }

	// Inherited says that the broker was started with the service's listener: by
	// its own predecessor, which has launched Run, if there is one, or by systemd. If
	// Run drains already, a [Leaving] follows.
	Inherited struct{ Run Run }

	// Stranded says that no name leads to our listener any more, or to that of whom
	// we follow, nor to anybody else's: both were deleted. It does not come while a
	// Bind or Launch is under way.
	Stranded struct{}

	// Adopted says that somebody accepts at the endpoint whom this broker has not
	// launched, or has launched in an earlier life: the answer to [Bind] or
	// [Launch], or, while none is under way, found when the names no longer led to
	// our listener. With Listener we have a copy of its listener, since a backend has
	// handed it over. Any listener that we had before is no longer the endpoint's.
	Adopted struct {
		Run      Run
		Listener bool
	}

	// Readable says that somebody waits in the listener's queue. It comes at most
	// once for each [Watch] that is on.
	Readable struct{}

	// Launched is the answer to [Launch]: the process exists and has the listener.
	Launched struct {
		Number  uint64
		Backend bool
	}

	// LaunchFailed is the answer to [Launch] if there is no process. Retry is when
	// the launch protocol would admit another, 0 if it did not say; Died says that
	// there was a process, which ended before it listened.
	LaunchFailed struct {
		Reason string
		Retry  time.Duration // boot-time clock
		Died   bool
	}

	// Succeeded says that a successor has taken the listener of generation Number
	// over: the answer to [Succeed], or a client has started it. The one before it
	// accepts nothing more and ends by itself.
	Succeeded struct {
		Number uint64
		Run    Run
	}

	// SuccessorFailed is the answer to [Succeed] if there will be no successor.
	SuccessorFailed struct {
		Number uint64
		Reason string
	}

	// Served says that the generation is ready: READY=1, its control endpoint, or
	// what the definition tells to look at. Of a foreign daemon that announces nothing,
	// the least is that it has accepted a connection.
	Served struct{ Number uint64 }

	// Leaving says that the generation ends by itself: STOPPING=1, phase draining.
	// Nobody of the broker has asked it to.
	Leaving struct{ Number uint64 }

	// Alive is WATCHDOG=1. Every, if not 0, is a new interval (WATCHDOG_USEC).
	Alive struct {
		Number uint64
		Every  time.Duration
	}

	// Extended is EXTEND_TIMEOUT_USEC: what is waited for, ready or the end, will
	// come within By from now. Longer than MaxExtend is MaxExtend; it may be said
	// again.
	Extended struct {
		Number uint64
		By     time.Duration
	}

	// Despaired is WATCHDOG=trigger: the generation says that it hangs.
	Despaired struct{ Number uint64 }

	// Unaccepted says that the oldest connection in the queue has waited for so
	// long. Answers: the generation has answered at its control endpoint meanwhile,
	// so it is busy (R25).
	Unaccepted struct {
		Number  uint64
		For     time.Duration
		Answers bool
	}

	// Captured is the answer to [Capture]. Debugged: who looks at it with a debugger
	// is not to lose it.
	Captured struct {
		Number   uint64
		Debugged bool
	}

	// Exited says that the generation's process is dead: what main process it has
	// (MAINPID=) is the driver's affair. Asked: a stop of the command, or of any
	// other process, is on record. Waiting: somebody was in the queue of our
	// listener when the driver looked.
	Exited struct {
		Number  uint64
		End     End
		Asked   bool
		Waiting bool
		Reason  string // for those who are told of it
	}

	// Changed says that the definition is another one. Launch: what would be
	// launched is (see [When]), so that the failures of the former say nothing any
	// more.
	Changed struct {
		Policy Policy
		Launch bool
	}

	// Requested asks for something. It is answered with one [Answer] of the same
	// ID, or never if ID is 0: the broker's own wish.
	Requested struct {
		ID   uint64
		Verb Verb
	}

	// Withdrawn says that nobody waits for the answer to a request any more. What
	// was begun for it is done all the same.
	Withdrawn struct{ ID uint64 }

	// Timer says that the deadline of [SetTimer] has come, and is set no more. One
	// that comes early or twice does no harm.
	Timer struct{}

	// Departed says that the broker ends, or executes a newer one. See [HandOn].
	Departed struct{}
)

func (Bound) event()           {}
func (BindFailed) event()      {}
func (Inherited) event()       {}
func (Stranded) event()        {}
func (Adopted) event()         {}
func (Readable) event()        {}
func (Launched) event()        {}
func (LaunchFailed) event()    {}
func (Succeeded) event()       {}
func (SuccessorFailed) event() {}
func (Served) event()          {}
func (Leaving) event()         {}
func (Alive) event()           {}
func (Extended) event()        {}
func (Despaired) event()       {}
func (Unaccepted) event()      {}
func (Captured) event()        {}
func (Exited) event()          {}
func (Changed) event()         {}
func (Requested) event()       {}
func (Withdrawn) event()       {}
func (Timer) event()           {}
func (Departed) event()        {}

// A Verb is what is requested.
type Verb uint8

// The verbs, and when they are answered as done.
const (
	VerbEnable  Verb = iota // the service is held, or somebody serves
	VerbDisable             // nothing of it is ours: no process, no listener
	VerbLaunch              // a generation runs
	VerbReady               // a generation is ready
	VerbRestart             // a generation that was not there before runs
	VerbStop                // those that ran have ended; refused if none did
	VerbReset               // the failures are forgotten
	numVerbs
)

var verbNames = [...]string{"enable", "disable", "launch", "ready", "restart", "stop", "reset"}

func (v Verb) String() string {
	if v < numVerbs {
		return verbNames[v]
	}
	return "unknown verb"
}
