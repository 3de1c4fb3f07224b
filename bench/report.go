//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// format is that of the JSON. A reader refuses others.
const format = 1

// A report is what a run has measured: what -json writes and -from reads.
type report struct {
	Format  int             `json:"format"`
	Runs    []runInfo       `json:"runs"` // more than one after a merge
	Rows    []result        `json:"rows,omitempty"`
	Stages  []stages        `json:"stages,omitempty"`
	Calls   []callsResult   `json:"calls,omitempty"`
	Profile []profileResult `json:"profile,omitempty"`
	Peers   []peerResult    `json:"peers,omitempty"`
}

// A runInfo says when and where.
type runInfo struct {
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	Machine string        `json:"machine"`
}

func (r *report) write(name string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// readReports reads reports of earlier runs as one: what a later one has measured
// stands for the same of the earlier ones.
func readReports(names []string) (*report, error) {
	all := &report{Format: format}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var r report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if r.Format != format {
			return nil, fmt.Errorf("%s has format %d, not %d: measure again with -json", name, r.Format, format)
		}
		all.Runs = append(all.Runs, r.Runs...)
		all.Rows = merge(all.Rows, r.Rows, func(r result) string { return r.Row + "/" + r.Against })
		all.Stages = merge(all.Stages, r.Stages, func(s stages) string { return s.Load.String() })
		all.Calls = merge(all.Calls, r.Calls, func(c callsResult) string { return c.What })
		all.Profile = mergeProfiles(all.Profile, r.Profile)
		for _, p := range r.Peers {
			i := peerIn(all.Peers, p.Peer)
			if i < 0 {
				all.Peers = append(all.Peers, p)
				continue
			}
			p.Contests = merge(all.Peers[i].Contests, p.Contests, func(c contest) string { return c.Name })
			if len(p.Contests) > 0 {
				p.Missing = ""
			}
			if p.Version == "" {
				p.Version = all.Peers[i].Version
			}
			all.Peers[i] = p
		}
	}
	if res, ok := all.best(); ok { // of all runs
		all.Rows = append(slices.DeleteFunc(all.Rows, func(r result) bool { i := rowIndex(r); return i >= 0 && rows[i].best }), res)
	}
	// In the order of the tables, whichever run they are from.
	slices.SortStableFunc(all.Rows, func(a, b result) int { return rowIndex(a) - rowIndex(b) })
	for _, p := range all.Peers {
		slices.SortStableFunc(p.Contests, func(a, b contest) int { return slices.Index(situations, a.Name) - slices.Index(situations, b.Name) })
	}
	slices.SortStableFunc(all.Peers, func(a, b peerResult) int { return peerIndex(a.Peer) - peerIndex(b.Peer) })
	return all, nil
}

// best is the row of the peer that was fastest when cold, of those whose client
// launches a daemon of its own and was always served.
func (r *report) best() (res result, ok bool) {
	i := slices.IndexFunc(rows, row.ofPeers)
	var least time.Duration
	for _, p := range r.Peers {
		for _, c := range p.Contests {
			if p.Own && c.Name == cold && c.Ratio > 0 && c.Theirs.Failed == 0 && (least == 0 || c.Theirs.P50 < least) {
				least, ok = c.Theirs.P50, true
				res = rows[i].judge(result{Against: rows[i].against + ": " + p.Peer, Ours: show(c.Ours.P50), Theirs: show(c.Theirs.P50),
					Value: c.Ratio, Low: c.Low, High: c.High})
			}
		}
	}
	return res, ok
}

// Missed reports whether a row has not reached its target, and why is known.
func (r *report) Missed() bool {
	return slices.ContainsFunc(r.Rows, func(res result) bool {
		i := rowIndex(res)
		return i >= 0 && !res.Pass && rows[i].spent != ""
	})
}

// Absent are the rows and peers that none of the runs has measured.
func (r *report) Absent() []string {
	var names []string
	for _, row := range rows {
		if !slices.ContainsFunc(r.Rows, func(res result) bool {
			i := rowIndex(res)
			return i >= 0 && rows[i].name == row.name && rows[i].against == row.against
		}) {
			names = append(names, fmt.Sprintf("%s / %s", row.name, row.against))
		}
	}
	for _, p := range peers {
		if peerIn(r.Peers, p.name) < 0 {
			names = append(names, p.name)
		}
	}
	return names
}

// merge replaces what has the same key and appends the rest.
func merge[T any](old, fresh []T, key func(T) string) []T {
	for _, f := range fresh {
		if i := slices.IndexFunc(old, func(o T) bool { return key(o) == key(f) }); i >= 0 {
			old[i] = f
		} else {
			old = append(old, f)
		}
	}
	return old
}

func rowIndex(r result) int {
	return slices.IndexFunc(rows, func(o row) bool {
		return o.name == r.Row && (o.against == r.Against || o.best && strings.HasPrefix(r.Against, o.against))
	})
}

func peerIn(list []peerResult, name string) int {
	return slices.IndexFunc(list, func(p peerResult) bool { return p.Peer == name })
}

func peerIndex(name string) int {
	return slices.IndexFunc(peers, func(p peer) bool { return p.name == name })
}

// broken are the counts that do not hold.
func (r *report) broken(out io.Writer) (any bool) {
	for _, row := range r.Rows {
		if row.Broken != "" {
			fmt.Fprintf(out, "%s: %s\n", row.Row, row.Broken)
			any = true
		}
	}
	for _, p := range r.Peers {
		for _, c := range p.Contests {
			if c.Ours.Failed > 0 {
				fmt.Fprintf(out, "%s beside %s: %d of our %d clients failed: %s\n", c.Name, p.Peer, c.Ours.Failed, c.Ours.Clients, c.Ours.First)
				any = true
			}
			if c.Ours.Started[1] > 1 {
				fmt.Fprintf(out, "%s beside %s: %d daemons were started\n", c.Name, p.Peer, c.Ours.Started[1])
				any = true
			}
		}
	}
	return any
}

const rowsHead = "| row | against | ours | theirs | ratio | range | at most | | counts |\n|---|---|---|---|---|---|---|---|---|\n"

func (r result) line() string {
	value, spread := ratio(r.Value), ""
	if r.Unit != "" {
		value = fmt.Sprintf("%.3g %s", r.Value, r.Unit)
	}
	if r.High > 0 {
		spread = ratio(r.Low) + "–" + ratio(r.High)
	}
	verdict := "miss"
	if r.Pass {
		verdict = "pass"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %g | %s | %s |",
		r.Row, r.Against, r.Ours, r.Theirs, value, spread, r.Target, verdict, r.Counts)
}

// ratio prints one with two digits behind the point, or two that are not zero.
func ratio(v float64) string {
	if v > 0 && v < 0.1 {
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return fmt.Sprintf("%.2f", v)
}

const peersHead = "| peer | situation | ours | theirs | ratio | range | served, ours | theirs | daemons started, ours | theirs | left, theirs |\n|---|---|---|---|---|---|---|---|---|---|---|\n"

func (p peerResult) lines() string {
	var b strings.Builder
	if p.Missing != "" {
		fmt.Fprintf(&b, "| %s | not measured: %s | | | | | | | | | |\n", p.Peer, p.Missing)
	}
	for _, c := range p.Contests {
		value, spread := "–", ""
		if c.Ratio > 0 {
			value = ratio(c.Ratio)
		}
		if c.High > 0 {
			spread = ratio(c.Low) + "–" + ratio(c.High)
		}
		name := c.Name
		started := [3]string{}
		if c.Name == crowded {
			name = fmt.Sprintf("%s of %d", c.Name, p.crowd())
			started = [3]string{span(c.Ours.Started), "–", "–"}
			if c.Theirs.Started[1] > 0 {
				started[1], started[2] = span(c.Theirs.Started), span(c.Theirs.Left)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", strings.TrimSpace(p.Peer+" "+p.Version), name,
			c.Ours.time(c.Name), c.Theirs.time(c.Name), value, spread, c.Ours.served(), c.Theirs.served(), started[0], started[1], started[2])
	}
	return b.String()
}

// crowd is how many clients came at once.
func (p peerResult) crowd() int {
	if i := peerIndex(p.Peer); i >= 0 {
		return peers[i].crowdSize()
	}
	return 0
}

// time is what the ratio is of.
func (st standing) time(situation string) string {
	switch {
	case situation == crowded && st.Last > 0:
		return show(st.Last)
	case st.P50 > 0:
		return show(st.P50)
	}
	return "–"
}

func (st standing) served() string {
	return fmt.Sprintf("%d of %d", st.Clients-st.Failed, st.Clients)
}

func span(n [2]int) string {
	if n[0] == n[1] {
		return fmt.Sprint(n[0])
	}
	return fmt.Sprintf("%d–%d", n[0], n[1])
}
