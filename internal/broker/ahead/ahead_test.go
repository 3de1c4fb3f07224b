package ahead

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

func TestOrder(t *testing.T) {
	for _, b := range []launch.Become{
		{Path: "/bin/true", Dir: "/", Record: "/r", Argv: []string{"true"}, Env: []string{}},
		{Path: "/bin/true", Dir: "/", Record: "/r", Argv: []string{"", "a\nb", ""}, Env: []string{"A=", "B=\n", "C"},
			Lines: []record.Line{{Key: "phase", Value: "bound"}, {Key: "phase-at", Value: "7"}}},
	} {
		got, ok := decode(encode(b))
		if diff := cmp.Diff(b, got); !ok || diff != "" {
			t.Errorf("%v\n%s", ok, diff)
		}
	}
}

func FuzzOrder(f *testing.F) {
	f.Add(encode(launch.Become{Path: "/p", Argv: []string{"p"}, Env: []string{"A=b"}, Lines: []record.Line{{Key: "k", Value: "v"}}}))
	f.Add([]byte{})
	f.Add([]byte("/p\x00/\x00/r\x00" + "4294967296\x001\x00"))
	f.Add([]byte("/p\x00/\x00/r\x00" + "2\x001\x00"))
	f.Fuzz(func(t *testing.T, order []byte) {
		b, ok := decode(order)
		if !ok {
			return
		}
		if len(b.Argv) == 0 {
			t.Error("nothing to execute")
		}
		again, ok := decode(encode(b))
		if diff := cmp.Diff(b, again); !ok || diff != "" {
			t.Errorf("not stable: %s", diff)
		}
		// Numbers may be written in more than one way; nothing else may be lost.
		if n := bytes.Count(order, []byte{0}); n != 5+2*len(b.Lines)+len(b.Argv)+len(b.Env) {
			t.Errorf("%d strings of %q", n, order)
		}
	})
}

// TestEnviron: the variables that name the daemon's own pid are there if what they
// belong to is (sd_listen_fds(3), sd_watchdog_enabled(3)).
func TestEnviron(t *testing.T) {
	got := environ([]string{"A=1", "FASTBIND_HANDOVER=1\nservice=s", "LISTEN_FDS=1", "WATCHDOG_USEC=5", "Z"}, 42)
	want := "A=1;FASTBIND_HANDOVER=1\nservice=s\npid=42;LISTEN_PID=42;LISTEN_FDS=1;WATCHDOG_PID=42;WATCHDOG_USEC=5;Z"
	if strings.Join(got, ";") != want {
		t.Errorf("%q", got)
	}
	if got := environ([]string{"A=1"}, 42); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
