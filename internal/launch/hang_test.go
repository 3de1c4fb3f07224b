package launch

import (
	"slices"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/record"
)

// TestDecideHang: R25, R26. What is done about a generation that leaves a client
// unanswered, from what was seen of it.
func TestDecideHang(t *testing.T) {
	// The one that everything below differs from: a backend that runs, says nothing
	// for long enough and can be killed.
	hung := hangSeen{alive: true, handle: true, control: controlSilent, silence: hangConfirm,
		policy: definition.HangReplace, reported: -1}
	with := func(edit ...func(*hangSeen)) hangSeen {
		o := hung
		for _, f := range edit {
			f(&o)
		}
		return o
	}
	stopped := func(o *hangSeen) { o.stopped, o.silence = true, 0 }
	report := func(o *hangSeen) { o.policy = definition.HangReport }
	reported := func(ago time.Duration) func(*hangSeen) { return func(o *hangSeen) { o.reported = ago } }
	control := func(r controlReply) func(*hangSeen) { return func(o *hangSeen) { o.control = r } }
	foreign := func(o *hangSeen) { o.foreign = true }
	dead := func(o *hangSeen) { o.alive = false }
	adopting := func(o *hangSeen) { o.adopting = true }
	traced := func(o *hangSeen) { o.traced = true }
	handleless := func(o *hangSeen) { o.handle = false }
	soon := func(o *hangSeen) { o.silence = hangConfirm - 1 }

	for name, c := range map[string]struct {
		seen hangSeen
		want hangAct
	}{
		"silent for long enough":           {with(), hangReplace},
		"silent for less":                  {with(soon), hangAskOn},
		"silent for less, report":          {with(soon, report), hangAskOn},
		"busy":                             {with(control(controlAnswered)), hangLeave},
		"control endpoint removed":         {with(control(controlUnasked)), hangLeave},
		"has time to adopt":                {with(adopting), hangLeave},
		"dead":                             {with(dead), hangLeave},
		"dead and stopped":                 {with(dead, stopped), hangLeave},
		"foreign":                          {with(foreign), hangLeave},
		"foreign and stopped":              {with(foreign, stopped), hangLeave},
		"stopped":                          {with(stopped), hangReplace},
		"stopped before it adopted":        {with(stopped, adopting), hangReplace},
		"stopped, was reported":            {with(stopped, reported(0)), hangReplace},
		"report":                           {with(report), hangReport},
		"report, stopped":                  {with(report, stopped), hangReport},
		"report, reported a moment ago":    {with(report, reported(hangEvery-1)), hangKnown},
		"report, reported long ago":        {with(report, reported(hangEvery)), hangReport},
		"report, busy":                     {with(report, control(controlAnswered)), hangLeave},
		"debugged":                         {with(traced), hangReport},
		"debugged, reported":               {with(traced, reported(time.Second)), hangKnown},
		"debugged, busy":                   {with(traced, control(controlAnswered)), hangLeave},
		"of another pid namespace":         {with(handleless), hangReport},
		"of another namespace, reported":   {with(handleless, reported(time.Second)), hangKnown},
		"policy of a later release":        {with(func(o *hangSeen) { o.policy = "prayer" }), hangReport},
		"policy of a later release, known": {with(func(o *hangSeen) { o.policy = "prayer" }, reported(0)), hangKnown},
	} {
		if got := decideHang(c.seen); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestHungFailsNoDial: a generation that was killed to be replaced is not the
// failure of a dial that the next one is launched for.
func TestHungFailsNoDial(t *testing.T) {
	r := failedAt(10 * second)
	if !failsDial(r, 9*second) {
		t.Fatal("a launch that failed after the dial began does not fail it")
	}
	r.Failure.Kind = KindHung
	if failsDial(r, 9*second) {
		t.Error("a generation that was killed for hanging fails a dial")
	}
	if f := RecordedFault(r); f.Class != Hung {
		t.Errorf("its fault is %v", f)
	}
}

// TestHangGeneration: which generation a silent connection was to.
func TestHangGeneration(t *testing.T) {
	entry := func(number uint64, alive bool, pid, launcher int) Entry {
		return Entry{Name: genName(number, "x", 0, "build"), Number: number, Alive: alive, Record: record.Record{PID: pid, Launcher: launcher}}
	}
	list := []Entry{entry(4, true, 40, 7), entry(3, false, 30, 7), entry(2, true, 20, 9), entry(1, false, 10, 9)}
	// Dead ones, 50 and 60, whose listener a living one has: from 50, over 60 that
	// died as well, or beside another successor that came to nothing.
	succeeds := func(e Entry, old uint64) Entry {
		e.Record.Succeeds = genName(old, "x", 0, "build")
		return e
	}
	list = slices.Concat([]Entry{succeeds(entry(9, true, 90, 11), 6), succeeds(entry(8, false, 80, 11), 5), succeeds(entry(6, false, 60, 12), 5),
		entry(5, false, 50, 13)}, list, []Entry{succeeds(entry(0, true, 1, 1), 0)})
	for name, c := range map[string]struct{ peer, want int }{
		"the daemon":                        {20, 2},
		"its launcher, before it adopted":   {9, 2},
		"a launcher of several":             {7, 4},
		"a dead daemon":                     {30, 0},
		"a stranger":                        {99, 0},
		"unknown, and nothing is current":   {0, 0},
		"a daemon that nobody has launched": {10, 0},
		"one that died, and its successor":  {60, 9},
		"a successor's successor":           {50, 9},
		"the launcher of one that died":     {13, 9},
		"a successor that came to nothing":  {80, 0},
	} {
		got := 0
		if e := (Silence{Peer: c.peer}).generation(t.TempDir(), list); e != nil {
			got = int(e.Number)
		}
		if got != c.want {
			t.Errorf("%s: generation %d, want %d", name, got, c.want)
		}
	}
}
