package activation

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnnouncement(t *testing.T) {
	const pid = 42
	for name, c := range map[string]struct {
		env  map[string]string
		want []string
		err  string
	}{
		"nothing":            {nil, nil, ""},
		"no pid":             {map[string]string{"LISTEN_FDS": "1"}, nil, ""},
		"another's":          {map[string]string{"LISTEN_FDS": "1", "LISTEN_PID": "43"}, nil, ""},
		"another's nonsense": {map[string]string{"LISTEN_FDS": "x", "LISTEN_PID": "43"}, nil, ""},
		"no names":           {map[string]string{"LISTEN_FDS": "2", "LISTEN_PID": "42"}, []string{"unknown", "unknown"}, ""},
		"names":              {map[string]string{"LISTEN_FDS": "3", "LISTEN_PID": "42", "LISTEN_FDNAMES": "control::x"}, []string{"control", "", "x"}, ""},
		"none":               {map[string]string{"LISTEN_FDS": "0", "LISTEN_PID": "42"}, nil, ""},
		"too few names":      {map[string]string{"LISTEN_FDS": "2", "LISTEN_PID": "42", "LISTEN_FDNAMES": "a"}, nil, "1 names for 2"},
		"too many names":     {map[string]string{"LISTEN_FDS": "1", "LISTEN_PID": "42", "LISTEN_FDNAMES": "a:b"}, nil, "2 names for 1"},
		"negative":           {map[string]string{"LISTEN_FDS": "-1", "LISTEN_PID": "42"}, nil, `"-1"`},
		"no number":          {map[string]string{"LISTEN_FDS": "1 ", "LISTEN_PID": "42"}, nil, `"1 "`},
		"too many":           {map[string]string{"LISTEN_FDS": strconv.Itoa(MaxSockets + 1), "LISTEN_PID": "42"}, nil, "at most"},
		"a long one":         {map[string]string{"LISTEN_FDS": strings.Repeat("9", 1000), "LISTEN_PID": "42"}, nil, "999…"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := announcement(func(v string) string { return c.env[v] }, pid)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want one with %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInterval(t *testing.T) {
	for name, c := range map[string]struct {
		usec, pid string
		want      time.Duration
		err       bool
	}{
		"nothing":   {"", "", 0, false},
		"a minute":  {"60000000", "42", time.Minute, false},
		"no pid":    {"1", "", time.Microsecond, false},
		"another's": {"60000000", "43", 0, false},
		"zero":      {"0", "42", 0, true},
		"negative":  {"-1", "42", 0, true},
		"nonsense":  {"1s", "42", 0, true},
		"overflow":  {"9223372036854775807", "42", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}
			got, err := interval(func(v string) string { return env[v] }, 42)
			if got != c.want || (err != nil) != c.err {
				t.Error(got, err)
			}
		})
	}
}

// FuzzAnnouncement: whatever the variables say, there are as many names as
// descriptors, and boundedly many; an error is one bounded line.
func FuzzAnnouncement(f *testing.F) {
	f.Add("2", "control:web", "60000000")
	f.Add("2", "", "x")
	f.Add("99999999", ":", "-1")
	f.Fuzz(func(t *testing.T, fds, names, usec string) {
		env := map[string]string{"LISTEN_FDS": fds, "LISTEN_FDNAMES": names, "LISTEN_PID": "42", "WATCHDOG_USEC": usec}
		get := func(v string) string { return env[v] }
		list, err := announcement(get, 42)
		if len(list) > MaxSockets || err != nil && list != nil {
			t.Errorf("%d names, %v", len(list), err)
		}
		if n, e := strconv.Atoi(fds); err == nil && fds != "" && (e != nil || n != len(list)) {
			t.Errorf("%q is %d names", fds, len(list))
		}
		d, werr := interval(get, 42)
		if d < 0 || werr != nil && d != 0 {
			t.Error(d, werr)
		}
		for _, err := range []error{err, werr} {
			if err != nil && (len(err.Error()) > 512 || strings.ContainsAny(err.Error(), "\n\r")) {
				t.Errorf("%d bytes: %v", len(err.Error()), err)
			}
		}
	})
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"4 services":                   "4 services",
		"two\nlines\tand\x7fmore":      "two lines and more",
		"bad \xff byte":                "bad ? byte",
		strings.Repeat("ü", 200):       strings.Repeat("ü", maxStatus/2),
		strings.Repeat("x", 255) + "ü": strings.Repeat("x", 255),
	} {
		if got := line(in); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
}

// TestNobody: without a manager everything succeeds and nothing is said.
func TestNobody(t *testing.T) {
	var m Manager
	for _, err := range []error{m.Ready("x"), m.Status("x"), m.Alive(), m.Stopping(), m.Keep("x", nil), m.Drop("x")} {
		if err != nil {
			t.Error(err)
		}
	}
	if env := m.Environ(); len(env) > 0 {
		t.Errorf("%q", env)
	}
	for _, name := range []string{"", "a:b", "a\n", "ü", strings.Repeat("x", 256)} {
		if m.Keep(name, nil) == nil || m.Drop(name) == nil {
			t.Errorf("%q names a descriptor", name)
		}
	}
}

// TestEnviron: what a process passes on to the program that it becomes is what it
// was told itself.
func TestEnviron(t *testing.T) {
	m := Manager{address: "/run/notify", Watchdog: time.Minute}
	want := []string{"NOTIFY_SOCKET=/run/notify", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid()), "WATCHDOG_USEC=60000000"}
	if diff := cmp.Diff(want, m.Environ()); diff != "" {
		t.Error(diff)
	}
}
