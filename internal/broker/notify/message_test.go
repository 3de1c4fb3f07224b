package notify

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func status(s string) *string { return &s }

func every(d time.Duration) *time.Duration { return &d }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Message
		err  error
	}{
		{"READY=1", Message{State: Ready}, nil},
		{"READY=1\n", Message{State: Ready}, nil},
		{"READY=1\x00", Message{State: Ready}, nil},
		{"\n\nREADY=1\n\n", Message{State: Ready}, nil},
		{"RELOADING=1\nMONOTONIC_USEC=1500", Message{State: Reloading, Monotonic: 1500 * time.Microsecond}, nil},
		{"STOPPING=1\nSTATUS=bye", Message{State: Stopping, Status: status("bye")}, nil},
		{"RELOADING=1\nREADY=1", Message{State: Ready}, nil},
		{"READY=1\nSTOPPING=1", Message{State: Stopping}, nil},
		{"READY=0", Message{Problem: "READY=0: only 1 is defined"}, nil},
		{"READY=\nSTATUS=x", Message{Status: status("x"), Problem: "READY=: only 1 is defined"}, nil},
		{"STATUS=", Message{Status: status("")}, nil},
		{"STATUS=66% of a=b", Message{Status: status("66% of a=b")}, nil},
		{"STATUS=a\nSTATUS=b", Message{Status: status("b")}, nil},
		{"STATUS=a\tb\x1b[31mc\r\x7f\u202e\u200b\xff\u00e9", Message{Status: status("a b\ufffd[31mc\ufffd\ufffd\ufffd\ufffd\ufffd\u00e9")}, nil},
		{"ERRNO=2\nBUSERROR=org.freedesktop.DBus.Error.TimedOut\nVARLINKERROR=org.varlink.service.InvalidParameter",
			Message{Errno: 2, BusError: "org.freedesktop.DBus.Error.TimedOut", VarlinkError: "org.varlink.service.InvalidParameter"}, nil},
		{"ERRNO=0", Message{Problem: "ERRNO=0: no error number"}, nil},
		{"ERRNO=4095", Message{Errno: 4095}, nil},
		{"ERRNO=4096", Message{Problem: "ERRNO=4096: no error number"}, nil},
		{"ERRNO=-2", Message{Problem: "ERRNO=-2: no error number"}, nil},
		{"BUSERROR=a b", Message{Problem: "BUSERROR=a b: no name of an error"}, nil},
		{"VARLINKERROR=", Message{Problem: "VARLINKERROR=: no name of an error"}, nil},
		{"MAINPID=4711", Message{MainPID: 4711}, nil},
		{"MAINPID=1", Message{Problem: "MAINPID=1: no process of a daemon"}, nil},
		{"MAINPID=+7", Message{Problem: "MAINPID=+7: no process of a daemon"}, nil},
		{"MAINPID=2147483648", Message{Problem: "MAINPID=2147483648: no process of a daemon"}, nil},
		{"WATCHDOG=1", Message{Pulse: Alive}, nil},
		{"WATCHDOG=trigger", Message{Pulse: Trigger}, nil},
		{"WATCHDOG=2", Message{Problem: "WATCHDOG=2: only 1 and trigger are defined"}, nil},
		{"WATCHDOG_USEC=20000000", Message{WatchdogEvery: every(20 * time.Second)}, nil},
		{"WATCHDOG_USEC=0", Message{WatchdogEvery: every(0)}, nil},
		{"EXTEND_TIMEOUT_USEC=5000000", Message{ExtendBy: 5 * time.Second}, nil},
		{"EXTEND_TIMEOUT_USEC=9223372036854775", Message{ExtendBy: 9223372036854775 * time.Microsecond}, nil},
		{"EXTEND_TIMEOUT_USEC=9223372036854776", Message{Problem: "EXTEND_TIMEOUT_USEC=9223372036854776: more than 292 years"}, nil},
		{"EXTEND_TIMEOUT_USEC=18446744073709551615", Message{Problem: "EXTEND_TIMEOUT_USEC=18446744073709551615: more than 292 years"}, nil},
		{"EXTEND_TIMEOUT_USEC=18446744073709551616", Message{Problem: "EXTEND_TIMEOUT_USEC=18446744073709551616: more than 292 years"}, nil},
		{"EXTEND_TIMEOUT_USEC=5s", Message{Problem: "EXTEND_TIMEOUT_USEC=5s: no number of microseconds"}, nil},
		{"BARRIER=1", Message{Barrier: true}, nil},
		{"BARRIER=1\n", Message{Barrier: true}, nil},
		{"BARRIER=1\nREADY=1", Message{}, ErrBarrier},
		{"X\nBARRIER=1", Message{}, ErrBarrier},
		{"BARRIER=0", Message{Problem: "BARRIER=0: only 1 is defined"}, nil},
		{"FDSTORE=1\nFDNAME=cache", Message{Stores: true}, nil},
		{"FOO=bar\nX_ACME_STATE=1\nnonsense\n=\nREADY=1", Message{State: Ready}, nil},
		{"READY=1 ", Message{Problem: "READY=1 : only 1 is defined"}, nil},
		{"ready=1", Message{}, nil},
		{"\x1b=", Message{}, nil},
		{"WATCHDOG=\x1b[2J", Message{Problem: "WATCHDOG=\ufffd[2J: only 1 and trigger are defined"}, nil},
		{"", Message{}, ErrEmpty},
		{"\x00", Message{}, ErrEmpty},
		{"READY=1\x00\x00", Message{}, ErrNUL},
		{"READY=1\x00STATUS=x", Message{}, ErrNUL},
		{"STATUS=" + strings.Repeat("x", MaxMessage-7), Message{Status: status(strings.Repeat("x", MaxStatus-3) + "…")}, nil},
		{"STATUS=" + strings.Repeat("x", MaxMessage-6), Message{}, ErrTooLong},
		{"STATUS=" + strings.Repeat("x", MaxStatus), Message{Status: status(strings.Repeat("x", MaxStatus))}, nil},
		{"STATUS=x" + strings.Repeat("é", MaxStatus), Message{Status: status("x" + strings.Repeat("é", (MaxStatus-4)/2) + "…")}, nil},
		{"BUSERROR=" + strings.Repeat("x", 255), Message{BusError: strings.Repeat("x", 255)}, nil},
		{"BUSERROR=" + strings.Repeat("x", 256), Message{Problem: "BUSERROR=" + strings.Repeat("x", 243) + "…: no name of an error"}, nil},
	} {
		m, err := Parse([]byte(c.text))
		if diff := cmp.Diff(c.want, m); diff != "" || err != c.err {
			t.Errorf("%.60q: %v (-want +got):\n%s", c.text, err, diff)
		}
	}
}

// FuzzParse: no text of a daemon's does harm, whatever it says.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"READY=1\nSTATUS=up\nMAINPID=7", "BARRIER=1", "WATCHDOG=trigger\nWATCHDOG_USEC=1", "STATUS=\xff\x1b[0m\u202e",
		"RELOADING=1\nMONOTONIC_USEC=18446744073709551615", "ERRNO=2\nBUSERROR=a.b\nEXTEND_TIMEOUT_USEC=1\nFDSTORE=1\n\x00",
		"STATUS=" + strings.Repeat("é", 300),
	} {
		f.Add([]byte(s))
	}
	harmless := func(t *testing.T, s string, max int) {
		if len(s) > max || !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x1b\x00\t\u202e") {
			t.Fatalf("%q", s)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			if m != (Message{}) {
				t.Fatalf("%v with %+v", err, m)
			}
			return
		}
		if m.Status != nil {
			harmless(t, *m.Status, MaxStatus)
		}
		harmless(t, m.Problem, maxName+100)
		harmless(t, m.BusError, maxName)
		harmless(t, m.VarlinkError, maxName)
		if m.MainPID < 0 || m.ExtendBy < 0 || m.Monotonic < 0 || m.Errno > maxErrno || m.WatchdogEvery != nil && *m.WatchdogEvery < 0 {
			t.Fatalf("%+v", m)
		}
		if m.Barrier && (m.State != Silent || m.Status != nil || m.MainPID != 0) {
			t.Fatalf("a barrier that says more: %+v", m)
		}
		// Nothing but the text decides, and its last line does not need an end.
		if !strings.HasSuffix(string(text), "\x00") && len(text) < MaxMessage {
			again, err := Parse(append(text, '\n'))
			if diff := cmp.Diff(m, again); diff != "" || err != nil {
				t.Fatalf("with a newline: %v\n%s", err, diff)
			}
		}
	})
}
