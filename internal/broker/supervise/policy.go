package supervise

import (
	"slices"
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
)

// Restart says when a generation that has ended is followed by another although
// nobody waits for one. Who does wait is served under each of them.
type Restart string

// The restart policies.
const (
	RestartOnDemand  Restart = "on-demand"  // never: the next client activates
	RestartOnFailure Restart = "on-failure" // unless it left with status 0 or by a signal that asks to leave
	RestartAlways    Restart = "always"     // unless it was asked to end
)

// What is used where a definition says nothing. The backoff begins where a
// person does not notice and ends where a machine does not mind.
const (
	DefaultBackoffMin    = 100 * time.Millisecond
	DefaultBackoffMax    = 30 * time.Second
	DefaultBackoffFactor = 2.0
	DefaultBackoffReset  = 10 * time.Second
)

// The spawn budget, which is the embedded broker's: so many launches that died
// before they were ready, within this time.
const (
	BudgetFailures = 3
	BudgetWindow   = 30 * time.Second
)

// FreeLaunches is how many generations in a row may come to a bad end and be
// followed at once because a client waits. After that the client waits for the
// backoff too, in the listener's queue.
const FreeLaunches = 3

// A Policy is what a definition says about supervision. Times are durations.
// The zero value is usable once Complete was called. It is a plain value.
type Policy struct {
	Restart Restart // restart = "on-demand"

	BackoffMin    time.Duration // backoff_min = "100ms": after the first bad end
	BackoffMax    time.Duration // backoff_max = "30s"
	BackoffFactor float64       // backoff_factor = 2: from one to the next
	BackoffReset  time.Duration // backoff_reset = "10s": who served for so long begins a new row

	ReadyWithin time.Duration // ready_within = "60s": from launch to ready; 0: whenever
	Watchdog    time.Duration // watchdog = "10s": between two signs of life; 0: none is expected

	// These three exist in a definition.
	HangAfter  time.Duration
	OnHang     definition.HangPolicy
	StopWithin time.Duration
}

// Complete returns p with the defaults in place of zero values.
func (p Policy) Complete() Policy {
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if p.Restart == "" {
		p.Restart = RestartOnDemand
	}
	orDefault(&p.BackoffMin, DefaultBackoffMin)
	orDefault(&p.BackoffMax, max(DefaultBackoffMax, p.BackoffMin))
	if p.BackoffFactor == 0 {
		p.BackoffFactor = DefaultBackoffFactor
	}
	orDefault(&p.BackoffReset, DefaultBackoffReset)
	orDefault(&p.HangAfter, definition.DefaultHangAfter)
	if p.OnHang == "" {
		p.OnHang = definition.HangReplace
	}
	orDefault(&p.StopWithin, definition.DefaultStopWithin)
	return p
}

// Check reports the first field of a completed policy that cannot be used, as a
// *definition.Invalid error. The lower bound of every wait keeps a mistake from
// becoming a busy loop.
func (p Policy) Check() error {
	if !slices.Contains([]Restart{RestartOnDemand, RestartOnFailure, RestartAlways}, p.Restart) {
		return &definition.Invalid{Field: "restart", Value: string(p.Restart), Reason: `use "on-demand", "on-failure" or "always"`}
	}
	for _, b := range []struct {
		field    string
		d        time.Duration
		from, to time.Duration
		reason   string
		optional bool
	}{
		{"backoff_min", p.BackoffMin, 10 * time.Millisecond, time.Hour, "use 10ms to 1h", false},
		{"backoff_max", p.BackoffMax, 10 * time.Millisecond, time.Hour, "use 10ms to 1h", false},
		{"backoff_reset", p.BackoffReset, 100 * time.Millisecond, 24 * time.Hour, "use 100ms to 24h", false},
		{"ready_within", p.ReadyWithin, time.Millisecond, 24 * time.Hour, "use 1ms to 24h, or leave it out: loading may take as long as it does then", true},
		{"watchdog", p.Watchdog, 100 * time.Millisecond, time.Hour, "use 100ms to 1h, or leave it out: no sign of life is expected then", true},
		{"hang_after", p.HangAfter, time.Millisecond, time.Hour, "use 1ms to 1h", false},
		{"stop_within", p.StopWithin, time.Millisecond, time.Hour, "use 1ms to 1h", false},
	} {
		if b.optional && b.d == 0 {
			continue
		}
		if b.d < b.from || b.d > b.to {
			return &definition.Invalid{Field: b.field, Value: b.d.String(), Reason: b.reason}
		}
	}
	if p.BackoffMax < p.BackoffMin {
		return &definition.Invalid{Field: "backoff_max", Value: p.BackoffMax.String(), Reason: "shorter than backoff_min, " + p.BackoffMin.String()}
	}
	if !(p.BackoffFactor >= 1 && p.BackoffFactor <= 10) { // not a number is not in it either
		return &definition.Invalid{Field: "backoff_factor", Value: formatFactor(p.BackoffFactor), Reason: "use 1 to 10"}
	}
	if p.OnHang != definition.HangReplace && p.OnHang != definition.HangReport {
		return &definition.Invalid{Field: "on_hang", Value: string(p.OnHang), Reason: `use "replace" or "report"`}
	}
	return nil
}

// Fields returns the fields that are the policy's own, in a fixed order, as a
// record and a definition file have them. Set is its inverse.
func (p Policy) Fields() []definition.Field {
	fields := []definition.Field{
		{Key: "restart", Value: string(p.Restart)},
		{Key: "backoff_min", Value: p.BackoffMin.String()},
		{Key: "backoff_max", Value: p.BackoffMax.String()},
		{Key: "backoff_factor", Value: formatFactor(p.BackoffFactor)},
		{Key: "backoff_reset", Value: p.BackoffReset.String()},
		{Key: "ready_within", Value: p.ReadyWithin.String()},
		{Key: "watchdog", Value: p.Watchdog.String()},
	}
	return slices.DeleteFunc(fields, func(f definition.Field) bool {
		return f.Value == "" || f.Value == "0" || f.Value == "0s"
	})
}

// Set takes one pair of Fields: definition.ErrUnknownKey for a key that is not
// the policy's, a *definition.Invalid error for a value of another form.
func (p *Policy) Set(key, value string) error {
	var err error
	switch key {
	case "restart":
		p.Restart = Restart(value)
	case "backoff_min":
		p.BackoffMin, err = time.ParseDuration(value)
	case "backoff_max":
		p.BackoffMax, err = time.ParseDuration(value)
	case "backoff_factor":
		if p.BackoffFactor, err = strconv.ParseFloat(value, 64); err != nil {
			return &definition.Invalid{Field: key, Value: value, Reason: "not a number"}
		}
	case "backoff_reset":
		p.BackoffReset, err = time.ParseDuration(value)
	case "ready_within":
		p.ReadyWithin, err = time.ParseDuration(value)
	case "watchdog":
		p.Watchdog, err = time.ParseDuration(value)
	default:
		return definition.ErrUnknownKey
	}
	if err != nil {
		return &definition.Invalid{Field: key, Value: value, Reason: `not a duration such as "500ms" or "1m30s"`}
	}
	return nil
}

func formatFactor(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Backoff is the wait before the generation that follows the nth bad end in a row;
// 0 for n below 1. jitter is a random fraction in [0,1).
//
// Of the exponential wait half is kept and half is drawn ("equal jitter" in M.
// Brooker's comparison, AWS Architecture Blog 2015). Services that broke together
// do not come back in step, and however the die falls the wait never vanishes. Full
// jitter spreads better when many contend for one server, which these do not.
func (p Policy) Backoff(n int, jitter float64) time.Duration {
	if n < 1 {
		return 0
	}
	wait := float64(p.BackoffMin)
	for range min(n, 64) - 1 { // with the least factor above 1 that makes a difference it is not more
		if wait *= p.BackoffFactor; wait >= float64(p.BackoffMax) {
			break
		}
	}
	wait = min(wait, float64(p.BackoffMax))
	return time.Duration(wait/2 + jitter*wait/2)
}
