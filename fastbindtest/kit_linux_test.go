package fastbindtest

import "time"

const suffix = "" // of an executable's name

// atOnce is how many targets are judged at the same time: they mostly wait.
const atOnce = 10

// limits are short where the broken daemons make the kit wait, and a crowd is
// small: several checks run at once. The SDK's clients are not to be hurried.
var (
	limits  = Limits{Crowd: 8, Rounds: 1, Patience: 10 * time.Second, HangWithin: 4 * time.Second}
	patient = Limits{Crowd: 8, Rounds: 1}
)

// least is how many cases at least hold of what does everything right.
var least = map[string]int{
	"greeter/client": 12, "gocache/client": 13, "greeter/inherit": 10, "gocache/inherit": 8,
	"plain/inherit": 12, "plain/socket": 11, "plain/port": 7, "plain/client": 16,
}

// together are cases that no defect breaks alone.
var together []string

// impatient is what gocache's ping breaks, which gives up after 5 s.
var impatient []string

// elsewhere are cases that are left out where another one is to be broken.
var elsewhere []string

// defects are those of internal/broken, those that take longest first.
var defects = []defect{
	{"hang-ends", Client, nil, nil},
	{"hang-replaced", Client, nil, nil},
	{"starts", Inherit, nil, nil},
	{"announced", Inherit, nil, nil},
	{"listens-first", Socket, nil, nil},
	{"queue", Inherit, []string{"-load", "300ms"}, nil},
	{"crowd", Client, nil, nil},
	{"callers-pipe", Client, nil, nil},
	{"strays", Client, nil, nil},
	{"deleted-socket", Socket, nil, nil},
	{"deleted-socket", Client, nil, nil},
	{"live-socket", Port, nil, nil},
	{"live-socket", Socket, nil, []string{"starters"}}, // each removes the one before
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
	{"exit-status", Socket, nil, nil},
	{"looks", Client, nil, nil},
	{"others", Client, nil, nil},
	{"others", Port, nil, nil},
	{"cloexec", Inherit, nil, nil},
	{"grandchild", Inherit, []string{"-spawn"}, nil},
	{"keeps-name", Inherit, nil, nil},
}
