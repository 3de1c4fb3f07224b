package fastbindtest

import "time"

const suffix = ".exe" // of an executable's name

// atOnce is how many targets are judged at the same time: starting a process takes longer
// than elsewhere, under Wine above all.
const atOnce = 3

// limits are short where the broken daemons make the kit wait, and a crowd is
// small. The SDK's clients are not to be hurried.
var (
	limits  = Limits{Crowd: 4, Rounds: 1, BoundWithin: 2 * time.Second}
	patient = Limits{Crowd: 4, Rounds: 1}
)

// least is how many cases at least hold of what does everything right.
var least = map[string]int{
	"greeter/client": 13, "gocache/client": 14, "greeter/inherit": 10, "gocache/inherit": 7,
	"plain/inherit": 12, "plain/socket": 7, "plain/port": 5, "plain/client": 16,
}

// together are cases that no defect breaks alone: who takes a share in a pipe does so
// whether its daemon lives or begins at the same moment.
var together = []string{"live-socket"}

// impatient is what gocache's ping breaks, which gives up after 5 s: the system does not
// tell that a process is suspended, so that a daemon is taken for hung only after 30 s.
var impatient = []string{"hang-replaced"}

// elsewhere are cases that are left out where another one is to be broken: they make each
// client wait for as long as a busy machine may take to answer.
var elsewhere = []string{"hang-ends", "hang-replaced"}

// defects are those of internal/broken, those that take longest first.
var defects = []defect{
	{"hang-ends", Client, nil, nil},
	{"hang-replaced", Client, nil, nil},
	{"starts", Inherit, nil, nil},
	{"announced", Inherit, nil, nil},
	{"listens-first", Socket, []string{"-late", "2500ms"}, nil},
	{"queue", Inherit, []string{"-load", "300ms"}, nil},
	{"crowd", Client, nil, nil},
	{"callers-pipe", Client, nil, nil},
	{"strays", Client, nil, nil},
	{"live-socket", Socket, nil, []string{"starters"}}, // each takes a share
	{"starters", Socket, nil, nil},
	{"kill9", Inherit, nil, nil},
	{"stale-crowd", Client, nil, nil},
	{"project", Client, nil, nil},
	{"environment", Client, nil, nil},
	{"session", Client, nil, nil},
	{"idle-exit", Client, []string{"-idle", "{idle}"}, nil},
	{"stop-start", Client, nil, nil},
	{"graceful-stop", Inherit, nil, nil},
	{"connected", Inherit, nil, nil},
	{"exit-status", Inherit, nil, nil},
	{"looks", Client, nil, nil},
	{"others", Client, nil, nil},
	{"others", Port, nil, nil},
	{"cloexec", Inherit, nil, nil},
	{"grandchild", Inherit, []string{"-spawn"}, nil},
}
