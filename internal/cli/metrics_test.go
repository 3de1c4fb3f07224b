package cli

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/broker/wire"
)

var updateMetrics = flag.Bool("update-metrics", false, "write testdata/metrics.txt instead of comparing with it")

// Every family, with and without what may be missing, and what has to be escaped.
func TestMetricsText(t *testing.T) {
	memory, waiting, connections := int64(1<<20), 2, 3
	at := time.Date(2026, 5, 4, 3, 2, 1, 500e6, time.UTC)
	rows := []topRow{
		{view: view{name: "gocache", instance: "ci", known: true, alive: true, phase: "ready", pid: 7, started: at, connections: &connections},
			seen: &wire.Service{Name: "gocache", Holding: true, Memory: &memory, Waiting: &waiting}},
		{view: view{name: "web", instance: "ci", variant: "+v1", known: true, phase: "failed"}},
		{view: view{name: "defined", instance: "ci"}},
	}
	counted := &wire.Metrics{Since: at, BoundsUS: []int64{500, 1000, 2500000, 60000000}, Services: []wire.Counts{
		{Service: "gocache", Launches: 5, Restarts: 2, Failures: []wire.Failures{{Stage: "load", Count: 1}, {Stage: "a\\b\"c\nd", Count: 18446744073709551615}},
			Launch: wire.Histogram{Counts: []uint64{1, 2, 0, 1, 1}, SumUS: 63000000}, Ready: wire.Histogram{Counts: make([]uint64, 5)}},
		{Service: "later", Launch: wire.Histogram{Counts: []uint64{1}}, Ready: wire.Histogram{}},
	}}
	a := &app{instance: "ci"}
	var e exposition
	e.broker(&topView{a: a, broker: true}, counted)
	e.services(rows)
	e.counts("ci", counted)
	const golden = "testdata/metrics.txt"
	if *updateMetrics {
		if err := os.WriteFile(golden, []byte(e.text()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), e.text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
