package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/try"
)

type tryReply struct {
	Schema   int            `json:"schema"`
	OK       bool           `json:"ok"`
	Go       *string        `json:"go"`
	Clients  int            `json:"clients"`
	Builds   int            `json:"builds"`
	Figures  figuresJSON    `json:"figures"`
	Checks   []tryCheckJSON `json:"checks"`
	Timeline []eventJSON    `json:"timeline"`
	Spans    []spanJSON     `json:"spans"`
	Error    *errorJSON     `json:"error"`
}

// figuresJSON are milliseconds; null is what was not measured.
type figuresJSON struct {
	ConnectedHalf *float64 `json:"connected_median_ms"`
	ConnectedLast *float64 `json:"connected_slowest_ms"`
	AnsweredHalf  *float64 `json:"answered_median_ms"`
	AnsweredLast  *float64 `json:"answered_slowest_ms"`
	Ready         *float64 `json:"ready_ms"`
	AfterKill     *float64 `json:"connected_after_kill_ms"`
	PlainCold     *float64 `json:"builds_plain_cold_ms"`
	PlainWarm     *float64 `json:"builds_plain_again_ms"`
	Cold          *float64 `json:"builds_cold_ms"`
	Warm          *float64 `json:"builds_again_ms"`
	Hits          *int64   `json:"hits"`
	Misses        *int64   `json:"misses"`
}

type tryCheckJSON struct {
	OK   bool   `json:"ok"`
	What string `json:"what"`
	Seen string `json:"seen"`
}

type eventJSON struct {
	At   float64 `json:"at_ms"`
	What string  `json:"what"`
}

type spanJSON struct {
	Row  string  `json:"row"`
	Kind string  `json:"kind"`
	From float64 `json:"from_ms"`
	To   float64 `json:"to_ms"`
}

func (a *app) tryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "try",
		Short: "See it work: a real daemon, real builds, a crowd and a kill -9",
		Long: `Run a build cache daemon for the go command, which is compiled in, under what
usually goes wrong, and print what happens. Its index takes some seconds to load.
While no daemon runs, a crowd of client processes and real go builds come at the
same moment; while the builds run, the daemon is killed with SIGKILL; then the
same is built again. All outputs are compared with those of plain builds.

It takes about a minute on two cores and needs a go command (1.24 or later), no
network and no module. Everything happens in a temporary directory, which is
removed at the end and after Ctrl-C, with every process that was started.

The exit status is 1 if something that must be true was not.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	clients := cmd.Flags().Int("clients", 100, "client processes in the crowd, 1 to 1000")
	load := cmd.Flags().Duration("load", 2*time.Second, "how long the daemon's index takes to load, at most 1m")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *clients < 1 || *clients > 1000 {
			return &usageError{"--clients must be 1 to 1000", ""}
		}
		if *load < 0 || *load > time.Minute {
			return &usageError{"--load must be 0s to 1m", ""}
		}
		self, err := a.self()
		if err != nil {
			return err
		}
		// There is something to clean up also when it is not Ctrl-C.
		ctx, stop := a.notify(cmd.Context(), syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		p := &bar{s: a.err}
		report, err := try.Run(ctx, try.Config{
			Self: self, Env: a.env, Clients: *clients, LoadFor: *load,
			Working: p.show,
			Said: func(e try.Event) {
				p.clear()
				if !a.json {
					line(a.out.w, a.out.paint(quietly, seconds(e.At))+"  "+harmless(e.Text))
				}
			},
		})
		p.clear()
		var missing *try.Missing
		switch {
		case err == nil:
		case ctx.Err() != nil && cmd.Context().Err() == nil:
			return quiet(exitInterrupted)
		case errors.As(err, &missing):
			return &hinted{err, missing.Cure}
		default:
			return err
		}
		if a.json {
			a.print(tryJSON(report))
		} else {
			a.printTried(report)
		}
		if !report.OK() {
			return quiet(exitOther)
		}
		return nil
	}
	return cmd
}

// seconds is a point of the timeline, aligned.
func seconds(d time.Duration) string { return fmt.Sprintf("%6.2f s", d.Seconds()) }

func tryJSON(r try.Report) tryReply {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	some := func(d time.Duration) *float64 { return some(ms(d)) }
	out := tryReply{
		Schema: schema, OK: r.OK(), Go: &r.Go, Clients: r.Clients, Builds: r.Builds,
		Figures: figuresJSON{
			ConnectedHalf: some(r.ConnectedHalf), ConnectedLast: some(r.ConnectedLast),
			AnsweredHalf: some(r.AnsweredHalf), AnsweredLast: some(r.AnsweredLast),
			Ready: some(r.Ready), AfterKill: some(r.AfterKill),
			PlainCold: some(r.PlainCold), PlainWarm: some(r.PlainWarm), Cold: some(r.Cold), Warm: some(r.Warm),
			Hits: &r.Hits, Misses: &r.Misses,
		},
	}
	for _, c := range r.Checks {
		out.Checks = append(out.Checks, tryCheckJSON{c.OK, c.What, c.Seen})
	}
	for _, e := range r.Events {
		out.Timeline = append(out.Timeline, eventJSON{ms(e.At), e.Text})
	}
	for _, s := range r.Spans {
		out.Spans = append(out.Spans, spanJSON{s.Row, string(s.Kind), ms(s.From), ms(s.To)})
	}
	return out
}

// printTried prints the chart, where there is somebody to look at it, and the
// verdict.
func (a *app) printTried(r try.Report) {
	if a.out.terminal {
		line(a.out.w, "")
		for _, l := range chart(r.Spans, chartWidth) {
			line(a.out.w, l.head+a.out.paint(l.colour, l.bar))
		}
	}
	line(a.out.w, "")
	for _, c := range r.Checks {
		mark, colour := "ok  ", good
		if !c.OK {
			mark, colour = "FAIL", bad
		}
		line(a.out.w, a.out.paint(colour, mark)+"  "+c.What+": "+harmless(c.Seen))
	}
}

// chartWidth is the width of the bars, in columns: with the rows' names they
// fit into 80.
const chartWidth = 60

type chartLine struct{ head, bar, colour string }

// chart draws spans as bars over a common axis, a line for each row in the order
// of their first spans.
func chart(spans []try.Span, width int) []chartLine {
	var end time.Duration
	var rows []string
	bars := map[string][]rune{}
	head := 0
	for _, s := range spans {
		end = max(end, s.To)
		if bars[s.Row] == nil {
			rows = append(rows, s.Row)
			bars[s.Row] = []rune(strings.Repeat(" ", width))
			head = max(head, utf8.RuneCountInString(s.Row))
		}
	}
	if end <= 0 {
		return nil
	}
	column := func(t time.Duration) int { return min(int(t*time.Duration(width)/end), width-1) }
	for _, s := range spans {
		mark := '█'
		if s.Kind == try.Loads {
			mark = '░'
		}
		for i := column(s.From); i <= column(s.To); i++ {
			bars[s.Row][i] = mark
		}
	}
	var lines []chartLine
	for _, r := range rows {
		colour := good
		if strings.HasPrefix(r, "plain") {
			colour = quietly
		}
		lines = append(lines, chartLine{r + strings.Repeat(" ", head-utf8.RuneCountInString(r)+2), strings.TrimRight(string(bars[r]), " "), colour})
	}
	from, to := "0 s", fmt.Sprintf("%.0f s", end.Seconds())
	axis := from + strings.Repeat(" ", max(1, width-len(from)-len(to))) + to
	return append(lines, chartLine{strings.Repeat(" ", head+2), axis, quietly})
}
