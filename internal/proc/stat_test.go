package proc

import (
	"strings"
	"testing"
)

// tail is what follows a name whose process started at tick 4711.
const tail = " S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 8192 33\n"

func TestParseStat(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		pid      int
		start    uint64
		ok       bool
	}{
		{"plain", "7 (sh)" + tail, 7, 4711, true},
		{"empty name", "7 ()" + tail, 7, 4711, true},
		{"spaces", "7 (a b c)" + tail, 7, 4711, true},
		{"parentheses", "7 ((a) (b)))" + tail, 7, 4711, true},
		{"forged fields", "7 (x) R 1 1 1 1 1)" + tail, 7, 4711, true},
		{"forged line", "7 (x) S\n8 (y)" + tail, 7, 4711, true},
		{"largest", "2147483647 (x)" + strings.Replace(tail, "4711", "18446744073709551615", 1), 2147483647, 1<<64 - 1, true},
		{"nothing", "", 0, 0, false},
		{"no name", "7 " + tail, 0, 0, false},
		{"no pid", "(sh)" + tail, 0, 0, false},
		{"pid too large", "2147483648 (sh)" + tail, 0, 0, false},
		{"negative pid", "-7 (sh)" + tail, 0, 0, false},
		{"reversed", "7 )sh(" + tail, 0, 0, false},
		{"start too large", "7 (sh)" + strings.Replace(tail, "4711", "18446744073709551616", 1), 0, 0, false},
		{"cut before", "7 (sh)" + tail[:strings.Index(tail, " 4711")], 0, 0, false},
		{"cut within", "7 (sh)" + tail[:strings.Index(tail, "11 8192")], 0, 0, false},
		{"cut at the end", "7 (sh)" + tail[:strings.Index(tail, " 8192")], 0, 0, false},
	} {
		pid, start, err := parseStat([]byte(tc.in))
		if pid != tc.pid || start != tc.start || (err == nil) != tc.ok {
			t.Errorf("%s: %d, %d, %v; want %d, %d", tc.name, pid, start, err, tc.pid, tc.start)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (sh)" + tail))
	f.Add([]byte("7 (x) R 1 1 1 1 1)" + tail))
	f.Add([]byte(") ( "))
	f.Fuzz(func(t *testing.T, b []byte) {
		pid, _, err := parseStat(b)
		if err == nil && pid < 0 {
			t.Errorf("pid %d", pid)
		}
		// Whatever a process calls itself, its fields stay those of the kernel.
		pid, start, err := parseStat([]byte("7 (" + string(b) + ")" + tail))
		if pid != 7 || start != 4711 || err != nil {
			t.Errorf("name %q: %d, %d, %v", b, pid, start, err)
		}
	})
}
