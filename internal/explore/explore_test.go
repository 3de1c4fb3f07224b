package explore

import (
	"strings"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	for _, c := range []Config{
		{Clients: 1, NoUpgrade: true, Backlog: 2},
		{Clients: 2, NoUpgrade: true, Backlog: 2},
		{Clients: 2, NoUpgrade: true, Backlog: 1, Kills: 1, Idles: 1, Strays: 1, Failures: 1},
		{Clients: 2, NoUpgrade: true, Backlog: 1, Deletions: 1},
		{Clients: 1, Backlog: 1, Warm: true, Kills: 1, Idles: 1, Failures: 1},
		{Clients: 1, Backlog: 1, Warm: true, Kills: 1, Idles: 1, Failures: 1, Deletions: 1},
	} {
		began := time.Now()
		r := Run(c)
		t.Logf("%+v: %d states %d edges depth %d fixed %v in %v: %+v\n%s", c, r.States, r.Edges, r.Depth, r.Fixed, time.Since(began), r.Outcome, strings.Join(r.Trace, "\n"))
	}
}
