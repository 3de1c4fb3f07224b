package explore

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/launch"
)

// search is a configuration that is searched to its fixed point, and how many
// states that has: a change of the protocol or of the model changes it.
type search struct {
	name   string
	config Config
	long   bool // only if it is asked for
}

var searches = []search{
	{"crowd", Config{Clients: 3, NoUpgrade: true, Idles: 1, Kills: 1}, false},
	{"two kills", Config{Clients: 2, NoUpgrade: true, Idles: 1, Kills: 2}, false},
	{"upgrade, a kill, a failure", Config{Clients: 1, Idles: 1, Kills: 1, Failures: 1}, false},
	{"connect in two parts, a fork copy", Config{Clients: 2, NoUpgrade: true, Idles: 1, Strays: 1, Split: true}, false},
	{"deletion, a failure", Config{Clients: 2, NoUpgrade: true, Deletions: 1, Failures: 1}, false},
	{"spent budget", Config{Clients: 3, NoUpgrade: true, Failures: 1, Spent: true}, false},

	{"broker", Config{Clients: 2, NoUpgrade: true, Idles: 1, Brokers: 1}, false},
	{"brokers, a kill", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 2, Kills: 1}, false},
	{"broker, a failure", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 1, Failures: 1}, false},
	{"broker, upgrade", Config{Clients: 1, Idles: 1, Brokers: 1}, false},

	{"brokers, a kill, a crowd", Config{Clients: 2, NoUpgrade: true, Idles: 1, Brokers: 2, Kills: 1}, true},
	{"brokers, two kills", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 2, Kills: 2}, true},
	{"broker, a deletion", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 1, Deletions: 1}, true},
	{"broker, a kill, a deletion", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 1, Kills: 1, Deletions: 1}, true},
	{"broker, connect in two parts, a fork copy", Config{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 2, Kills: 1, Strays: 1, Split: true}, true},
	{"broker, upgrade, a kill", Config{Clients: 1, Idles: 1, Brokers: 1, Kills: 1}, true},
	{"broker, upgrade, a failure", Config{Clients: 1, Idles: 1, Brokers: 1, Failures: 1}, true},

	{"crowd, two kills", Config{Clients: 3, NoUpgrade: true, Idles: 1, Kills: 2}, true},
	{"crowd, upgrade", Config{Clients: 3, Idles: 1}, true},
	{"upgrade, a kill", Config{Clients: 2, Idles: 1, Kills: 1}, true},
	{"upgrade, connect in two parts", Config{Clients: 2, Idles: 1, Split: true}, true},
	{"upgrade, two kills", Config{Clients: 1, Idles: 1, Kills: 2}, true},
	{"upgrade, a deletion", Config{Clients: 2, Deletions: 1}, true},
	{"upgrade, idle, a deletion", Config{Clients: 1, Idles: 1, Deletions: 1}, true},
	{"upgrade, a kill, a deletion", Config{Clients: 1, Kills: 1, Deletions: 1}, true},
	{"a kill, a deletion, a failure", Config{Clients: 2, NoUpgrade: true, Kills: 1, Deletions: 1, Failures: 1}, true},
}

// everything is too large to be searched: its first layers are, and random walks go
// through the rest.
var everything = Config{Clients: 3, Idles: 1, Brokers: 2, Kills: 2, Deletions: 1, Failures: 1, Strays: 1, Split: true}

func long() bool { return os.Getenv("FASTBIND_LONG") == "1" }

// spoilt skips what the race detector would spend minutes on.
func spoilt(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("a search is one goroutine: the race detector has nothing to find, and takes ten times as long")
	}
}

// TestExplore searches the configurations: no invariant is broken in any, and a dial
// that begins in any state comes to an end.
func TestExplore(t *testing.T) {
	seen, missed := Seen{}, 0
	for _, s := range searches {
		if !s.long {
			missed++
		}
		t.Run(s.name, func(t *testing.T) {
			if s.long && !long() {
				t.Skip("takes long: FASTBIND_LONG=1")
			}
			spoilt(t)
			c := s.config
			c.Warm, c.Backlog = true, 1
			began := time.Now()
			r := Run(c)
			show(t, c, r, began)
			if !s.long {
				missed--
			}
			if !r.Fixed {
				t.Error("it has not come to an end")
			}
			for step, outcomes := range r.Seen {
				if seen[step] == nil {
					seen[step] = map[launch.Outcome]int{}
				}
				for o, n := range outcomes {
					seen[step][o] += n
				}
			}
		})
	}
	if t.Failed() || missed > 0 {
		return // -run has chosen some
	}
	// It has seen something: each of these turns of the protocol was taken.
	for step, outcomes := range map[launch.Step][]launch.Outcome{
		launch.StepConnect:    {launch.OK, launch.Absent, launch.Refused, launch.Busy},
		launch.StepLock:       {launch.OK, launch.Held},
		launch.StepVerifyDir:  {launch.OK, launch.Moved},
		launch.StepReconnect:  {launch.OK, launch.Absent, launch.Refused, launch.Busy},
		launch.StepProbeKeep:  {launch.OK, launch.Absent, launch.Refused, launch.Busy},
		launch.StepRestore:    {launch.OK},
		launch.StepSucceed:    {launch.OK, launch.Absent},
		launch.StepOwn:        {launch.OK, launch.InUse, launch.Moved},
		launch.StepAdmit:      {launch.OK, launch.Forbidden},
		launch.StepPrepare:    {launch.OK, launch.Moved},
		launch.StepBind:       {launch.OK, launch.Moved},
		launch.StepVerifyBind: {launch.OK, launch.Moved},
		launch.StepKeep:       {launch.OK, launch.Moved},
		launch.StepCurrent:    {launch.OK, launch.Moved},
		launch.StepSpawn:      {launch.OK},
	} {
		for _, o := range outcomes {
			if seen[step][o] == 0 {
				t.Errorf("outcome %d of %q was never seen", o, step)
			}
		}
	}
}

// TestExploreEverything: the whole configuration, as far as it goes.
func TestExploreEverything(t *testing.T) {
	spoilt(t)
	c := everything
	c.Warm, c.Backlog, c.MaxStates = true, 1, 300_000
	seed, walks := uint64(1), 300
	if long() {
		c.MaxStates, seed, walks = 5_000_000, uint64(time.Now().UnixNano()), 10_000
	}
	began := time.Now()
	r := Run(c)
	show(t, c, r, began)
	began = time.Now()
	t.Logf("seed %d", seed)
	r = Walk(c, seed, walks)
	t.Logf("%d random walks:", walks)
	show(t, c, r, began)
}

func show(t *testing.T, c Config, r Report, began time.Time) {
	t.Helper()
	until := "all there are"
	if !r.Fixed {
		until = "not all"
	}
	t.Logf("%d states, %s, %d deep, in %v: %+v", r.States, until, r.Depth, time.Since(began).Round(time.Millisecond), c)
	if r.Outcome != (Outcome{}) {
		t.Errorf("%s: %s\n%s", r.Outcome.Invariant, r.Outcome.How, strings.Join(r.Trace, "\n"))
	}
}

// TestFused: steps that are taken in one lead to the same ends as one by one.
func TestFused(t *testing.T) {
	spoilt(t)
	for _, c := range []Config{
		{Clients: 2, NoUpgrade: true, Idles: 1, Kills: 1},
		{Clients: 1, Idles: 1, Kills: 1},
		{Clients: 1, NoUpgrade: true, Deletions: 1},
		{Clients: 1, NoUpgrade: true, Idles: 1, Brokers: 1, Kills: 1},
	} {
		c.Warm, c.Backlog = true, 1
		ends := func(fused bool) (ends []string, states int) {
			r := realRules()
			r.fused = fused
			x := newExplorer(c, r)
			x.onQuiet = func(s *state) {
				// Who finished first does not matter.
				ends = append(ends, string(s.bytes()))
			}
			states = x.search().States
			slices.Sort(ends)
			return ends, states
		}
		fused, few := ends(true)
		single, many := ends(false)
		if len(fused) < 2 || !slices.Equal(fused, single) {
			t.Errorf("%+v: %d ends fused, %d one by one", c, len(fused), len(single))
		}
		if few >= many {
			t.Errorf("%+v: %d states fused, %d one by one", c, few, many)
		}
	}
}

// TestCanon: a state is the same whatever its clients are called, and has one form.
func TestCanon(t *testing.T) {
	c := Config{Clients: 3, Idles: 1, Kills: 1, Deletions: 1, Warm: true, Backlog: 2, MaxStates: 20_000}
	x := newExplorer(c, realRules())
	orders := [][numClients]int{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	n := 0
	x.onAdd = func(s *state) {
		n++
		again := *s
		if again.canon(true); again != *s {
			t.Fatalf("another form of\n%+v\nis\n%+v", *s, again)
		}
		for _, o := range orders {
			other := *s
			other.permute(o)
			if other.canon(true); other != *s {
				t.Fatalf("renamed by %v\n%+v\nis\n%+v", o, *s, other)
			}
		}
	}
	if x.search(); n < c.MaxStates {
		t.Errorf("only %d states", n)
	}
}

// TestWalkFinds: walks find what a search finds, if it is not too rare.
func TestWalkFinds(t *testing.T) {
	r := realRules()
	mutants[0].mutate(r)
	if report := walk(mutants[0].config, r, 1, 1000); report.Outcome.Invariant != mutants[0].invariant {
		t.Errorf("%+v after %d states", report.Outcome, report.States)
	}
}

func Example() {
	r := Run(Config{Clients: 2, NoUpgrade: true, Backlog: 1})
	fmt.Println(r.States, r.Fixed, r.Outcome)
	// Output:
	// 143 true { }
}
