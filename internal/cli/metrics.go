package cli

import (
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/record"
)

func (a *app) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print counters and gauges of services in OpenMetrics text",
		Long: `Print what can be measured of the services of the instance in the text format of
OpenMetrics 1.0, for a collector: of each service its phase, connections and, if a
broker lives, waiting connections, memory, launches, failures by stage, restarts,
and histograms of the time from launch to process, and from process to ready.

Counters begin with the broker. Without one there are the gauges that can be seen
without. --json changes nothing: the format is the collector's.`,
		Example:           `  fastbind metrics > /var/lib/node_exporter/fastbind.prom`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := &topView{a: a}
			if err := t.look(cmd.Context()); err != nil {
				return err
			}
			var counted *wire.Metrics
			if t.broker {
				t.silent = a.askLiving(cmd.Context(), func(ctx context.Context, c *wire.Client) error {
					m, err := c.Metrics(ctx)
					if err == nil {
						counted = &m
					}
					return err
				})
				t.broker = counted != nil
			}
			t.warn() // a collector sees that fastbind_broker_up is 0
			a.streamed.Store(true)
			var e exposition
			e.broker(t, counted)
			e.services(t.rows)
			if counted != nil {
				e.counts(a.instance, counted)
			}
			_, err := io.WriteString(a.out.w, e.text())
			return err
		},
	}
}

// An exposition is text of OpenMetrics 1.0: families, each with its type, its unit if
// it has one, its help, and then its samples.
type exposition struct{ b strings.Builder }

func (e *exposition) text() string { return e.b.String() + "# EOF\n" }

// family begins one. The unit is also the end of the name.
func (e *exposition) family(name, kind, unit, help string) {
	e.b.WriteString("# TYPE " + name + " " + kind + "\n")
	if unit != "" {
		e.b.WriteString("# UNIT " + name + " " + unit + "\n")
	}
	e.b.WriteString("# HELP " + name + " " + escaped(help) + "\n")
}

// labels are pairs of a name and a value.
type labels []string

func (e *exposition) sample(name string, l labels, value string) {
	e.b.WriteString(name)
	for i := 0; i+1 < len(l); i += 2 {
		e.b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + l[i] + `="` + escaped(l[i+1]) + `"`)
	}
	if len(l) > 0 {
		e.b.WriteByte('}')
	}
	e.b.WriteString(" " + value + "\n")
}

// escaped escapes what the format's strings do.
func escaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

// real writes a number as the format wants it for the bound of a bucket: with a point.
func real(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

func truth(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (e *exposition) broker(t *topView, counted *wire.Metrics) {
	in := labels{"instance", t.a.instance}
	e.family("fastbind_broker_up", "gauge", "", "Whether a standing broker lives, and answers.")
	e.sample("fastbind_broker_up", in, truth(t.broker))
	if counted != nil {
		e.family("fastbind_broker_start_time_seconds", "gauge", "seconds", "When the broker began, since 1970; counters begin then.")
		e.sample("fastbind_broker_start_time_seconds", in, unixSeconds(counted.Since))
		e.quota(in, counted.Quota)
	}
}

// quota has what is set, and what cannot be kept of it.
func (e *exposition) quota(in labels, q *wire.Quota) {
	if q == nil {
		return
	}
	one := func(name, unit, help string, n uint64) {
		e.family(name, "gauge", unit, help)
		e.sample(name, in, strconv.FormatUint(n, 10))
	}
	if q.Daemons > 0 {
		one("fastbind_broker_quota_daemons", "", "How many daemons may run (max_daemons).", uint64(q.Daemons))
		one("fastbind_broker_excess_daemons", "", "How many more run, since they are in use.", uint64(max(q.ExcessDaemons, 0)))
	}
	if q.Memory > 0 {
		one("fastbind_broker_quota_memory_bytes", "bytes", "What memory the daemons may have together (max_memory).", q.Memory)
		one("fastbind_broker_excess_memory_bytes", "bytes", "How much more they have, since they are in use.", q.ExcessMemory)
	}
}

func unixSeconds(at time.Time) string {
	return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64)
}

// phases are the states of the stateset, in their order.
var phases = []record.Phase{record.Launching, record.Bound, record.Loading, record.Ready, record.Draining, record.Gone, record.Failed}

func (r topRow) labels() labels {
	l := labels{"instance", r.instance, "service", r.name}
	if r.variant != "" {
		l = append(l, "variant", r.variant)
	}
	return l
}

// A gauge is one of each service; the value is "" where it is not known.
type gauge struct {
	name, unit, help string
	value            func(topRow) string
}

var gauges = []gauge{
	{"fastbind_service_up", "", "Whether a generation lives.", func(r topRow) string { return truth(r.alive) }},
	{"fastbind_service_held", "", "Whether the broker has the listener.", func(r topRow) string {
		if r.seen == nil {
			return ""
		}
		return truth(r.seen.Holding)
	}},
	{"fastbind_service_start_time_seconds", "seconds", "When the generation was launched, since 1970.", func(r topRow) string {
		if !r.alive || r.started.IsZero() {
			return ""
		}
		return unixSeconds(r.started)
	}},
	{"fastbind_service_connections", "", "Clients that are served, as the daemon says.", func(r topRow) string { return count(r.connections) }},
	{"fastbind_service_waiting_connections", "", "Connections that nobody has accepted.", func(r topRow) string {
		if r.seen == nil {
			return ""
		}
		return count(r.seen.Waiting)
	}},
	{"fastbind_service_memory_bytes", "bytes", "Memory of the service's cgroup, or resident memory of its main process.", func(r topRow) string {
		if r.seen == nil || r.seen.Memory == nil {
			return ""
		}
		return strconv.FormatInt(*r.seen.Memory, 10)
	}},
}

func (e *exposition) services(rows []topRow) {
	if slices.ContainsFunc(rows, func(r topRow) bool { return r.known }) {
		const name = "fastbind_service_phase"
		e.family(name, "stateset", "", "The phase of the newest generation.")
		for _, r := range rows {
			for _, p := range phases {
				if r.known {
					e.sample(name, append(r.labels(), name, string(p)), truth(r.view.phase == string(p)))
				}
			}
		}
	}
	for _, g := range gauges {
		begun := false
		for _, r := range rows {
			v := g.value(r)
			if v == "" {
				continue
			}
			if !begun {
				e.family(g.name, "gauge", g.unit, g.help)
				begun = true
			}
			e.sample(g.name, r.labels(), v)
		}
	}
}

// counts are the broker's counters and histograms.
func (e *exposition) counts(instance string, m *wire.Metrics) {
	if len(m.Services) == 0 {
		return
	}
	of := func(c wire.Counts) labels { return labels{"instance", instance, "service", c.Service} }
	each := func(name, kind, unit, help string, sample func(name string, c wire.Counts)) {
		e.family(name, kind, unit, help)
		for _, c := range m.Services {
			sample(name, c)
		}
	}
	each("fastbind_service_launches", "counter", "", "Processes that were started.", func(name string, c wire.Counts) {
		e.sample(name+"_total", of(c), strconv.FormatUint(c.Launches, 10))
	})
	each("fastbind_service_restarts", "counter", "", "Launches that followed a failure.", func(name string, c wire.Counts) {
		e.sample(name+"_total", of(c), strconv.FormatUint(c.Restarts, 10))
	})
	each("fastbind_service_failures", "counter", "", "Launches that came to nothing and generations that failed, by stage.", func(name string, c wire.Counts) {
		for _, f := range c.Failures {
			e.sample(name+"_total", append(of(c), "stage", f.Stage), strconv.FormatUint(f.Count, 10))
		}
	})
	each("fastbind_service_launch_seconds", "histogram", "seconds", "From the decision to launch until there was a process.", func(name string, c wire.Counts) {
		e.histogram(name, of(c), m.BoundsUS, c.Launch)
	})
	each("fastbind_service_ready_seconds", "histogram", "seconds", "From then until it was ready.", func(name string, c wire.Counts) {
		e.histogram(name, of(c), m.BoundsUS, c.Ready)
	})
}

// histogram writes buckets that count those below, as the format has them. One of
// another release, whose buckets are not those of its bounds, is left out.
func (e *exposition) histogram(name string, l labels, boundsUS []int64, h wire.Histogram) {
	if len(h.Counts) != len(boundsUS)+1 {
		return
	}
	var below uint64
	for i, n := range h.Counts {
		below += n
		bound := "+Inf"
		if i < len(boundsUS) {
			bound = real(float64(boundsUS[i]) / 1e6)
		}
		e.sample(name+"_bucket", append(slices.Clone(l), "le", bound), strconv.FormatUint(below, 10))
	}
	e.sample(name+"_count", l, strconv.FormatUint(below, 10))
	e.sample(name+"_sum", l, real(float64(h.SumUS)/1e6))
}
