package fastbindtest

import "slices"

// A Case is something that must be true of a daemon.
type Case struct {
	Name        string `json:"name"`
	Requirement string `json:"requirement"` // R1 and so on, or "contract"
	Rule        string `json:"rule"`        // one sentence
	Modes       []Mode `json:"modes"`       // of the targets to which it can apply

	answer bool // of a daemon it needs a request with an answer
}

var (
	daemons   = []Mode{Inherit, Socket, Port}
	binding   = []Mode{Socket, Port}
	everybody = []Mode{Inherit, Socket, Port, Client}
	inherit   = []Mode{Inherit}
	client    = []Mode{Client}
)

// cases in the order in which they are judged: starts is the condition of all.
var cases = []Case{
	{Name: "starts", Requirement: "contract", Modes: everybody,
		Rule: "The daemon serves at the endpoint it was given."},
	{Name: "announced", Requirement: "contract", Modes: inherit,
		Rule: "A daemon that was promised a listener and cannot use it fails, and binds no other."},
	{Name: "listens-first", Requirement: "contract", Modes: binding,
		Rule: "The daemon listens before it loads: within its budget after exec."},
	{Name: "queue", Requirement: "R2", Modes: daemons, answer: true,
		Rule: "Who connects while the daemon loads is served when it has loaded."},
	{Name: "crowd", Requirement: "R1", Modes: client,
		Rule: "However many clients come at once while nothing runs, all are served, by one daemon."},
	{Name: "callers-pipe", Requirement: "R4", Modes: client,
		Rule: "The output of the first client ends with it: the daemon does not hold it open."},
	{Name: "strays", Requirement: "R4", Modes: client,
		Rule: "No other descriptor that the caller left open, such as make's jobserver pipe, lives on in the daemon."},
	{Name: "deleted-socket", Requirement: "R6", Modes: []Mode{Socket, Client},
		Rule: "A daemon that lives but can no longer be reached does not keep the next one from serving."},
	{Name: "live-socket", Requirement: "R7", Modes: []Mode{Socket, Port, Client},
		Rule: "Nobody removes, replaces or shares the endpoint of a daemon that lives."},
	{Name: "starters", Requirement: "R7", Modes: []Mode{Socket},
		Rule: "However many daemons start at once, over nothing or over a dead one's socket, one of them listens."},
	{Name: "kill9", Requirement: "R9", Modes: everybody,
		Rule: "After kill -9 of the daemon the next start or client succeeds unaided."},
	{Name: "stale-crowd", Requirement: "R9", Modes: client,
		Rule: "However many clients come at once after kill -9, all are served, by one daemon."},
	{Name: "project", Requirement: "R17", Modes: client,
		Rule: "The daemon keeps nothing of its first client's directory in use, so that it can be deleted."},
	{Name: "environment", Requirement: "R18", Modes: client,
		Rule: "A variable of its first client's that the daemon does not need is not in its environment."},
	{Name: "session", Requirement: "R19", Modes: client,
		Rule: "The daemon has a session of its own: Ctrl-C in its first client's terminal, and its end, do not reach it."},
	{Name: "idle-exit", Requirement: "R23", Modes: everybody, answer: true,
		Rule: "Who comes as the daemon ends by itself is served, by it or by the next."},
	{Name: "stop-start", Requirement: "R24", Modes: everybody,
		Rule: "When a stop has returned the daemon is gone, and the next start works at once."},
	{Name: "graceful-stop", Requirement: "contract", Modes: daemons, answer: true,
		Rule: "A stop (SIGTERM) serves who is in the queue."},
	{Name: "connected", Requirement: "contract", Modes: daemons, answer: true,
		Rule: "A stop (SIGTERM) serves who is connected and has begun to ask."},
	{Name: "exit-status", Requirement: "contract", Modes: daemons,
		Rule: "The exit status after a stop is 0."},
	{Name: "hang-ends", Requirement: "R26", Modes: client,
		Rule: "The client of a daemon that does not answer (SIGSTOP) ends in bounded time."},
	{Name: "hang-replaced", Requirement: "R26", Modes: client,
		Rule: "A daemon that does not answer (SIGSTOP) is replaced."},
	{Name: "looks", Requirement: "R32", Modes: client,
		Rule: "Commands that look start nothing and remove nothing."},
	{Name: "others", Requirement: "R34", Modes: everybody,
		Rule: "Another user of the machine cannot connect."},
	{Name: "cloexec", Requirement: "R38", Modes: inherit,
		Rule: "An inherited listener is made close-on-exec."},
	{Name: "grandchild", Requirement: "R38", Modes: inherit,
		Rule: "What the daemon executes sees neither the listener nor the variables that announced it."},
	{Name: "keeps-name", Requirement: "R38", Modes: inherit,
		Rule: "The name of an inherited socket is not removed, in use or at the end."},
}

// Cases returns all cases in the order in which they are judged.
func Cases() []Case { return slices.Clone(cases) }

// notFor is why a case does not apply to a mode, "" if it does.
func (c Case) notFor(m Mode) string {
	if slices.Contains(c.Modes, m) {
		return ""
	}
	switch {
	case slices.Equal(c.Modes, client):
		return "whoever launches the daemon decides it; judge the command that does as a client"
	case slices.Equal(c.Modes, inherit):
		return "the daemon is handed no listener"
	case m == Inherit:
		return "the daemon binds nothing itself"
	case m == Port:
		return "a port has no name in the file system"
	}
	return "it is judged by starting the daemon itself, not through a client"
}
