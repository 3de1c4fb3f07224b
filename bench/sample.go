//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"
)

// A sample is one measurement of a side.
type sample func() (time.Duration, error)

// A result is what a row prints and the JSON output has.
type result struct {
	Row     string  `json:"row"`
	Against string  `json:"against"`
	Ours    string  `json:"ours"`
	Theirs  string  `json:"theirs"`
	Value   float64 `json:"value"`         // a ratio, unless Unit says otherwise
	Low     float64 `json:"low,omitempty"` // quartiles of the pairs' ratios
	High    float64 `json:"high,omitempty"`
	Unit    string  `json:"unit,omitempty"` // "" is a ratio
	Target  float64 `json:"target"`         // at most
	Pass    bool    `json:"pass"`
	Counts  string  `json:"counts,omitempty"` // execs and failures, where they matter
	Broken  string  `json:"broken,omitempty"` // a count that does not hold
}

// pairs measures ours and theirs by turns, A B B A A B …, n times after a warm-up
// of each. A machine that gets slower does so for both.
func pairs(n int, ours, theirs sample) (result, error) {
	a, b := make([]time.Duration, n), make([]time.Duration, n)
	for i := -1; i < n; i++ {
		first, second := ours, theirs
		if i%2 != 0 {
			first, second = second, first
		}
		x, err := first()
		if err != nil {
			return result{}, err
		}
		y, err := second()
		if err != nil {
			return result{}, err
		}
		if i%2 != 0 {
			x, y = y, x
		}
		if i >= 0 {
			a[i], b[i] = x, y
		}
	}
	return compare(a, b), nil
}

// compare makes a result of what was measured in pairs: the ratio of the medians, and
// the quartiles of the pairs' ratios.
func compare(a, b []time.Duration) result {
	n := len(a)
	ratios := make([]float64, n)
	for i := range a {
		ratios[i] = float64(a[i]) / float64(b[i])
	}
	slices.Sort(ratios)
	ma, mb := quantile(slices.Clone(a), 0.5), quantile(slices.Clone(b), 0.5)
	return result{
		Ours: show(ma), Theirs: show(mb), Value: float64(ma) / float64(mb),
		Low: ratios[n/4], High: ratios[(3*n)/4],
	}
}

// quantile returns the q-th quantile of durations, which it sorts.
func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

func show(d time.Duration) string {
	switch {
	case d < 100*time.Microsecond:
		return fmt.Sprintf("%.1f µs", float64(d)/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d < 10*time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// timed measures a function once.
func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}
