package launch

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/record"
)

func TestGenerationNames(t *testing.T) {
	for _, n := range []uint64{1, 9, 10, 4711, 1<<64 - 1} {
		name := genName(n, "0123456789abcdef", 41*time.Hour, "01234567")
		if got := genNumber(name); got != n {
			t.Errorf("genNumber(%q) = %d", name, got)
		}
		if got := genIdentity(name); got != "0123456789abcdef" {
			t.Errorf("genIdentity(%q) = %q", name, got)
		}
	}
	// Whatever else lies in the directory is no generation.
	for _, name := range []string{"", ".", "..", "1", "1.", ".x", "0.x", "01.x", "-1.x", "+1.x", " 1.x", "1 .x", "1_0.x", "0x1.x",
		"sock", "keep", "current", "new", "18446744073709551616.x", "1e3.x"} {
		if got := genNumber(name); got != 0 {
			t.Errorf("genNumber(%q) = %d, not a generation's name", name, got)
		}
	}
	if got := genIdentity("1.a.b"); got != "a" {
		t.Errorf("identity %q", got)
	}
}

// failedAt is the record of an SDK backend that failed at a time.
func failedAt(at time.Duration, edit ...func(*record.Record)) record.Record {
	r := record.Record{PID: 7, Backend: true, Phase: record.Failed, PhaseAt: at,
		Failure: &record.Failure{Stage: StageLoad, Cause: "broken", Status: 1, At: at}}
	for _, f := range edit {
		f(&r)
	}
	return r
}

const second = time.Second

// TestCounted: what spends the budget is a daemon that died by itself before it
// was ready.
func TestCounted(t *testing.T) {
	const now = 1000 * second
	failure := func(f func(*record.Failure)) func(*record.Record) {
		return func(r *record.Record) { f(r.Failure) }
	}
	stage := func(s string) func(*record.Record) { return failure(func(f *record.Failure) { f.Stage = s }) }
	signalled := func(s syscall.Signal) func(*record.Record) {
		return failure(func(f *record.Failure) { f.Status, f.Signal = -1, s.String() })
	}
	unknown := failure(func(f *record.Failure) { f.Unknown, f.Status = true, -1 })
	foreign := func(r *record.Record) { r.Backend, r.Definition.Foreign = false, true }

	for name, c := range map[string]struct {
		r    record.Record
		want bool
	}{
		"just now":            {failedAt(now), true},
		"at the window's end": {failedAt(now - 30*second), true},
		"before the window":   {failedAt(now - 30*second - 1), false},
		"in the future":       {failedAt(now + 1), false},
		"no failure":          {record.Record{PID: 7, Phase: record.Gone, PhaseAt: now}, false},
		"was ready":           {failedAt(now, func(r *record.Record) { r.WasReady = true }), false},
		"reset":               {failedAt(now, func(r *record.Record) { r.Reset = true }), false},
		"stopped":             {failedAt(now, func(r *record.Record) { r.Stopped = true }), false},
		"adopt":               {failedAt(now, stage(StageAdopt)), true},
		"bind":                {failedAt(now, stage(StageBind)), true},
		"bound":               {failedAt(now, stage(StageBound)), true},
		"serve":               {failedAt(now, stage(StageServe)), true},
		"prepare":             {failedAt(now, stage(StagePrepare)), false},
		"spawn":               {failedAt(now, stage(StageSpawn)), false},
		"executable":          {failedAt(now, stage(StageExecutable)), false},
		"a stage of later":    {failedAt(now, stage("warp")), false},
		"SIGKILL":             {failedAt(now, signalled(syscall.SIGKILL)), false},
		"SIGTERM":             {failedAt(now, signalled(syscall.SIGTERM)), false},
		"SIGINT":              {failedAt(now, signalled(syscall.SIGINT)), false},
		"SIGHUP":              {failedAt(now, signalled(syscall.SIGHUP)), false},
		"SIGSEGV":             {failedAt(now, signalled(syscall.SIGSEGV)), true},
		"SIGABRT":             {failedAt(now, signalled(syscall.SIGABRT)), true},
		"unknown backend":     {failedAt(now, unknown), true},
		"unknown foreign":     {failedAt(now, unknown, foreign), false},
		"hung":                {failedAt(now, failure(func(f *record.Failure) { f.Kind, f.Status = KindHung, 2 })), false},
		"known foreign":       {failedAt(now, foreign, stage(StageServe)), true},
	} {
		if got := counted(c.r, now); got != c.want {
			t.Errorf("%s: counted %v", name, got)
		}
	}
}

// TestSettleVerdict: what is said of a generation that died in a phase without
// saying why.
func TestSettleVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		r     record.Record
		stage string // "": nothing is written
	}{
		"never began":                 {record.Record{Phase: record.Launching}, ""},
		"launching":                   {record.Record{PID: 7, Phase: record.Launching}, StageAdopt},
		"launching backend":           {record.Record{PID: 7, Backend: true, Phase: record.Launching}, StageAdopt},
		"bound backend":               {record.Record{PID: 7, Backend: true, Phase: record.Bound}, StageAdopt},
		"bound foreign":               {foreign(record.Record{PID: 7, Phase: record.Bound}), StageServe},
		"loading":                     {record.Record{PID: 7, Backend: true, Phase: record.Loading}, StageLoad},
		"loading again after serving": {record.Record{PID: 7, Backend: true, Phase: record.Loading, WasReady: true}, StageServe},
		"ready":                       {record.Record{PID: 7, Backend: true, Phase: record.Ready, WasReady: true}, StageServe},
		"draining":                    {record.Record{PID: 7, Backend: true, Phase: record.Draining}, StageServe},
		"gone":                        {record.Record{PID: 7, Backend: true, Phase: record.Gone}, ""},
		"stopped":                     {record.Record{PID: 7, Backend: true, Phase: record.Loading, Stopped: true}, ""},
		"failed":                      {failedAt(second), ""},
		"a phase of later":            {record.Record{PID: 7, Backend: true, Phase: "dreaming"}, StageServe},
	} {
		c.r.LaunchedBoot = 5 * second
		c.r.Launched = time.Unix(1700000000, 0)
		v := settleVerdict(c.r)
		if c.stage == "" {
			if v != nil {
				t.Errorf("%s: %+v", name, v)
			}
			continue
		}
		// Its time is that of the launch: no dial that began later fails for it.
		want := &record.Failure{Stage: c.stage, Cause: "the process is gone", Status: -1, Unknown: true,
			At: 5 * second, Time: time.Unix(1700000000, 0)}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func foreign(r record.Record) record.Record {
	r.Definition.Foreign = true
	return r
}

func entry(number uint64, r record.Record) Entry {
	return Entry{Name: genName(number, "id", time.Second, "build"), Number: number, Record: r}
}

func numbers(entries []Entry) (n []uint64) {
	for _, e := range entries {
		n = append(n, e.Number)
	}
	return n
}

// TestAdmitBudget: three launches that died before they were ready within 30 s
// exhaust the budget, until the oldest of them is that long ago.
func TestAdmitBudget(t *testing.T) {
	ready := failedAt(995*second, func(r *record.Record) { r.WasReady = true })
	for name, c := range map[string]struct {
		ats     []time.Duration // of failures, the newest first
		more    []Entry
		now     time.Duration
		allowed bool
		retry   time.Duration
	}{
		"none":                     {now: 1000 * second, allowed: true},
		"two":                      {ats: []time.Duration{999 * second, 998 * second}, now: 1000 * second, allowed: true},
		"three":                    {ats: []time.Duration{999 * second, 998 * second, 980 * second}, now: 1000 * second, retry: 1010 * second},
		"three, a moment before":   {ats: []time.Duration{999 * second, 998 * second, 980 * second}, now: 1010*second - 1, retry: 1010 * second},
		"three, at the retry time": {ats: []time.Duration{999 * second, 998 * second, 980 * second}, now: 1010 * second, allowed: true},
		"three, one long ago":      {ats: []time.Duration{999 * second, 998 * second, 969 * second}, now: 1000 * second, allowed: true},
		"four":                     {ats: []time.Duration{999 * second, 998 * second, 990 * second, 980 * second}, now: 1000 * second, retry: 1020 * second},
		"two and one that served":  {ats: []time.Duration{999 * second, 998 * second}, more: []Entry{entry(90, ready)}, now: 1000 * second, allowed: true},
	} {
		var entries []Entry
		for i, at := range c.ats {
			entries = append(entries, entry(uint64(100-i), failedAt(at)))
		}
		entries = append(entries, c.more...)
		a := admit(entries, "", c.now, c.now, false)
		if allowed := a.retry <= c.now; allowed != c.allowed || !allowed && a.retry != c.retry {
			t.Errorf("%s: retry %v at %v", name, a.retry, c.now)
		}
	}
}

// TestAdmitFailure: a launch that failed after the dial began, as far as that is
// certain, has failed for this dial too.
func TestAdmitFailure(t *testing.T) {
	const since, now = 100 * second, 101 * second
	unknown := func(r *record.Record) { r.Failure.Unknown = true }
	for name, c := range map[string]struct {
		entries []Entry
		want    uint64
	}{
		"nothing":     {nil, 0},
		"before":      {[]Entry{entry(1, failedAt(since-1))}, 0},
		"as it began": {[]Entry{entry(1, failedAt(since))}, 0},
		"after":       {[]Entry{entry(1, failedAt(since+1))}, 1},
		"unknown":     {[]Entry{entry(1, failedAt(since+1, unknown))}, 0},
		"had served":  {[]Entry{entry(1, failedAt(since+1, func(r *record.Record) { r.WasReady = true }))}, 0},
		"foreign, ran before": {[]Entry{entry(1, failedAt(since+1, func(r *record.Record) {
			r.Backend, r.Failure.Stage, r.LaunchedBoot = false, StageServe, since-1
		}))}, 0},
		"foreign, launched for us": {[]Entry{entry(1, failedAt(since+1, func(r *record.Record) {
			r.Backend, r.Failure.Stage, r.LaunchedBoot = false, StageServe, since+1
		}))}, 1},
		"denied": {[]Entry{entry(1, failedAt(since+1, func(r *record.Record) {
			r.PID, r.Backend, r.Failure.Stage, r.LaunchedBoot = 0, false, StageConnect, since+1
		}))}, 0}, // of whom a broker left in a queue
		"the newest":     {[]Entry{entry(3, failedAt(since+2)), entry(2, failedAt(since+1))}, 3},
		"one was before": {[]Entry{entry(3, failedAt(since-1)), entry(2, failedAt(since+1))}, 2},
		"died unsaid":    {[]Entry{entry(1, record.Record{PID: 7, Backend: true, Phase: record.Loading, LaunchedBoot: since + 1})}, 0},
	} {
		a := admit(c.entries, "", since, now, false)
		for _, e := range c.entries {
			if e.Number == c.want && (a.failure == nil || *a.failure.Failure != *e.Record.Failure) {
				t.Errorf("%s: failure %+v", name, a.failure)
			}
		}
		if c.want == 0 && a.failure != nil {
			t.Errorf("%s: failure %+v", name, a.failure.Failure)
		}
	}
	alive := entry(1, failedAt(since+1))
	alive.Alive = true
	if a := admit([]Entry{alive}, "", since, now, false); a.failure != nil {
		t.Error("a generation that lives has not failed this dial")
	}
}

// TestAdmitHousekeeping: numbering, what is settled and what is removed.
func TestAdmitHousekeeping(t *testing.T) {
	const now = 1000 * second
	lives := func(e Entry) Entry { e.Alive = true; return e }
	unreadable := func(e Entry) Entry { e.Err = syscall.EIO; return e }
	unsaid := record.Record{PID: 7, Backend: true, Phase: record.Loading, LaunchedBoot: now - second}
	gone := record.Record{PID: 7, Backend: true, Phase: record.Gone, PhaseAt: now}

	for name, c := range map[string]struct {
		entries        []Entry
		current        string
		next           uint64
		settle, remove []uint64
	}{
		"first":                    {next: 1},
		"after current":            {current: "8.id.rs.build", next: 9},
		"after the highest":        {entries: []Entry{entry(11, gone)}, current: "8.id.rs.build", next: 12, remove: []uint64{11}},
		"current is no generation": {current: "nonsense", next: 1},
		"current is kept":          {entries: []Entry{entry(8, gone)}, current: "8.id.rs.build", next: 9},
		"living is kept":           {entries: []Entry{lives(entry(8, gone)), lives(entry(7, unsaid))}, next: 9},
		"recent failure is kept":   {entries: []Entry{entry(8, failedAt(now-30*second+1))}, next: 9},
		"old failure is removed":   {entries: []Entry{entry(8, failedAt(now-30*second))}, next: 9, remove: []uint64{8}},
		"old failure of current":   {entries: []Entry{entry(8, failedAt(now-300*second))}, current: "8.id.rs.build", next: 9},
		"died unsaid":              {entries: []Entry{entry(8, unsaid)}, next: 9, settle: []uint64{8}},
		"died unsaid, current":     {entries: []Entry{entry(8, unsaid)}, current: "8.id.rs.build", next: 9, settle: []uint64{8}},
		"never spawned":            {entries: []Entry{entry(8, record.Record{Phase: record.Launching})}, next: 9, remove: []uint64{8}},
		"no readable record":       {entries: []Entry{unreadable(entry(8, record.Record{}))}, next: 9, remove: []uint64{8}},
		// Half a record is no ground for a verdict that is written into it.
		"half a record":     {entries: []Entry{unreadable(entry(8, unsaid))}, next: 9, remove: []uint64{8}},
		"removed and kept":  {entries: []Entry{entry(9, gone), lives(entry(8, gone)), entry(7, failedAt(now)), entry(6, gone)}, current: "9.id.rs.build", next: 10, remove: []uint64{6}},
		"a foreign one too": {entries: []Entry{entry(8, record.Record{PID: 7, Phase: record.Bound, LaunchedBoot: now})}, next: 9, settle: []uint64{8}},
	} {
		a := admit(c.entries, c.current, now, now, false)
		if a.next != c.next {
			t.Errorf("%s: next %d, want %d", name, a.next, c.next)
		}
		if got := numbers(a.settle); !slices.Equal(got, c.settle) {
			t.Errorf("%s: settles %v, want %v", name, got, c.settle)
		}
		if got := numbers(a.remove); !slices.Equal(got, c.remove) {
			t.Errorf("%s: removes %v, want %v", name, got, c.remove)
		}
	}
}

// TestAdmitProperties holds admit to what it must never do, for whatever is on
// disk.
func TestAdmitProperties(t *testing.T) {
	stages := []string{StageAdopt, StageBind, StageBound, StageLoad, StageServe, StagePrepare, StageSpawn}
	phases := []record.Phase{record.Launching, record.Bound, record.Loading, record.Ready, record.Draining, record.Gone, record.Failed, ""}
	sec := rapid.Map(rapid.IntRange(0, 100), func(n int) time.Duration { return time.Duration(n) * second })
	rapid.Check(t, func(t *rapid.T) {
		now := sec.Draw(t, "now")
		since := min(now, sec.Draw(t, "since"))
		n := rapid.IntRange(0, 8).Draw(t, "generations")
		var entries []Entry
		for i := range n {
			p := rapid.SampledFrom(phases).Draw(t, "phase")
			r := record.Record{
				PID: rapid.SampledFrom([]int{0, 7}).Draw(t, "pid"), Phase: p,
				Backend: rapid.Bool().Draw(t, "backend"), WasReady: p == record.Ready || rapid.Bool().Draw(t, "was ready"),
				Reset: rapid.IntRange(0, 9).Draw(t, "reset") == 0, LaunchedBoot: min(now, sec.Draw(t, "launched")),
			}
			r.PhaseAt = r.LaunchedBoot
			if p == record.Failed {
				at := min(now, sec.Draw(t, "failed"))
				r.PhaseAt = at
				r.Failure = &record.Failure{Stage: rapid.SampledFrom(stages).Draw(t, "stage"), At: at, Status: rapid.IntRange(-1, 2).Draw(t, "status"),
					Signal: rapid.SampledFrom([]string{"", "", syscall.SIGKILL.String(), syscall.SIGSEGV.String()}).Draw(t, "signal"), Unknown: rapid.Bool().Draw(t, "unknown")}
			}
			e := entry(uint64(20-i*2), r)
			e.Alive = rapid.IntRange(0, 3).Draw(t, "alive") == 0
			entries = append(entries, e)
		}
		currentName := rapid.SampledFrom([]string{"", "20.id.rs.build", "14.id.rs.build", "99.id.rs.build"}).Draw(t, "current")
		before := cmp.Diff(entries, nil)
		a := admit(entries, currentName, since, now, false)
		if cmp.Diff(entries, nil) != before {
			t.Fatal("admit has changed what it was given")
		}

		if a.next <= genNumber(currentName) || a.next == 0 {
			t.Fatalf("next %d after current %q", a.next, currentName)
		}
		for _, e := range entries {
			if a.next <= e.Number {
				t.Fatalf("next %d although %d exists", a.next, e.Number)
			}
		}
		for _, e := range append(slices.Clone(a.settle), a.remove...) {
			if e.Alive {
				t.Fatalf("%d lives", e.Number)
			}
		}
		for _, e := range a.settle {
			if e.Record.Phase.Final() || e.Record.PID == 0 {
				t.Fatalf("%d in phase %q gets a second verdict", e.Number, e.Record.Phase)
			}
		}
		for _, e := range a.remove {
			if e.Name == currentName {
				t.Fatal("removes what current names")
			}
			if f := e.Record.Failure; f != nil && counted(e.Record, now) && f.At+budgetWindow > now {
				t.Fatalf("removes a failure of the budget, %v old", now-f.At)
			}
		}
		if f := a.failure; f != nil && (f.Failure.Unknown || f.Failure.At <= since) {
			t.Fatalf("a failure at %v, unknown %v, is not of the dial at %v", f.Failure.At, f.Failure.Unknown, since)
		}
		for _, r := range a.spent {
			if r.WasReady || r.Reset || now-r.Failure.At > budgetWindow || r.Failure.Signal == syscall.SIGKILL.String() {
				t.Fatalf("spent: %+v", r)
			}
		}
		if (a.retry != 0) != (len(a.spent) >= budgetFailures) {
			t.Fatalf("retry %v with %d spent", a.retry, len(a.spent))
		}
		if a.retry > now+budgetWindow {
			t.Fatalf("retry in %v", a.retry-now)
		}
		// Nothing fails any more: after the window every launch is admitted.
		later := now + budgetWindow + 1
		if b := admit(entries, currentName, later, later, false); b.retry > later || b.failure != nil {
			t.Fatalf("after the window: retry %v, failure %v", b.retry, b.failure)
		}
		// Reset frees the budget.
		for i := range entries {
			entries[i].Record.Reset = true
		}
		if b := admit(entries, currentName, now, now, false); len(b.spent) != 0 {
			t.Fatalf("%d spent after a reset", len(b.spent))
		}
	})
}

// TestAdmitAfterReboot: a home directory outlives the boot, and with it the
// boot-time clock of what failed there (R9: changed boot id, next dial works).
func TestAdmitAfterReboot(t *testing.T) {
	const now = 60 * second // a minute after the boot
	e := entry(8, failedAt(240*time.Hour, func(r *record.Record) { r.BootID = "another" }))
	for _, currentName := range []string{"", e.Name} {
		if a := admit([]Entry{e}, currentName, now-second, now, false); a.failure != nil || a.retry > now {
			t.Errorf("current %q: a failure of the boot before refuses the dial: %+v", currentName, a.failure.Failure)
		}
	}
}

// FuzzGenerationName: of any name in a service's directory the digests are parts,
// and one that is made is read as what it was made of.
func FuzzGenerationName(f *testing.F) {
	f.Add("7.8beaf0dfa4d43570.5t9gk.1f09ac", uint64(7), int64(41))
	f.Add("7.8beaf0dfa4d43570", uint64(1<<63), int64(-1))
	f.Add("..", uint64(0), int64(0))
	f.Add("1.x.y.z.later", uint64(1), int64(1<<62))
	f.Fuzz(func(t *testing.T, name string, number uint64, at int64) {
		if n := genNumber(name); n != 0 && !strings.HasPrefix(name, strconv.FormatUint(n, 10)+".") {
			t.Fatalf("%q is generation %d", name, n)
		}
		for _, part := range []string{genIdentity(name), genBuild(name)} {
			if !strings.Contains(name, part) || strings.Contains(part, ".") {
				t.Fatalf("%q has the digest %q", name, part)
			}
		}
		clean := func(s string) string { return strings.NewReplacer(".", "_", "/", "_").Replace(s) }
		made := genName(max(number, 1), clean(name), time.Duration(at), clean(name))
		if genNumber(made) != max(number, 1) || genIdentity(made) != clean(name) || genBuild(made) != clean(name) {
			t.Fatalf("%q: %d, %q, %q", made, genNumber(made), genIdentity(made), genBuild(made))
		}
	})
}

// TestAdmitTheDying: a generation that has said why it failed spends the budget before
// its process is gone; its directory stays till then.
func TestAdmitTheDying(t *testing.T) {
	const now = 1000 * second
	entry := func(n uint64, alive bool, r record.Record) Entry {
		return Entry{Number: n, Name: genName(n, "", now, "b"), Alive: alive, Record: r}
	}
	succeeds := func(r *record.Record) { r.Succeeds = "1.x" }
	entries := []Entry{entry(4, true, failedAt(now-second, succeeds)), entry(3, false, failedAt(now-2*second, succeeds)),
		entry(2, false, failedAt(now-3*second, succeeds)), entry(1, true, record.Record{Phase: record.Ready})}
	a := admit(entries, entries[3].Name, now, now, true)
	if len(a.spent) != 3 || a.retry != now-3*second+budgetWindow {
		t.Errorf("spent %d, retry at %v", len(a.spent), a.retry)
	}
	for _, e := range append(a.remove, a.ended...) {
		if e.Alive {
			t.Errorf("generation %d lives, and is done away with", e.Number)
		}
	}
}
