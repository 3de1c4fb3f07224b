//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A standing is how one side of a contest did.
type standing struct {
	P50     time.Duration `json:"p50"` // nanoseconds, of a client that was served; 0: none was
	P90     time.Duration `json:"p90"`
	P99     time.Duration `json:"p99"`
	Last    time.Duration `json:"last,omitempty"` // of a crowd: until all had ended, median of the rounds
	Clients int           `json:"clients"`
	Failed  int           `json:"failed"`
	First   string        `json:"first,omitempty"` // the first failure

	// Of a crowd's round, the least and the most: how often a daemon was started,
	// counted in what a lone client leaves behind, at most once for each client,
	// since a daemon's own children count too when it dies; and how many lived in
	// the end.
	Started [2]int `json:"started,omitzero"`
	Left    [2]int `json:"left,omitzero"`
}

// A contest is a peer's clients by turns with ours in one situation.
type contest struct {
	Name   string   `json:"name"`
	Ours   standing `json:"ours"`
	Theirs standing `json:"theirs"`
	Ratio  float64  `json:"ratio,omitempty"` // ours to theirs, of the medians; 0 if nobody was served
	Low    float64  `json:"low,omitempty"`   // quartiles of the pairs' ratios
	High   float64  `json:"high,omitempty"`
}

// The situations.
const (
	warm    = "warm"          // the daemon runs
	cold    = "cold"          // no daemon and no run-time file
	killed  = "after kill -9" // of the daemon; its files are left
	crowded = "crowd"         // cold, and many at once, until the last has ended
	cached  = "go build std, cold"
	again   = "go build std, warm"
)

var situations = []string{cold, warm, killed, crowded, cached, again}

// A peerResult is what a run says of a peer.
type peerResult struct {
	Peer     string    `json:"peer"`
	What     string    `json:"what"`
	Version  string    `json:"version,omitempty"`
	Own      bool      `json:"own"` // its client launches its daemon
	Why      string    `json:"why,omitempty"`
	Missing  string    `json:"missing,omitempty"` // why it was not measured
	Contests []contest `json:"contests,omitempty"`
}

// meet measures a peer against us.
func meet(ctx context.Context, w *world, s size, p peer, only *regexp.Regexp, tools string, n *network) ([]contest, string, error) {
	theirs, err := w.enter(p, tools, n)
	if err != nil {
		return nil, "", err
	}
	out, err := theirs.contests(ctx, s, only)
	if err != nil { // what it says becomes part of the report
		err = errors.New(theirs.public.Replace(err.Error()))
	}
	return out, theirs.version(), err
}

// contests measures all that applies to a peer.
func (e *entrant) contests(ctx context.Context, s size, only *regexp.Regexp) (out []contest, err error) {
	if e.peer.cache != "" {
		return meetCache(ctx, e.w, s, e, only)
	}
	ours := e.w.ourselves(e.net)
	defer func() { err = errors.Join(err, e.w.endStrays()) }()
	for _, situation := range []string{cold, warm, killed} {
		if situation == killed && len(e.peer.activator) > 0 || !only.MatchString(situation) {
			continue // of an activator, why says so
		}
		c, err := duel(ctx, s, situation, ours, e)
		if err != nil {
			return out, fmt.Errorf("%s: %w", situation, err)
		}
		out = append(out, c)
	}
	if only.MatchString(crowded) {
		c, err := crowds(ctx, s, ours, e)
		if err != nil {
			return out, fmt.Errorf("%s: %w", crowded, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// duel measures single clients by turns, A B B A …, as many as the budget has time
// for. A pair of which one was not served has no ratio.
func duel(ctx context.Context, s size, situation string, ours, theirs *entrant) (contest, error) {
	sides := [2]*entrant{ours, theirs}
	var times [2][]time.Duration
	var ratios []float64
	c := contest{Name: situation}
	standings := [2]*standing{&c.Ours, &c.Theirs}
	if situation == warm {
		for _, e := range sides {
			if err := e.fresh(); err != nil { // ends the other's, but that comes second
				return c, err
			}
		}
		for _, e := range sides {
			if len(e.peer.activator) > 0 {
				continue
			}
			if _, err := e.client(); err != nil && !failed(err) {
				return c, err
			}
		}
	}
	n := s.pairs
	for i := -1; i < n; i++ { // the first pair is to warm up
		began := time.Now()
		var pair [2]time.Duration
		for k := range sides {
			if i%2 != 0 {
				k = 1 - k
			}
			d, err := sides[k].in(situation)
			if err := ctx.Err(); err != nil {
				return c, err
			}
			if err != nil && !failed(err) {
				return c, err
			}
			if i < 0 {
				continue
			}
			standings[k].add(err)
			if err == nil {
				times[k], pair[k] = append(times[k], d), d
			}
		}
		if i < 0 {
			n = min(s.pairs, max(3, int(s.budget/(time.Since(began)+1))))
		} else if pair[0] > 0 && pair[1] > 0 {
			ratios = append(ratios, float64(pair[0])/float64(pair[1]))
		}
	}
	c.Ours.of(times[0])
	c.Theirs.of(times[1])
	c.compare(ratios)
	return c, nil
}

// in measures one client in a situation.
func (e *entrant) in(situation string) (time.Duration, error) {
	if situation != warm {
		if err := e.fresh(); err != nil {
			return 0, err
		}
	}
	if situation == killed {
		if _, err := e.client(); err != nil {
			return 0, err
		}
		if err := e.w.endStrays(); err != nil { // kills and reaps it
			return 0, err
		}
	}
	return e.client()
}

// crowds measures many first uses at once, by turns.
func crowds(ctx context.Context, s size, ours, theirs *entrant) (contest, error) {
	sides := [2]*entrant{ours, theirs}
	c := contest{Name: crowded}
	standings := [2]*standing{&c.Ours, &c.Theirs}
	var each, lasts [2][]time.Duration
	var ratios []float64
	var unit [2]int // what a lone client leaves behind
	for k, e := range sides {
		if err := e.fresh(); err != nil {
			return c, err
		}
		if _, err := e.client(); err != nil && !failed(err) {
			return c, err
		}
		all, _, err := e.w.settled()
		if err != nil {
			return c, err
		}
		unit[k] = max(1, all)
	}
	rounds := s.rounds
	for i := 0; i < rounds; i++ {
		began := time.Now()
		var last [2]time.Duration
		for k := range sides {
			if i%2 != 0 {
				k = 1 - k
			}
			e := sides[k]
			if err := e.fresh(); err != nil {
				return c, err
			}
			d, served, err := e.rush(theirs.peer.crowdSize(), standings[k])
			if err := errors.Join(err, ctx.Err()); err != nil {
				return c, err
			}
			last[k], lasts[k], each[k] = d, append(lasts[k], d), append(each[k], served...)
			all, alive, err := e.w.settled()
			if err != nil {
				return c, err
			}
			if len(e.peer.activator) > 0 {
				continue // it starts them itself: none becomes a stray
			}
			standings[k].round(i == 0, min(theirs.peer.crowdSize(), (all+unit[k]-1)/unit[k]), alive)
		}
		ratios = append(ratios, float64(last[0])/float64(last[1]))
		if i == 0 {
			rounds = min(rounds, max(1, int(s.budget/time.Since(began))))
		}
	}
	c.Ours.of(each[0])
	c.Theirs.of(each[1])
	c.Ours.Last, c.Theirs.Last = quantile(lasts[0], 0.5), quantile(lasts[1], 0.5)
	c.compare(ratios)
	return c, nil
}

// rush starts so many clients and waits for all. It returns the time until the
// last had ended, and those of the clients that were served.
func (e *entrant) rush(n int, st *standing) (time.Duration, []time.Duration, error) {
	all := make([]*process, n)
	for i := range all {
		p, err := e.prepare()
		if err != nil {
			return 0, nil, err
		}
		defer p.close()
		all[i] = p
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	began := time.Now()
	for i, p := range all {
		if errs[i] = p.start(); errs[i] == nil {
			wg.Go(func() { errs[i] = p.wait() })
		}
	}
	wg.Wait()
	d := time.Since(began)
	var served []time.Duration
	for i, err := range errs {
		if err != nil && !failed(err) {
			return d, nil, err
		}
		st.add(err)
		if err == nil {
			served = append(served, all[i].took)
		}
	}
	return d, served, nil
}

func failed(err error) bool {
	_, ok := errors.AsType[*failure](err)
	return ok
}

func (st *standing) add(err error) {
	st.Clients++
	if err != nil {
		st.Failed++
		if st.First == "" {
			st.First = err.Error()
		}
	}
}

// of sets the quantiles of the clients that were served.
func (st *standing) of(d []time.Duration) {
	if len(d) > 0 {
		st.P50, st.P90, st.P99 = quantile(d, 0.5), quantile(d, 0.9), quantile(d, 0.99)
	}
}

func (st *standing) round(first bool, started, left int) {
	for _, f := range []struct {
		span *[2]int
		n    int
	}{{&st.Started, started}, {&st.Left, left}} {
		if first {
			*f.span = [2]int{f.n, f.n}
		}
		f.span[0], f.span[1] = min(f.span[0], f.n), max(f.span[1], f.n)
	}
}

// compare sets the ratio: that of the medians, for a crowd of the times until its
// last client had ended.
func (c *contest) compare(ratios []float64) {
	if len(ratios) == 0 || c.Ours.P50 == 0 || c.Theirs.P50 == 0 {
		return
	}
	slices.Sort(ratios)
	c.Low, c.High = ratios[len(ratios)/4], ratios[3*len(ratios)/4]
	c.Ratio = float64(c.Ours.P50) / float64(c.Theirs.P50)
	if c.Name == crowded {
		c.Ratio = float64(c.Ours.Last) / float64(c.Theirs.Last)
	}
}

// meetCache measures builds with a cache of somebody else's by turns with ours:
// one from nothing each, then with what that left.
func meetCache(ctx context.Context, w *world, s size, e *entrant, only *regexp.Regexp) (out []contest, err error) {
	ours, err := gocache(w)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.done()) }()
	theirs := cache{env: append(slices.Clone(e.env), "GOCACHEPROG="+e.peer.cache)}
	for _, situation := range []string{cached, again} {
		if !only.MatchString(situation) {
			continue
		}
		c := contest{Name: situation}
		var times [2][]time.Duration
		var ratios []float64
		rounds := 1 // a build from nothing comes once
		if situation == again {
			rounds = s.rounds
		}
		for i := range rounds {
			var pair [2]time.Duration
			for k := range pair {
				if i%2 != 0 {
					k = 1 - k
				}
				pair[k], err = timed(func() error { return builds(ctx, [2]cache{ours, theirs}[k], s.packages, 1) })
				if err != nil {
					return out, err
				}
				times[k] = append(times[k], pair[k])
				[2]*standing{&c.Ours, &c.Theirs}[k].add(nil)
			}
			ratios = append(ratios, float64(pair[0])/float64(pair[1]))
		}
		c.Ours.of(times[0])
		c.Theirs.of(times[1])
		c.compare(ratios)
		out = append(out, c)
	}
	return out, nil
}
