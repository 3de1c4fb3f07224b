//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
)

// A profile is a table that says of what something is made that a row has as one figure.
type profile struct {
	name    string // -rows selects by it
	unit    unit
	elapsed string // the head of a column for the time that passed, if there is one
	kinds   []kind // the columns, of which the first that matches counts
	rest    string // and the one of what is none of them
	step    func(stack []string) string
	steps   string // the head of the column of the steps, if there is one
	long    bool   // takes minutes
	measure func(context.Context, *world, size, sorter) ([]profileResult, error)
}

// profiles are in the order in which they are measured and printed.
var profiles = []profile{
	{name: "processor time of a cold launch", unit: milliseconds, kinds: tasks, rest: "program",
		step: calledBy("launch.(*system).do", "daemon.adoptHandover", "daemon.(*stand).live"), steps: "of which, by step", measure: profileCold},
	{name: "processor time of a warm Dial", unit: microseconds, kinds: dialing, rest: "the rest", measure: profileDials},
	{name: "memory of a daemon, by what it is", unit: kilobytes, kinds: pageKinds, rest: otherPages, measure: profileMemory},
	{name: "processor time of a warm go build", unit: wholeMilliseconds, elapsed: "took", kinds: tasks, rest: "program",
		step: buildStep, steps: "of which, by step", long: true, measure: profileBuilds},
}

func chosenProfiles(match *regexp.Regexp, long bool) (some []profile) {
	for _, p := range profiles {
		if match.MatchString(p.name) && (long || !p.long) {
			some = append(some, p)
		}
	}
	return some
}

// A unit is how shares are printed.
type unit struct {
	name   string
	scale  float64 // of it in a second, or in a kB
	digits int     // behind the point
}

var (
	wholeMilliseconds = unit{"ms", 1e3, 0}
	milliseconds      = unit{"ms", 1e3, 2}
	microseconds      = unit{"µs", 1e6, 2}
	kilobytes         = unit{"kB", 1, 0}
)

func (u unit) show(v float64) string { return fmt.Sprintf("%.*f %s", u.digits, v*u.scale, u.name) }

// least is the smallest share that shows.
func (u unit) least() float64 { return math.Pow10(-u.digits) / u.scale }

// A profileResult is a line of a profile.
type profileResult struct {
	Profile string             `json:"profile,omitempty"` // the profile's name
	What    string             `json:"what"`
	Times   int                `json:"times,omitempty"`   // of how many launches, dials or builds it is the average
	Elapsed float64            `json:"elapsed,omitempty"` // seconds
	Kinds   map[string]float64 `json:"kinds,omitempty"`   // seconds or kB, by kind
	Steps   map[string]float64 `json:"steps,omitempty"`   // by what of ours it is for; the kinds divide the same
	Missing string             `json:"missing,omitempty"` // why it was not measured
}

func (p plan) measureProfiles(ctx context.Context, w *world, out io.Writer, r *report) error {
	for _, of := range p.profiles {
		fmt.Fprintf(os.Stderr, "%s …\n", of.name)
		all, err := of.measure(ctx, w, p.size, of.sorter())
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil { // no perf, or nobody may
			all = []profileResult{{What: "all", Missing: firstLine([]byte(err.Error()))}}
		}
		for i := range all {
			all[i].Profile = of.name
		}
		r.Profile = append(r.Profile, all...)
		fmt.Fprint(out, "\n", of.table(all))
		if err := w.endStrays(); err != nil {
			return err
		}
	}
	return nil
}

func (p profile) sorter() sorter {
	s := sorter{func(stack []string) string { return cmp.Or(firstOf(p.kinds, stack), p.rest) }, p.step}
	if s.step == nil {
		s.step = func([]string) string { return "" }
	}
	return s
}

// calledBy makes steps of the functions that those with these names call, without their
// packages.
func calledBy(names ...string) func(stack []string) string {
	return func(stack []string) string {
		for i, f := range stack {
			if i > 0 && slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(f, s) }) {
				name := stack[i-1]
				return name[strings.LastIndex(name, ".")+1:]
			}
		}
		return ""
	}
}

// table is the profile with its results.
func (p profile) table(all []profileResult) string {
	b := p.head()
	for _, res := range all {
		b += p.line(res) + "\n"
	}
	return b
}

func (p profile) columns() []string {
	var c []string
	if p.elapsed != "" {
		c = append(c, p.elapsed)
	}
	c = append(c, "all")
	for _, k := range p.kinds {
		c = append(c, k.name)
	}
	c = append(c, p.rest)
	if p.steps != "" {
		c = append(c, p.steps)
	}
	return c
}

func (p profile) head() string {
	c := p.columns()
	return "| " + p.name + " | " + strings.Join(c, " | ") + " |\n|---|" + strings.Repeat("---|", len(c)) + "\n"
}

func (p profile) line(r profileResult) string {
	if r.Missing != "" {
		return "| " + r.What + " | not measured: " + r.Missing + strings.Repeat(" |", len(p.columns()))
	}
	var cells []string
	if p.elapsed != "" {
		cell := ""
		if r.Elapsed > 0 {
			cell = p.unit.show(r.Elapsed)
		}
		cells = append(cells, cell)
	}
	all := 0.0
	for _, v := range r.Kinds {
		all += v
	}
	cells = append(cells, p.unit.show(all))
	for _, k := range p.kinds {
		cells = append(cells, p.unit.show(r.Kinds[k.name]))
	}
	cells = append(cells, p.unit.show(r.Kinds[p.rest]))
	if p.steps != "" {
		byTime := slices.SortedFunc(maps.Keys(r.Steps), func(x, y string) int { return cmp.Or(cmp.Compare(r.Steps[y], r.Steps[x]), cmp.Compare(x, y)) })
		var list []string
		for _, step := range byTime {
			if r.Steps[step] >= p.unit.least() {
				list = append(list, step+" "+p.unit.show(r.Steps[step]))
			}
		}
		cells = append(cells, strings.Join(list, ", "))
	}
	return "| " + r.What + " | " + strings.Join(cells, " | ") + " |"
}

// ProfileOf is the table of the profile of that name, "" if none of the runs has it.
func (r *report) ProfileOf(name string) string {
	for _, p := range profiles {
		if all := of(r.Profile, p.name); p.name == name && len(all) > 0 {
			return p.table(all)
		}
	}
	return ""
}

// of are the results of one profile.
func of(all []profileResult, name string) (some []profileResult) {
	for _, res := range all {
		if cmp.Or(res.Profile, profiles[0].name) == name { // at first there was one
			some = append(some, res)
		}
	}
	return some
}

// mergeProfiles puts the tables of a later run in the place of those of earlier ones, but
// for what could not be measured.
func mergeProfiles(old, fresh []profileResult) (all []profileResult) {
	for _, p := range profiles {
		a, b := of(old, p.name), of(fresh, p.name)
		if len(b) == 0 || len(a) > 0 && b[0].Missing != "" {
			b = a
		}
		all = append(all, b...)
	}
	return all
}
