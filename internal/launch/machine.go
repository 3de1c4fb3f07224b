package launch

import "strconv"

// A Step is something the launch protocol does to the outside, one system call
// that matters or a group whose order does not. The machine names the next one,
// a driver does it and reports its Outcome.
//
// The protocol's safety lives in the order of these steps, so they are an
// enumeration that tests can walk: the fault matrix kills a launcher before each.
type Step uint8

// The launch steps, in the order of a cold launch.
const (
	StepConnect     Step = iota // connect to sock
	StepPause                   // wait a moment with jitter, at most until nobody waits any more
	StepLock                    // open the service's directory, making it if need be, and try its lock
	StepVerifyDir               // the locked directory is still the one at its path
	StepReconnect               // connect again: somebody may have launched before we had the lock
	StepProbeKeep               // connect to keep: is the listener alive under its second name?
	StepRestore                 // put the deleted name back: link keep, rename over sock
	StepSucceed                 // mode Succeeds: is there whom to succeed, and nobody at it yet?
	StepOwn                     // mode Activates: the names lead to the held listener, and nobody accepts from it
	StepAdmit                   // settle dead generations; has a launch failed for us, is the budget spent?
	StepExecutable              // the command can be executed
	StepPrepare                 // generation directory, life lock, control endpoint, log, record
	StepUnlink                  // remove both stale names, relative to the locked directory
	StepBind                    // bind at the final path
	StepVerifyBind              // the name made is in the locked directory; make it private
	StepKeep                    // link keep to it
	StepCurrent                 // current names the generation
	StepListen                  // clients queue from here on
	StepSpawn                   // fork and exec
	StepAwaitBound              // bind "daemon": wait until the child has bound, or is dead, or out of time
	StepCloseCopies             // close, never unlock, what the child now holds
	StepAbandon                 // undo: close unlistened, write the verdict if the launch failed
	StepUnlock                  // release the launch lock: unlock, then close
	StepDone                    // the machine has ended; Result says how
	numSteps
)

var stepNames = [numSteps]string{"connect", "pause", "lock", "verify directory", "reconnect", "probe keep",
	"restore name", "look whom to succeed", "look who owns", "admit", "check executable", "prepare", "unlink stale names", "bind", "verify bind",
	"link keep", "move current", "listen", "spawn", "await bound", "close copies", "abandon", "unlock", "done"}

func (s Step) String() string {
	if s < numSteps {
		return stepNames[s]
	}
	return "step " + strconv.Itoa(int(s))
}

// Steps returns every step, for tests that need one row for each.
func Steps() []Step {
	steps := make([]Step, numSteps)
	for i := range steps {
		steps[i] = Step(i)
	}
	return steps
}

// An Outcome is what came of a step.
type Outcome uint8

// The outcomes. Which of them a step can have is in Machine.Next.
const (
	OK        Outcome = iota
	Absent            // there is no such name
	Refused           // nobody can accept there
	Busy              // somebody lives there, the queue is full
	Held              // another process holds the lock
	Moved             // what was looked at is not what is at the path now
	InUse             // the address exists already
	Forbidden         // a refusal with its reason: the driver has the error
	Failed            // a fault: the driver has the error
	Expired           // nobody waits for the launch any more
	numOutcomes
)

// A Mode says who will serve.
type Mode uint8

// The modes.
const (
	BrokerBinds Mode = iota // the broker binds and listens, the child inherits
	DaemonBinds             // the child binds, under its launcher's lock
	ByHand                  // this very process is the daemon and binds
	Succeeds                // the child asks a living generation for its listener
	Holds                   // a standing broker binds and listens, and launches nobody yet
	Activates               // the child inherits a copy of the listener that a standing broker holds
)

// A Result says how a machine ended.
type Result uint8

// The results.
const (
	Running      Result = iota // not yet
	Attached                   // somebody accepts at the endpoint; a step may have left a connection
	Launched                   // the machine launched a daemon; its endpoint accepts
	AlreadyBound               // by hand: somebody else serves already
	Gave                       // the launch failed or was refused; the driver has the error
)

// A Machine decides the launch protocol: Step says what to do, Next takes what
// came of it. It touches nothing outside itself and is comparable, so that the
// same code runs on the real system and on a simulated one. The zero Machine
// with a Mode begins with a connect.
type Machine struct {
	Mode   Mode
	Step   Step
	Result Result

	locked   bool   // we hold the launch lock
	prepared bool   // a generation of ours exists
	after    Step   // what follows StepUnlock
	ending   Result // the result once unlocked
}

// Locked reports whether the launch lock is held.
func (m Machine) Locked() bool { return m.locked }

// Next returns the machine after the outcome of its current step.
func (m Machine) Next(o Outcome) Machine { return *m.next(o) }

// next and what it calls change the machine in place and return it: a copy at each
// return is 6 kB of code in every client.
func (m *Machine) next(o Outcome) *Machine {
	switch m.Step {
	case StepConnect:
		switch o {
		case OK:
			return m.attached()
		case Busy:
			return m.to(StepPause)
		case Absent, Refused:
			return m.to(StepLock)
		}

	case StepPause:
		switch {
		case o == OK && m.Mode == Activates:
			return m.to(StepLock)
		case o == OK:
			return m.to(StepConnect)
		}

	case StepLock:
		switch o {
		case OK:
			m.locked = true
			return m.to(StepVerifyDir)
		case Held, Moved:
			return m.to(StepPause)
		}

	case StepVerifyDir:
		switch o {
		case OK:
			switch m.Mode {
			case Succeeds:
				return m.to(StepSucceed)
			case Activates:
				return m.to(StepOwn)
			}
			return m.to(StepReconnect)
		case Moved:
			// A lock on a directory that is no longer at its path excludes
			// nobody: start over with the one that is.
			return m.release(m.start())
		}

	case StepReconnect:
		switch o {
		case OK:
			return m.finish(m.attachedResult())
		case Busy:
			return m.release(StepPause)
		case Absent, Refused:
			return m.to(StepProbeKeep)
		}

	case StepProbeKeep:
		switch o {
		case OK, Busy:
			return m.to(StepRestore)
		case Absent, Refused:
			// No process can ever accept at the old inode again, or both names
			// are gone: whatever still lives is draining or stranded.
			if m.Mode == Holds {
				m.prepared = true // what follows is to be undone
				return m.to(StepUnlink)
			}
			return m.to(StepAdmit)
		}

	case StepRestore:
		switch o {
		case OK:
			return m.finish(m.attachedResult())
		case Absent, Moved:
			return m.release(m.start())
		}

	case StepSucceed:
		switch o {
		case OK:
			return m.to(StepAdmit)
		case InUse, Absent:
			// Somebody is at it, or there is nobody to succeed: an ordinary
			// dial finds whoever is there.
			return m.finish(Attached)
		}

	case StepOwn:
		switch o {
		case OK:
			return m.to(StepAdmit)
		case InUse, Moved:
			// Somebody accepts, or other names were made, and these may be anybody's.
			return m.finish(Attached)
		case Busy:
			return m.release(StepPause)
		}

	case StepAdmit:
		switch {
		case o == OK:
			return m.to(StepExecutable)
		case o == InUse && m.Mode == DaemonBinds: // it has bound since it was looked for
			return m.release(m.start())
		}

	case StepExecutable:
		if o == OK {
			return m.to(StepPrepare)
		}

	case StepPrepare:
		m.prepared = true
		switch o {
		case OK:
			switch m.Mode {
			case Succeeds:
				return m.to(StepSpawn) // it has no name to make and nothing to listen on
			case Activates:
				return m.to(StepCurrent)
			}
			return m.to(StepUnlink)
		case Moved:
			return m.abandon(m.start())
		}

	case StepUnlink:
		if o == OK && m.Mode == DaemonBinds {
			return m.to(StepCurrent)
		}
		if o == OK {
			return m.to(StepBind)
		}

	case StepBind:
		switch o {
		case OK:
			return m.to(StepVerifyBind)
		case InUse:
			// Never unlink twice on one probe: who made this name may live.
			return m.abandon(StepPause)
		case Moved:
			return m.abandon(m.start())
		}

	case StepVerifyBind:
		switch o {
		case OK:
			return m.to(StepKeep)
		case Moved:
			return m.abandon(m.start())
		}

	case StepKeep:
		// Where sockets cannot be linked the driver answers OK: the deleted
		// name cannot be put back there, the daemon is replaced instead.
		switch {
		case o == OK && m.Mode == DaemonBinds:
			return m.to(StepCloseCopies)
		case o == OK && m.Mode == Holds:
			return m.to(StepListen)
		case o == OK:
			return m.to(StepCurrent)
		case o == Moved:
			return m.abandon(m.start())
		}

	case StepCurrent:
		switch {
		case o == OK && (m.Mode == DaemonBinds || m.Mode == Activates):
			return m.to(StepSpawn)
		case o == OK:
			return m.to(StepListen)
		case o == Moved:
			return m.abandon(m.start())
		}

	case StepListen:
		switch {
		case o == OK && (m.Mode == ByHand || m.Mode == Holds):
			return m.finish(Launched)
		case o == OK:
			return m.to(StepSpawn)
		}

	case StepSpawn:
		switch {
		case o == OK && m.Mode == DaemonBinds:
			return m.to(StepAwaitBound)
		case o == OK:
			return m.to(StepCloseCopies)
		}

	case StepAwaitBound:
		if o == OK {
			return m.to(StepKeep)
		}

	case StepCloseCopies:
		return m.finish(Launched)

	case StepAbandon:
		return m.to(StepUnlock)

	case StepUnlock:
		m.locked = false
		m.prepared = false
		if m.after == StepDone {
			m.Result = m.ending
		}
		return m.to(m.after)

	case StepDone:
		return m
	}
	return m.fail()
}

// start is where to start over. Whoever has the listener does not connect to it: that
// would be one more client in its queue.
func (m Machine) start() Step {
	if m.Mode == Activates {
		return StepPause
	}
	return StepConnect
}

func (m *Machine) to(s Step) *Machine {
	m.Step = s
	return m
}

func (m Machine) attachedResult() Result {
	if m.Mode == ByHand {
		return AlreadyBound
	}
	return Attached
}

func (m *Machine) attached() *Machine {
	m.Result = m.attachedResult()
	return m.to(StepDone)
}

// release gives the lock back and goes on with step s.
func (m *Machine) release(s Step) *Machine {
	m.after = s
	return m.to(StepUnlock)
}

// abandon undoes a generation without a verdict and goes on with step s.
func (m *Machine) abandon(s Step) *Machine {
	m.after = s
	return m.to(StepAbandon)
}

// finish gives the lock back and ends with r.
func (m *Machine) finish(r Result) *Machine {
	m.ending = r
	return m.release(StepDone)
}

// fail ends the machine with the driver's error: a generation of ours gets its
// verdict before our last copy of its listener closes.
func (m *Machine) fail() *Machine {
	m.ending = Gave
	switch {
	case m.prepared && m.locked:
		return m.abandon(StepDone)
	case m.locked:
		return m.release(StepDone)
	}
	m.Result = Gave
	return m.to(StepDone)
}

// Giving reports whether the machine is on its way to end without a daemon:
// StepAbandon then writes a verdict instead of starting over.
func (m Machine) Giving() bool { return m.after == StepDone && m.ending == Gave }
