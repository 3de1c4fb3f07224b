package proc

// A State is what the kernel says of a process that does not answer.
type State struct {
	// Stopped: by a signal such as SIGSTOP. Every thread of it stands still
	// until SIGCONT, so that no answer can come however long one waits.
	Stopped bool

	// Tracer is the pid of a debugger or tracer, 0 without one.
	Tracer int
}

// State asks the kernel what the process is doing. It is [ErrGone] once that is
// dead, [errors.ErrUnsupported] where the system does not tell (all but Linux),
// else the error of reading /proc. It blocks for some reads.
func (h *Handle) State() (State, error) {
	st, err := h.state()
	// Asked after /proc was read: what lives now has had its number all along.
	if !h.Alive() {
		return State{}, ErrGone
	}
	return st, err
}

// Bounds of the evidence, so that a process of thousands of threads fills no log.
const (
	evidenceThreads = 64
	evidenceFDs     = 1 << 16
	evidenceStack   = 4 << 10
)

// Evidence describes in lines of text, for people, what the kernel tells of the
// process and of each of its threads, at most 64 of them: state, where in the
// kernel it waits, its system call, its kernel stack if we may read that, and how
// many descriptors are open. It is what can be known of a process that is
// stopped, or that waits in the kernel and takes no signal. It returns nil for a dead
// process and where the system does not tell.
func (h *Handle) Evidence() []string {
	lines := h.evidence()
	if !h.Alive() {
		return nil
	}
	return lines
}
