package supervise

import (
	"errors"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"pgregory.net/rapid"
)

func TestPolicyDefaults(t *testing.T) {
	p := Policy{}.Complete()
	if err := p.Check(); err != nil {
		t.Errorf("the default policy: %v", err)
	}
	want := Policy{
		Restart: RestartOnDemand, BackoffMin: 100 * time.Millisecond, BackoffMax: 30 * time.Second, BackoffFactor: 2,
		BackoffReset: 10 * time.Second, HangAfter: 30 * time.Second, OnHang: definition.HangReplace, StopWithin: 10 * time.Second,
	}
	if p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	if p := (Policy{BackoffMin: time.Minute}).Complete(); p.Check() != nil {
		t.Errorf("a backoff that begins above the usual end: %v", p.Check())
	}
}

func TestPolicyCheck(t *testing.T) {
	for _, c := range []struct{ field, value, reason string }{
		{"restart", "sometimes", `use "on-demand", "on-failure" or "always"`},
		{"backoff_min", "9ms", "use 10ms to 1h"},
		{"backoff_min", "61m", "use 10ms to 1h"},
		{"backoff_min", "45s", "shorter than backoff_min"},
		{"backoff_max", "2h", "use 10ms to 1h"},
		{"backoff_max", "soon", "not a duration"},
		{"backoff_factor", "0.5", "use 1 to 10"},
		{"backoff_factor", "NaN", "use 1 to 10"},
		{"backoff_factor", "11", "use 1 to 10"},
		{"backoff_factor", "two", "not a number"},
		{"backoff_reset", "1ms", "use 100ms to 24h"},
		{"ready_within", "-1s", "use 1ms to 24h, or leave it out"},
		{"watchdog", "1ms", "use 100ms to 1h, or leave it out"},
		{"watchdog", "", "not a duration"},
	} {
		p := Policy{BackoffMax: 30 * time.Second}.Complete()
		err := p.Set(c.field, c.value)
		if err == nil {
			err = p.Check()
		}
		var invalid *definition.Invalid
		if !errors.As(err, &invalid) || !strings.Contains(invalid.Reason, c.reason) || !strings.HasPrefix(invalid.Field, "backoff_m") && invalid.Field != c.field {
			t.Errorf("%s = %q: %v", c.field, c.value, err)
		}
	}
	for _, change := range []func(*Policy){
		func(p *Policy) { p.HangAfter = 0 }, func(p *Policy) { p.StopWithin = 2 * time.Hour }, func(p *Policy) { p.OnHang = "wait" },
	} {
		p := Policy{}.Complete()
		change(&p)
		if p.Check() == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
	var p Policy
	if err := p.Set("command", "x"); err != definition.ErrUnknownKey {
		t.Errorf("a key of somebody else: %v", err)
	}
}

// TestPolicyFields: Set is the inverse of Fields.
func TestPolicyFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := func(name string) time.Duration {
			return time.Duration(rapid.IntRange(0, 1_000_000).Draw(t, name)) * time.Millisecond
		}
		p := Policy{
			Restart:    rapid.SampledFrom([]Restart{"", RestartOnDemand, RestartOnFailure, RestartAlways}).Draw(t, "restart"),
			BackoffMin: d("min"), BackoffMax: d("max"), BackoffFactor: rapid.Float64Range(0, 10).Draw(t, "factor"),
			BackoffReset: d("reset"), ReadyWithin: d("ready"), Watchdog: d("watchdog"),
		}
		var q Policy
		for _, f := range p.Fields() {
			if err := q.Set(f.Key, f.Value); err != nil {
				t.Fatal(err)
			}
		}
		if p != q {
			t.Fatalf("%+v comes back as %+v", p, q)
		}
	})
}

func TestBackoff(t *testing.T) {
	p := Policy{}.Complete()
	for n, want := range []time.Duration{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		want *= time.Millisecond
		least, most := p.Backoff(n, 0), p.Backoff(n, math.Nextafter(1, 0))
		if least != want/2 || most > want || most < want-time.Microsecond {
			t.Errorf("after %d: %v to %v, want half of %v to all of it", n, least, most, want)
		}
	}
	p.BackoffFactor = 1
	if got := p.Backoff(1000, 0.5); got != 75*time.Millisecond {
		t.Errorf("a backoff that does not grow: %v", got)
	}
	// Whatever is accepted never makes a busy loop, nor waits longer than it says.
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{
			BackoffMin:    time.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(time.Hour)).Draw(t, "min")),
			BackoffMax:    time.Duration(rapid.Int64Range(int64(10*time.Millisecond), int64(time.Hour)).Draw(t, "max")),
			BackoffFactor: rapid.Float64Range(1, 10).Draw(t, "factor"),
		}.Complete()
		if p.Check() != nil {
			return
		}
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		j := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "jitter")
		if got := p.Backoff(n, j); got < p.BackoffMin/2 || got > p.BackoffMax || p.Backoff(n+1, j) < got {
			t.Fatalf("%+v after %d, %v: %v", p, n, j, got)
		}
	})
}

// TestBudgetIsTheLaunchProtocols: both refuse the fourth launch, and both until the
// third last failure is 30 s ago.
func TestBudgetIsTheLaunchProtocols(t *testing.T) {
	const at = time.Hour
	for n := range BudgetFailures + 2 {
		for _, later := range []time.Duration{10, BudgetWindow - 1, BudgetWindow, BudgetWindow + 1} {
			var entries []launch.Entry
			s := step{at: at}
			for i := range n {
				failed := at + time.Duration(i)
				entries = append([]launch.Entry{{Number: uint64(i + 1), Record: record.Record{Phase: record.Failed,
					Failure: &record.Failure{Stage: launch.StageLoad, Status: 1, At: failed}}}}, entries...)
				s.at = failed
				s.fail("")
			}
			oldest := at + time.Duration(max(n-BudgetFailures, 0))
			s.at = oldest + later
			o, _ := launch.Admits(entries, "", s.at+time.Hour, s.at, false)
			if spent := s.spent() != 0; spent != (o == launch.Forbidden) {
				t.Errorf("%d failures, %v later: spent %v, the launch protocol says %v", n, later, spent, o)
			}
		}
	}
}

func TestEndOf(t *testing.T) {
	exit := func(code int, signal syscall.Signal) proc.Exit {
		return proc.Exit{Known: true, Code: code, Signal: signal}
	}
	for _, c := range []struct {
		exit          proc.Exit
		memory        bool
		end           End
		fails, spends bool // of a backend that was never ready
		foreignSpends bool
	}{
		{proc.Exit{}, false, EndUnknown, true, true, false},
		{exit(0, 0), false, EndClean, false, true, true},
		{exit(3, 0), false, EndStatus, true, true, true},
		{exit(0, syscall.SIGTERM), false, EndTerminated, false, false, false},
		{exit(0, syscall.SIGINT), false, EndTerminated, false, false, false},
		{exit(0, syscall.SIGHUP), false, EndTerminated, false, false, false},
		{exit(0, syscall.SIGKILL), false, EndKilled, true, false, false},
		{exit(0, syscall.SIGKILL), true, EndMemory, true, true, true},
		{exit(0, syscall.SIGSEGV), false, EndSignal, true, true, true},
	} {
		end := EndOf(c.exit, c.memory)
		if end != c.end || end.failed() != c.fails || end.counts(true) != c.spends || end.counts(false) != c.foreignSpends {
			t.Errorf("%v: %v, fails %v, spends %v", c.exit, end, end.failed(), end.counts(true))
		}
	}
}

// TestApplies: every field of a definition and of a policy has its time.
func TestApplies(t *testing.T) {
	full := definition.Definition{
		Service: "s", Command: []string{"c"}, Self: true, Foreign: true, Env: []string{"A"}, FDEnv: []string{"F={fd}"}, Version: "1",
		IdleExit: 1, MinVersion: "1", AllowVersions: []string{"1"},
	}.Complete()
	want := map[string]When{
		"service": Elsewhere, "instance": Elsewhere, "command": NextLaunch, "self": NextLaunch, "foreign": NextLaunch, "bind": Elsewhere,
		"dir": NextLaunch, "env": NextLaunch, "env_policy": NextLaunch, "fd_env": NextLaunch, "version": NextLaunch,
		"bound_within": NextLaunch, "adopt_within": NextLaunch, "stop_within": NextLaunch, "idle_exit": NextLaunch,
		"hang_after": AtOnce, "on_hang": AtOnce, "on_version": AtOnce, "min_version": AtOnce, "allow_versions": AtOnce,
		"restart": AtOnce, "backoff_min": AtOnce, "backoff_max": AtOnce, "backoff_factor": AtOnce, "backoff_reset": AtOnce,
		"ready_within": AtOnce, "watchdog": NextLaunch,
	}
	p := Policy{ReadyWithin: 1, Watchdog: 1}.Complete()
	seen := 0
	for _, f := range append(full.Fields(), p.Fields()...) {
		when, known := want[f.Key]
		if !known {
			t.Errorf("when does a change of %s hold?", f.Key)
		}
		if got := Applies([]definition.Difference{{Field: f.Key, Have: "x", Want: "y"}}, false); got != when {
			t.Errorf("%s: %d, want %d", f.Key, got, when)
		}
		seen++
	}
	if seen != len(want) {
		t.Errorf("%d fields, want %d", seen, len(want))
	}
	diff := func(field, have, want string) definition.Difference {
		return definition.Difference{Field: field, Have: have, Want: want}
	}
	for name, c := range map[string]struct {
		diffs   []definition.Difference
		coexist bool
		want    When
	}{
		"nothing":                    {nil, false, AtOnce},
		"the latest counts":          {[]definition.Difference{diff("dir", "/", "/x"), diff("restart", "always", "on-demand")}, false, NextLaunch},
		"a version of its own":       {[]definition.Difference{diff("version", "1", "2")}, true, Elsewhere},
		"an environment of its own":  {[]definition.Difference{diff("env", "A", "B")}, true, Elsewhere},
		"coexisting from now on":     {[]definition.Difference{diff("on_version", "ignore", "coexist")}, false, Elsewhere},
		"no longer coexisting":       {[]definition.Difference{diff("env_policy", "coexist", "ignore")}, false, Elsewhere},
		"a field of a later release": {[]definition.Difference{diff("colour", "", "red")}, false, NextLaunch},
	} {
		if got := Applies(c.diffs, c.coexist); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
