package broker

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/definition"
)

// TestWiden: the table has room (FDSize in proc_pid_status(5)), and nothing stays open.
// Beyond the limit of open files nothing happens.
func TestWiden(t *testing.T) {
	size := func() int {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "FDSize:")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, had := size(), open()
	widen(1 << 30)
	if n := size(); n != before {
		t.Errorf("%d of 1<<30 made it %d", before, n)
	}
	widen(before)
	if n := size(); n < 2*before {
		t.Errorf("%d descriptors more made it %d after %d", before, n, before)
	}
	if n := open(); n != had {
		t.Errorf("%d open, %d before", n, had)
	}
}

func TestDescriptorsOf(t *testing.T) {
	services := []Service{
		{Definition: definition.Definition{Foreign: true}},
		{Definition: definition.Definition{Foreign: true, Endpoints: []string{"a", "b", "c"}}},
		{},
	}
	if n := descriptorsOf(services); n != 7 {
		t.Errorf("a plain daemon, one with three further endpoints and a backend: %d descriptors", n)
	}
}
