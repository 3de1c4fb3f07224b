package cli

import (
	"testing"
	"time"
)

func TestPayoff(t *testing.T) {
	if medianMS(nil) != nil {
		t.Error("a median of nothing")
	}
	if got := medianMS([]time.Duration{3 * time.Millisecond, time.Microsecond * 1500, 9 * time.Second}); *got != 3 {
		t.Errorf("median %v", *got)
	}
	ms := func(f float64) *float64 { return &f }
	for want, p := range map[string]*payoffJSON{
		"":                                      nil,
		"1 launch (median 2.5 ms), 0 fallbacks": {Launches: 1, ColdMS: ms(2.5)},
		"0 launches, 1 fallback":                {Fallbacks: 1},
		"3 launches, 2 fallbacks (median 2000 ms); a warm dial takes 0.05 ms": {Launches: 3, Fallbacks: 2, FallbackMS: ms(2000), WarmMS: ms(0.05)},
	} {
		if got := p.sentence(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := (&payoffJSON{}).sentence(); got != "" {
		t.Errorf("of nothing known: %q", got)
	}
}
