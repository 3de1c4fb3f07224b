package supervise

import "time"

// An Effect is something to be done for a service, in the order given. Effects are
// plain, comparable values. Those that say so are answered with an event, always,
// and in bounded time; the bound is the driver's.
type Effect interface{ effect() }

type (
	// Bind looks for who accepts at the endpoint, binds it if nobody does, and
	// tries to get a copy of the listener if somebody does, by the launch protocol
	// and under its lock. Answered with [Bound], [Adopted] or [BindFailed].
	Bind struct{}

	// Launch starts a generation that inherits the listener, of which we keep a
	// copy, by the launch protocol and under its lock. Answered with [Launched],
	// [LaunchFailed], or [Adopted] if somebody else has bound meanwhile.
	Launch struct{ Why Why }

	// Succeed starts a successor beside the generation that serves. Answered with
	// [Succeeded] or [SuccessorFailed], also if the one that serves dies meanwhile:
	// its successor may have the listener already. How long that may take, the
	// machine says.
	Succeed struct{ Number uint64 }

	// CancelSuccessor ends the attempt to succeed generation Number. If it is too
	// late there is a [Succeeded] still.
	CancelSuccessor struct{ Number uint64 }

	// Drain asks a generation to end, and puts on record that it was asked.
	Drain struct{ Number uint64 }

	// Capture writes evidence of a hang to the log and journal. Answered with
	// [Captured].
	Capture struct {
		Number uint64
		Cause  Cause
	}

	// Kill kills a generation through its process handle. For a cause other than
	// CauseStop the cause goes on record before, so that nobody takes the kill for a
	// crash: as a hang, which spends no budget, of one that was ready; else as a
	// launch that failed.
	Kill struct {
		Number uint64
		Cause  Cause
	}

	// Refuse answers for the dead: it puts the reason and the retry time (boot-time
	// clock) on record, where every dial finds it, then shuts and closes our
	// listener, which ends the connections in its queue.
	Refuse struct {
		Reason string
		Retry  time.Duration
	}

	// Release closes the copy of the listener that we had before the event.
	Release struct{}

	// HandOn gives the copy of the listener to the next broker, or closes it if
	// there is none. Daemons stay as they are.
	HandOn struct{}

	// Forget resets the failures on record, as `fastbind reset` does.
	Forget struct{}

	// Watch says whether to tell, once, that somebody waits in the queue. It is on
	// while the listener is ours and nobody accepts.
	Watch struct{ On bool }

	// SetTimer says when the machine wants a [Timer] next, instead of what it said
	// before; 0: no more.
	SetTimer struct{ At time.Duration } // boot-time clock

	// Answer answers a request.
	Answer struct {
		ID     uint64
		Done   bool
		Reason string        // why not
		Retry  time.Duration // when it may work, boot-time clock; 0 if not known
	}

	// Note is for the journal: what was decided about a generation, and why.
	Note struct {
		Kind   Kind
		Number uint64 // 0: about none
		Reason string
	}
)

func (Bind) effect()            {}
func (Launch) effect()          {}
func (Succeed) effect()         {}
func (CancelSuccessor) effect() {}
func (Drain) effect()           {}
func (Capture) effect()         {}
func (Kill) effect()            {}
func (Refuse) effect()          {}
func (Release) effect()         {}
func (HandOn) effect()          {}
func (Forget) effect()          {}
func (Watch) effect()           {}
func (SetTimer) effect()        {}
func (Answer) effect()          {}
func (Note) effect()            {}

// A Why is why a generation is launched.
type Why string

// Why a generation is launched.
const (
	ForClient  Why = "a client waits"
	ForRequest Why = "asked to"
	ForPolicy  Why = "restart policy"
)

// A Cause is why a generation is suspected, or killed.
type Cause string

// The causes.
const (
	CauseUnready    Cause = "not ready in time"
	CauseWatchdog   Cause = "no sign of life in time"
	CauseDespair    Cause = "it says that it hangs"
	CauseUnaccepted Cause = "a connection was not accepted in time"
	CauseStop       Cause = "not ended in time"
)

// A Kind is the kind of a note: the journal's event.
type Kind string

// The kinds of note.
const (
	NoteHeld     Kind = "held"     // the endpoint is bound, nobody runs
	NoteAdopted  Kind = "adopted"  // somebody serves whom this broker found
	NoteBackoff  Kind = "backoff"  // it waits before the next launch
	NoteRefused  Kind = "refused"  // the broker answers for the dead
	NoteHung     Kind = "hung"     // evidence is captured
	NoteStuck    Kind = "stuck"    // the kernel has not ended what was killed
	NoteStranded Kind = "stranded" // no name leads to its listener any more
)
