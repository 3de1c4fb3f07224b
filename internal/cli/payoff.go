package cli

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/endpoint"
)

// payoffJSON is what a service's daemon costs its clients, so that a tool can
// tell whether it is worth having: medians of what the journal still has, and
// warm dials if they were asked for. Null is what is not known.
type payoffJSON struct {
	Launches   int      `json:"launches"`
	ColdMS     *float64 `json:"cold_ms"` // launch until the endpoint accepted
	Fallbacks  int      `json:"fallbacks"`
	FallbackMS *float64 `json:"fallback_ms"` // dial until the tool went on without
	WarmMS     *float64 `json:"warm_ms"`     // dial of the running daemon
}

// measured is how many warm dials a measurement is.
const measured = 21

// payoff reads the journal, and with measure dials the daemon if it runs, which
// launches nothing.
func (a *app) payoff(ctx context.Context, v view, measure bool) *payoffJSON {
	if v.broker == nil {
		return nil
	}
	p := &payoffJSON{}
	var cold, without []time.Duration
	for _, e := range a.events(v, maxEvents) {
		switch e.Kind {
		case "launched":
			p.Launches++
			if e.BoundAfter != nil {
				cold = append(cold, time.Duration(*e.BoundAfter)*time.Microsecond)
			}
		case "fallback":
			if e.After == nil {
				continue // to another directory
			}
			p.Fallbacks++
			if *e.After > 0 {
				without = append(without, time.Duration(*e.After)*time.Microsecond)
			}
		}
	}
	p.ColdMS, p.FallbackMS = medianMS(cold), medianMS(without)
	if measure && v.alive {
		p.WarmMS = medianMS(warmDials(ctx, v.endpoint))
	}
	return p
}

func addMeasureFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("measure", false, "also dial the running daemon "+strconv.Itoa(measured)+" times, and tell the median")
}

// payoffs are looked at where they are shown: for a script that reads JSON, and
// for a person who named a service.
func (a *app) payoffs(ctx context.Context, views []view, measure bool) {
	if !a.json && !a.out.terminal {
		return
	}
	for i := range views {
		views[i].payoff = a.payoff(ctx, views[i], measure)
	}
}

// maxEvents bounds the events that are looked at: as many as a journal holds.
const maxEvents = 1 << 16

// warmDials are dials of whoever accepts at the path. One that nobody accepts
// ends the measurement.
func warmDials(ctx context.Context, path string) (took []time.Duration) {
	for range measured {
		began := time.Now()
		conn, reach, _ := endpoint.Connect(ctx, path)
		if reach != endpoint.Reached {
			return nil
		}
		took = append(took, time.Since(began))
		_ = conn.Close()
	}
	return took
}

// medianMS is the median in milliseconds, nil of nothing.
func medianMS(list []time.Duration) *float64 {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	ms := float64(list[len(list)/2].Microseconds()) / 1000
	return &ms
}

// sentence says it in words, "" if nothing is known.
func (p *payoffJSON) sentence() string {
	if p == nil || p.Launches+p.Fallbacks == 0 {
		return ""
	}
	text := func(n int, one, many string, ms *float64) string {
		s := "1 " + one
		if n != 1 {
			s = strconv.Itoa(n) + " " + many
		}
		if ms != nil {
			s += " (median " + strconv.FormatFloat(*ms, 'f', -1, 64) + " ms)"
		}
		return s
	}
	s := text(p.Launches, "launch", "launches", p.ColdMS) + ", " + text(p.Fallbacks, "fallback", "fallbacks", p.FallbackMS)
	if p.WarmMS != nil {
		s += "; a warm dial takes " + strconv.FormatFloat(*p.WarmMS, 'f', -1, 64) + " ms"
	}
	return s
}
