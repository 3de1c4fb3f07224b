//go:build !windows

package handover

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/record"
)

func full() Handover {
	return Handover{
		Service: "gocache", Instance: "ci", Generation: 4711,
		Dir: "/home/é b/.local/state/fastbind/run/ci/gocache", Addr: "/tmp/fastbind-0/.alias/x=y", GenDir: "4711.0123456789abcdef", Succeeds: "4710.0123456789abcdef",
		Inode:  record.Inode{Dev: 66306, Ino: 1 << 40},
		Listen: 3, Control: 4, Life: 5, Further: []Further{{"admin", 6}, {"m-1", 7}}, PID: 1234, Version: "1.2.3 (dirty)", StopWithin: 90 * time.Second, IdleExit: 5 * time.Minute,
	}
}

const golden = `1
service=gocache
instance=ci
generation=4711
dir=/home/é b/.local/state/fastbind/run/ci/gocache
addr=/tmp/fastbind-0/.alias/x=y
gendir=4711.0123456789abcdef
succeeds=4710.0123456789abcdef
inode=66306:1099511627776
listen=3
control=4
life=5
further=admin:6
further=m-1:7
pid=1234
version=1.2.3 (dirty)
stop_within=1m30s
idle_exit=5m0s`

// TestGolden: a tool's release and a daemon's need not be the same.
func TestGolden(t *testing.T) {
	if diff := cmp.Diff(golden, full().Encode()); diff != "" {
		t.Errorf("format 1 has changed (-want +got):\n%s", diff)
	}
	h, err := Decode(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A shell adds a line, a later release its keys; the last of a key counts.
	h, err = Decode(golden + "\npid=77\nflavour=vanilla\nodd\n=\n")
	want := full()
	want.PID = 77
	if diff := cmp.Diff(want, h); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got := full().GenPath(); got != "/home/é b/.local/state/fastbind/run/ci/gocache/4711.0123456789abcdef" {
		t.Errorf("path %q", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"", `FASTBIND_HANDOVER has format ""; this release takes format 1`},
		{"2" + golden[1:], `FASTBIND_HANDOVER has format "2"; this release takes format 1`},
		{"1.0" + golden[1:], `FASTBIND_HANDOVER has format "1.0"; this release takes format 1`},
		{"nonsense", `FASTBIND_HANDOVER has format "nonsense"; this release takes format 1`},
		{"1", "FASTBIND_HANDOVER is incomplete"},
		{strings.Replace(golden, "service=", "x=", 1), "FASTBIND_HANDOVER is incomplete"},
		{strings.Replace(golden, "gendir=", "x=", 1), "FASTBIND_HANDOVER is incomplete"},
		{strings.Replace(golden, "\ndir=/", "\ndir=", 1), "FASTBIND_HANDOVER is incomplete"},
		{strings.Replace(golden, "addr=/", "addr=", 1), "FASTBIND_HANDOVER is incomplete"},
		// Never adopt what no broker hands over: standard output, say.
		{golden + "\nlisten=2", "FASTBIND_HANDOVER: listen: no descriptor that a broker hands over"},
		{golden + "\ncontrol=-1", "FASTBIND_HANDOVER: control: no descriptor that a broker hands over"},
		{golden + "\nlife=0", "FASTBIND_HANDOVER: life: no descriptor that a broker hands over"},
		{golden + "\nfurther=x", `FASTBIND_HANDOVER: further: strconv.Atoi: parsing "": invalid syntax`},
		{golden + "\nlife=", `FASTBIND_HANDOVER: life: strconv.Atoi: parsing "": invalid syntax`},
		{golden + "\npid=x", `FASTBIND_HANDOVER: pid: strconv.Atoi: parsing "x": invalid syntax`},
		{golden + "\ngeneration=-1", `FASTBIND_HANDOVER: generation: strconv.ParseUint: parsing "-1": invalid syntax`},
		{golden + "\ninode=1", `FASTBIND_HANDOVER: inode: strconv.ParseUint: parsing "": invalid syntax`},
		{golden + "\nstop_within=5", `FASTBIND_HANDOVER: stop_within: time: missing unit in duration "5"`},
		{golden + strings.Repeat("\nx=y", 10000), "FASTBIND_HANDOVER is longer than 32 KiB"},
	} {
		if _, err := Decode(c.value); err == nil || err.Error() != c.want {
			t.Errorf("%.40q…: %v, want %s", c.value[:min(len(c.value), 40)], err, c.want)
		}
	}
	if _, err := Decode(golden + "\nlife=21"); err != nil {
		t.Error(err)
	}
}

func TestRoundTrip(t *testing.T) {
	text := rapid.StringMatching(`[^\x00\n]{0,20}`)
	name := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,31}`)
	fd := rapid.SampledFrom([]int{None, 3, 4, 5, 21})
	rapid.Check(t, func(t *rapid.T) {
		want := Handover{
			Service: "s" + text.Draw(t, "service"), Instance: text.Draw(t, "instance"), Generation: rapid.Uint64().Draw(t, "generation"),
			Dir: "/" + text.Draw(t, "dir"), Addr: "/" + text.Draw(t, "addr"), GenDir: "g" + text.Draw(t, "gendir"),
			Inode:  record.Inode{Dev: rapid.Uint64().Draw(t, "dev"), Ino: rapid.Uint64().Draw(t, "ino")},
			Listen: fd.Draw(t, "listen"), Control: fd.Draw(t, "control"), Life: fd.Draw(t, "life"),
			PID: int(rapid.Int32().Draw(t, "pid")), Version: text.Draw(t, "version"), StopWithin: time.Duration(rapid.Int64().Draw(t, "stop within")), IdleExit: time.Duration(rapid.Int64().Draw(t, "idle exit")),
		}
		for range rapid.IntRange(0, 16).Draw(t, "further endpoints") {
			want.Further = append(want.Further, Further{name.Draw(t, "name"), rapid.IntRange(FirstFD, 1<<20).Draw(t, "fd")})
		}
		got, err := Decode(want.Encode())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(golden)
	f.Add("1\nlisten=3\nlisten=")
	f.Add("2\n")
	f.Add(golden + "\nfurther=:3")
	f.Add("1\nservice=a\ndir=/\naddr=/\ngendir=g\nstop_within=-1ns\ninode=0:0\npid=0")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := Decode(s)
		if err != nil {
			return
		}
		fds := []int{h.Listen, h.Control, h.Life}
		for _, f := range h.Further {
			fds = append(fds, f.FD)
		}
		for _, fd := range fds {
			if fd != None && fd < FirstFD {
				t.Fatalf("descriptor %d", fd)
			}
		}
		again, err := Decode(h.Encode())
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v, then %+v (%v)", h, again, err)
		}
	})
}
