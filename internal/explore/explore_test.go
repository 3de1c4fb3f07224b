package explore

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	var cs []Config
	if err := json.Unmarshal([]byte(os.Getenv("CS")), &cs); err != nil {
		t.Fatal(err)
	}
	for _, c := range cs {
		began := time.Now()
		c.Warm, c.Backlog = true, 1
		r := Run(c)
		t.Logf("%+v: %d states %d edges depth %d fixed %v in %v: %+v\n%s", c, r.States, r.Edges, r.Depth, r.Fixed, time.Since(began), r.Outcome, strings.Join(r.Trace, "\n"))
	}
}
