package record

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/definition"

	"github.com/fastbind/fastbind/internal/reexec"
)

var update = flag.Bool("update", false, "write testdata/golden/current")

// full is a record with a value in every field, as a launcher, a daemon and who
// saw it die make one.
func full() Record {
	return Record{
		Generation: 4711, Launcher: 1200,
		Definition: definition.Definition{
			Service: "gocache", Instance: "ci", Command: []string{"/usr/bin/gocached", "", "-v", `say "hi"`}, Self: true, Foreign: true,
			Bind: definition.BindDaemon, Dir: "/srv", Env: []string{"GOFLAGS", "A=b c"}, EnvPolicy: definition.EnvRefuse,
			FDEnv: []string{"F={fd}"}, Version: "1.2.3",
			BoundWithin: 500 * time.Millisecond, AdoptWithin: 10 * time.Second, StopWithin: time.Minute,
		},
		Launched: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC), LaunchedBoot: 86400 * time.Second,
		BootID: "5f0c4a6e-6b1c-4b6e-9a55-0d1c3a1b2c3d", PIDNamespace: "4026531836",
		Log: "/home/é/.local/state/fastbind/ci/gocache.log", LogOffset: 1024,
		Inode:     Inode{Dev: 66306, Ino: 1 << 40},
		Variables: []Variable{{"HOME", "0123456789abcdef"}, {"LC_ODD NAME", "fedcba9876543210"}},
		PID:       1234, Start: 8640012, Version: "1.2.3", BuildID: "go:abc/def",
		Executable: Executable{Path: "/usr/bin/gocached", Inode: Inode{Dev: 66306, Ino: 77}, Size: 3 << 20, MTimeNS: 1767322800000000001},
		Backend:    true, ByHand: true,
		Phase: Failed, PhaseAt: 86405 * time.Second, WasReady: true, BoundAfter: 1500 * time.Microsecond, Reset: true,
		Failure: &Failure{
			Stage: "bind", Cause: `bind "/run/sock": address already in use`, Kind: "already-bound", Errno: 98, Status: 3, Signal: "killed",
			At: 86405 * time.Second, Time: time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC),
		},
		Unknown: []string{"flavour vanilla", "definition.colour \"red\\n\"", "failed-mood bad", "bare "},
	}
}

// write makes the record's file by the calls that make one in life.
func (r Record) write(t testing.TB, path string) {
	t.Helper()
	launched := r.LaunchedBoot
	var unknown []Line
	for _, u := range r.Unknown {
		k, v, _ := strings.Cut(u, " ")
		if s, err := strconv.Unquote(v); err == nil {
			v = s
		}
		unknown = append(unknown, Line{k, v})
	}
	for _, err := range []error{
		Create(path, LaunchLines(r)),
		Append(path, Int("bound-after", r.BoundAfter)),
		Append(path, IdentityLines(r)...),
		Append(path, PhaseLines(Ready, launched+time.Second)...),
		Append(path, unknown...),
		Append(path, FailureLines(*r.Failure)...),
		Append(path, Line{"reset", "true"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestGolden: the format is what releases share. The file "current" is what
// this one writes; a change of it that an older reader cannot take needs a new
// major version. Frozen files are of releases that were, and keep parsing.
func TestGolden(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	full().write(t, path)
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "golden", "current")
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("the format has changed (-want +got):\n%s", diff)
	}

	frozen := full()
	frozen.Unknown = append(frozen.Unknown, "a-key-of-1.0 that was dropped")
	for name, want := range map[string]Record{"current": full(), "frozen-1": frozen} {
		r, err := Read(filepath.Join("testdata", "golden", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestBrokersLines: what a standing broker adds is read as it was written, the last
// main process counts.
func TestBrokersLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	full().write(t, path)
	limits := []string{"memory 64M: in force, scope", "tasks 100: not in force: \"why\"\nnot"}
	lines := append(LimitLines(`1 scope user "a.scope" "/b/a.scope"`, limits), NotifyLine("/run/x/msg"))
	lines = append(lines, append(MainLines(12, 345), MainLines(67, 0)...)...)
	if err := Append(path, lines...); err != nil {
		t.Fatal(err)
	}
	r, err := Read(path)
	if err != nil || r.Place != `1 scope user "a.scope" "/b/a.scope"` || !slices.Equal(r.Limits, limits) || r.Notify != "/run/x/msg" || r.PID != 67 || r.Start != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if l := LimitLines("", nil); len(l) != 0 {
		t.Errorf("of nothing: %v", l)
	}
}

// TestMajorRefused: an unknown major version is refused naming both.
func TestMajorRefused(t *testing.T) {
	for _, major := range []string{"0", "2", "1.1", "01", "x", "", " 1"} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, []byte("fastbind-record "+major+"\nphase ready\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path)
		var fe *FormatError
		if !errors.As(err, &fe) || fe.Have != major || fe.Supported != "1" {
			t.Errorf("%q: %v", major, err)
			continue
		}
		want := `record format ` + strconv.Quote(major) + ` is not supported by this release, which reads format 1`
		if fe.Error() != want || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", major, err)
		}
	}
	for _, first := range []string{"", "fastbind-record 1", "fastbind-record", "something else\n", "\n", "\x00\x00\n", "fastbind-records 1\n"} {
		_, err := Parse([]byte(first))
		var fe *FormatError
		if err == nil || errors.As(err, &fe) {
			t.Errorf("%q: %v", first, err)
		}
	}
}

func TestReadMissing(t *testing.T) {
	if _, err := Read(filepath.Join(t.TempDir(), FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := Append(filepath.Join(t.TempDir(), FileName), Line{"phase", "ready"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Append to nothing: %v", err)
	}
	path := filepath.Join(t.TempDir(), FileName)
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over another: %v", err)
	}
}

// TestTruncated cuts the record at every byte: a writer that was killed there
// leaves the lines before readable and its own unread (R9).
func TestTruncated(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	full().write(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head := bytes.IndexByte(whole, '\n') + 1
	for n := range whole {
		r, err := Parse(whole[:n])
		if n < head {
			if err == nil {
				t.Fatalf("%q is taken for a record", whole[:n])
			}
			continue
		}
		if err != nil {
			t.Fatalf("cut after %q: %v", whole[max(0, n-20):n], err)
		}
		lines := whole[:bytes.LastIndexByte(whole[:n], '\n')+1]
		if want, err := Parse(lines); err != nil || !cmp.Equal(want, r) {
			t.Fatalf("cut after %q: half a line was read", whole[max(0, n-20):n])
		}
	}
}

// TestAppendAfterTornLine: half a line of a killed writer joins with no line of
// the next one, and is not taken for a whole one, wherever it was cut.
func TestAppendAfterTornLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	full().write(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := bytes.IndexByte(whole, '\n') + 1; n <= len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		want, err := Parse(whole[:n])
		if err != nil {
			t.Fatal(err)
		}
		if err := Append(path, Line{"build-id", "after"}, Line{"ended", "idle"}); err != nil {
			t.Fatal(err)
		}
		want.BuildID, want.Ended = "after", "idle"
		got, err := Read(path)
		if err != nil {
			t.Fatalf("cut after %q: %v", whole[max(0, n-20):n], err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("cut after %q (-want +got):\n%s", whole[max(0, n-20):n], diff)
		}
	}
}

func parse(t testing.TB, lines ...Line) Record {
	t.Helper()
	r, err := Parse(append([]byte("fastbind-record 1\n"), Encode(lines)...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFailureFirstWins: the first report of a failure is kept, later ones fill
// what it could not know: a daemon says why, its launcher adds the exit status.
func TestFailureFirstWins(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	said := Failure{Stage: "load", Cause: "no index", Status: -1, At: 5 * time.Second, Time: at}
	saw := Failure{Stage: "adopt", Cause: "the process ended", Kind: "other", Errno: 5, Status: 3, At: 6 * time.Second, Time: at.Add(time.Second)}
	killed := Failure{Stage: "serve", Cause: "the process ended", Status: -1, Signal: "killed", At: 6 * time.Second, Time: at.Add(time.Second)}
	guessed := Failure{Stage: "adopt", Cause: "the process is gone", Status: -1, Unknown: true, At: time.Second, Time: at.Add(-time.Second)}

	for name, c := range map[string]struct {
		reports []Failure
		want    Failure
	}{
		"alone":                {[]Failure{said}, said},
		"guessed alone":        {[]Failure{guessed}, guessed},
		"said, then seen":      {[]Failure{said, saw}, Failure{Stage: "load", Cause: "no index", Kind: "other", Errno: 5, Status: 3, At: said.At, Time: said.Time}},
		"said, then killed":    {[]Failure{said, killed}, Failure{Stage: "load", Cause: "no index", Status: -1, Signal: "killed", At: said.At, Time: said.Time}},
		"seen, then said":      {[]Failure{saw, said}, saw},
		"said, then guessed":   {[]Failure{said, guessed}, said},
		"seen, then guessed":   {[]Failure{saw, guessed}, saw},
		"guessed, then seen":   {[]Failure{guessed, saw}, Failure{Stage: "adopt", Cause: "the process is gone", Kind: "other", Errno: 5, Status: 3, At: guessed.At, Time: guessed.Time}},
		"guessed, then killed": {[]Failure{guessed, killed}, Failure{Stage: "adopt", Cause: "the process is gone", Status: -1, Signal: "killed", At: guessed.At, Time: guessed.Time}},
		"guessed twice":        {[]Failure{guessed, guessed}, guessed},
	} {
		var lines []Line
		for _, f := range c.reports {
			lines = append(lines, FailureLines(f)...)
		}
		r := parse(t, lines...)
		if diff := cmp.Diff(&c.want, r.Failure); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if r.Phase != Failed {
			t.Errorf("%s: phase %q", name, r.Phase)
		}
	}

	// A reader that sees the phase has seen all the rest.
	lines := FailureLines(saw)
	for i := range lines {
		r := parse(t, lines[:i]...)
		if r.Phase == Failed && !cmp.Equal(r.Failure, &saw) {
			t.Errorf("failed after %d of %d lines, without the reason", i, len(lines))
		}
	}
}

// TestCauseIsOneLine: a panic's value can be of any length and form.
func TestCauseIsOneLine(t *testing.T) {
	for _, c := range []struct{ cause, want string }{
		{"a\nb", "a"},
		{"", ""},
		{strings.Repeat("é", 3000), strings.Repeat("é", maxCause/2) + "…"},
		{"x" + strings.Repeat("é", 3000), "x" + strings.Repeat("é", maxCause/2-1) + "…"},
		{strings.Repeat("y", maxCause), strings.Repeat("y", maxCause)},
	} {
		f := parse(t, FailureLines(Failure{Stage: "load", Cause: c.cause, Status: -1})...).Failure
		if f.Cause != c.want || !utf8.ValidString(f.Cause) {
			t.Errorf("%.20q… is %.20q…, %d bytes", c.cause, f.Cause, len(f.Cause))
		}
	}
}

// TestNumbers: what a number cannot hold is refused, not cut: a pid that lost
// its upper bits is a stranger's (R10).
func TestNumbers(t *testing.T) {
	for _, l := range []string{
		"generation -1", "generation 18446744073709551616", "generation x", "generation ", "generation +1", "generation 1 ",
		"start -1", "pid 9223372036854775808", "pid 1e3", "launched-boot 9223372036854775808", "launched-boot 1s",
		"inode 1", "inode -1:2", "inode 1:2:3", "inode :", "executable-id 1:2:3", "executable-id 1:2:3:4:5", "executable-id a:b:c:d",
		"launched yesterday", "failed-errno -1", "failed-status x", "failed-time 1", "definition.stop_within 5", "phase-at 1.5",
		`boot-id "unterminated`, `boot-id "a" "b"`, `boot-id "\q"`,
	} {
		_, err := Parse([]byte("fastbind-record 1\nphase ready\n" + l + "\n"))
		key, _, _ := strings.Cut(l, " ")
		if err == nil || !strings.HasPrefix(err.Error(), "line 3: "+key+": ") {
			t.Errorf("%q: %v", l, err)
		}
	}
	if strconv.IntSize == 32 {
		if _, err := Parse([]byte("fastbind-record 1\npid 4294967297\n")); err == nil {
			t.Error("a pid lost its upper bits")
		}
	}
	for _, want := range []int64{0, 1, -1, 1<<63 - 1, -1 << 63} {
		if r := parse(t, Int("log-offset", want)); r.LogOffset != want {
			t.Errorf("%d is %d", want, r.LogOffset)
		}
	}
	if r := parse(t, Int("start", uint64(1<<64-1))); r.Start != 1<<64-1 {
		t.Errorf("start %d", r.Start)
	}
}

// TestTimes: what is written is read, and nothing is read other than package time
// reads it.
func TestTimes(t *testing.T) {
	agree := func(t interface{ Errorf(string, ...any) }, s string) {
		got, err := parseTime(s)
		want, werr := time.Parse(time.RFC3339Nano, s)
		if err == nil && (werr != nil || got != want) {
			t.Errorf("%q is %v, want %v, %v", s, got, want, werr)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).UTC()
		s := at.Format(time.RFC3339Nano)
		if got, err := parseTime(s); err != nil || got != at {
			t.Errorf("%q is %v, %v", s, got, err)
		}
		b := []byte(s)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		agree(t, string(b))
	})
	for _, s := range []string{
		"2006-01-02T15:04:05", "2006-01-02T15:04:05+01:00", "2006-02-30T15:04:05Z", "2006-13-02T15:04:05Z", "2006-01-02T24:04:05Z",
		"2006-01-02T15:04:60Z", "2006-01-02t15:04:05Z", "2006-01-02T15:04:05.-1Z", "2006-01-02T15:04:05.Z", "2006-01-02T15:04:05.0123456789xZ",
		"2006-01-02T15:04:05z", "", "Z", "06-01-02T15:04:05Z",
	} {
		agree(t, s)
		if got, err := parseTime(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// TestPhases: the last one counts, having been ready is kept.
func TestPhases(t *testing.T) {
	var lines []Line
	for i, p := range []Phase{Launching, Bound, Loading, Ready, Draining, Gone} {
		lines = append(lines, PhaseLines(p, time.Duration(i))...)
		r := parse(t, lines...)
		if r.Phase != p || r.PhaseAt != time.Duration(i) || r.WasReady != (i >= 3) || p.Final() != (p == Gone) {
			t.Errorf("%+v after %s", r, p)
		}
	}
	if !Failed.Final() {
		t.Error("something follows failed")
	}
	if r := parse(t, Line{"variable", "HOME 12"}, Line{"variable", "LC_A B 34"}, Line{"variable", "bare"}); !slices.Equal(r.Variables, []Variable{{"HOME", "12"}, {"LC_A B", "34"}, {"", "bare"}}) {
		t.Errorf("%q", r.Variables)
	}
}

// TestPhaseNeverGoesBack: what a launcher, a second after its child, or a stop
// says late changes neither the phase nor its time; the first end stands.
func TestPhaseNeverGoesBack(t *testing.T) {
	for _, c := range []struct{ first, late, want Phase }{
		{Ready, Bound, Ready},
		{Loading, Launching, Loading},
		{Draining, Ready, Draining},
		{Failed, Bound, Failed},
		{Failed, Gone, Failed},
		{Gone, Failed, Gone},
		{Gone, Ready, Gone},
		{"dreaming", Ready, Ready}, // of a release to come
		{Ready, "dreaming", "dreaming"},
		{Gone, "dreaming", Gone},
		{Failed, Failed, Failed},
	} {
		r := parse(t, append(PhaseLines(c.first, 1), PhaseLines(c.late, 2)...)...)
		at := time.Duration(2)
		if c.want != c.late {
			at = 1
		}
		if r.Phase != c.want || r.PhaseAt != at {
			t.Errorf("%s after %s: %s at %d", c.late, c.first, r.Phase, r.PhaseAt)
		}
	}
	// A verdict whose "phase failed" was followed by a late "bound" stays one:
	// what a launcher adds about the end makes no inference of it.
	f := Failure{Stage: "load", Cause: "broken", Status: -1, At: 1}
	r := parse(t, slices.Concat(FailureLines(f), PhaseLines(Bound, 2), FailureLines(Failure{Stage: "load", Cause: "gone", Status: -1, At: 3, Unknown: true}))...)
	if r.Phase != Failed || r.Failure.Unknown || r.Failure.Cause != "broken" {
		t.Errorf("%s, %+v", r.Phase, r.Failure)
	}
}

// TestQuoting: any value comes back, and no value makes a line of its own.
func TestQuoting(t *testing.T) {
	value := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{"", " ", `"`, `""`, `"a"`, "\n", "a\nphase failed", "\x00", "\x7f", "\u2028", "\xff", `\`, "é", " a ", "\ufffd"}))
	rapid.Check(t, func(t *rapid.T) {
		v := value.Draw(t, "value")
		b := Encode([]Line{{"boot-id", v}, {"phase", "ready"}})
		if bytes.Count(b, []byte("\n")) != 2 || bytes.IndexByte(b, 0) >= 0 {
			t.Fatalf("%q is written as %q", v, b)
		}
		r, err := Parse(append([]byte("fastbind-record 1\n"), b...))
		if err != nil || r.BootID != v || r.Phase != Ready || r.Unknown != nil {
			t.Fatalf("%q came back as %q (%v)", v, r.BootID, err)
		}
	})
}

// longDir is the longest working directory.
func longDir() string {
	root := definition.Definition{}.Complete().Dir
	return root + strings.Repeat("\x01", 4095-len(root))
}

// TestEveryGoodDefinitionFits: a record of the longest definition that Check
// admits, at its worst quoting, with a rich environment, can be read.
func TestEveryGoodDefinitionFits(t *testing.T) {
	worst := definition.Definition{Service: strings.Repeat("a", 64), Instance: strings.Repeat("b", 64), Dir: longDir(), Version: strings.Repeat("\xff", 128)}
	for name, command := range map[string][]string{
		"one long":   {strings.Repeat("\x01", definition.MaxVector-9)},
		"many empty": append([]string{"x"}, make([]string, definition.MaxVector/9-2)...),
		"many short": slices.Repeat([]string{"\x01"}, definition.MaxVector/10),
		"wide runes": {strings.Repeat("\U0010ffff", (definition.MaxVector-9)/4)},
	} {
		d := worst
		d.Command = command
		d = d.Complete()
		if err := d.Check(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d.Command = append(d.Command, "one more element, 9 bytes")
		if d.Check() == nil {
			t.Errorf("%s: not the longest", name)
		}
		d.Command = command
		r := full()
		r.Definition = d
		for i := range 500 {
			r.Variables = append(r.Variables, Variable{fmt.Sprintf("XDG_SOME_VARIABLE_%d", i), "0123456789abcdef"})
		}
		path := filepath.Join(t.TempDir(), FileName)
		r.write(t, path)
		got, err := Read(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !cmp.Equal(got.Definition, d) {
			t.Errorf("%s: another definition came back", name)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); !errors.Is(err, errTooLarge) {
		t.Errorf("a longer record: %v", err)
	}
}

// appendHelper appends events to a record, line by line and in groups, as fast
// as it can.
var appendHelper = reexec.Helper("append", func(args []string) {
	path, who := args[0], args[1]
	n, err := strconv.Atoi(args[2])
	reexec.Check(err)
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1)) // released together
	for i := range n {
		reexec.Check(Append(path, Line{"note-" + who, strconv.Itoa(i)}, Line{"note-" + who, strings.Repeat(who, i)}))
	}
})

// TestConcurrentAppends: the daemon's and its launcher's last words interleave
// by whole writes.
func TestConcurrentAppends(t *testing.T) {
	const writers, n = 4, 100
	path := filepath.Join(t.TempDir(), FileName)
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	gateR, gateW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var cmds []*exec.Cmd
	for i := range writers {
		cmd := reexec.Command(t, appendHelper, path, string(rune('a'+i)), strconv.Itoa(n))
		cmd.Stdin = gateR
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	gateR.Close()
	gateW.Close()
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unknown) != 2*writers*n {
		t.Fatalf("%d lines, want %d", len(r.Unknown), 2*writers*n)
	}
	next := map[string]int{}
	for i := 0; i < len(r.Unknown); i += 2 {
		key, number, _ := strings.Cut(r.Unknown[i], " ")
		who := strings.TrimPrefix(key, "note-")
		if number != strconv.Itoa(next[who]) {
			t.Fatalf("%s wrote %q as number %d", who, r.Unknown[i], next[who])
		}
		if want := key + " " + strings.Repeat(who, next[who]); r.Unknown[i+1] != want {
			t.Fatalf("a write was torn: after %q comes %q", r.Unknown[i], r.Unknown[i+1])
		}
		next[who]++
	}
}

func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), FileName)
	full().write(f, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("fastbind-record 1\nphase ready\n\nfailed-unknown true\n\x00\nvariable \nx"))
	f.Add([]byte("fastbind-record 1\nlog /a\nlog /b\x00\nlog \"/c d\"\nby-hand false\nlog /torn"))
	f.Add([]byte("fastbind-record 1\nlog /a\nlog /b\x00\n"))
	f.Add([]byte("fastbind-record 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		if log := LogOf(b); log != r.Log && !(r.ByHand && log == "") {
			t.Fatalf("its log is %q, not %q", log, r.Log)
		}
		kept := len(r.BootID) + len(r.PIDNamespace) + len(r.Log) + len(r.Version) + len(r.BuildID) + len(r.Executable.Path) + len(r.Phase)
		for _, u := range r.Unknown {
			kept += len(u)
		}
		for _, v := range r.Variables {
			kept += len(v.Name) + len(v.Digest)
		}
		for _, fd := range r.Definition.Fields() {
			if !strings.HasSuffix(fd.Key, "_within") {
				kept += len(fd.Value)
			}
		}
		if f := r.Failure; f != nil {
			kept += len(f.Stage) + len(f.Cause) + len(f.Kind) + len(f.Signal)
			if f.Unknown && (f.Status >= 0 || f.Signal != "") {
				t.Fatalf("it is known how it ended: %+v", f)
			}
		}
		if kept > len(b) {
			t.Fatalf("%d bytes of %d", kept, len(b))
		}
		// What is appended to any record that can be read is read.
		next, err := Parse(append(append(slices.Clone(b), tornEnd...), Encode([]Line{{"build-id", "next"}, Int("bound-after", 7)})...))
		if len(b) < MaxSize-100 && (err != nil || next.BuildID != "next" || next.BoundAfter != 7) {
			t.Fatalf("after two more lines: %+v, %v", next, err)
		}
	})
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", `"`, "\xff", "a\nb", "\x00", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q := quote(s)
		if strings.ContainsAny(q, "\n\x00") {
			t.Fatalf("%q is written as %q", s, q)
		}
		if got, err := unquote(q); err != nil || got != s {
			t.Fatalf("%q came back as %q (%v)", s, got, err)
		}
	})
}

// FuzzLaunchLines: what a launcher and a daemon write of any definition that is
// accepted, and of any values, is read as what it was, and not too large to be read.
func FuzzLaunchLines(f *testing.F) {
	f.Add("gocache", "/bin/x\n-a\n", "A=1\nB", "1.2.3", "/log", "LC_ALL 12", "7.a.b.c", "/srv/project", uint64(42), int64(-1))
	f.Add("a", "x\n\xff\n\"", "X=\"\\", "(devel)", "\x00", "a b  c", "\t", "", uint64(1<<63), int64(1<<62))
	f.Add("a", strings.Repeat("\n", 5000)+"x", "", "", "\u2028", "", "\n", "relative \"", uint64(0), int64(0))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, service, command, env, version, text, variable, other, directory string, n uint64, i int64) {
		want := Record{
			Generation: n, Launcher: int(int32(i)), LaunchedBoot: time.Duration(i), BootID: text, PIDNamespace: other,
			Log: text, LogOffset: i, Succeeds: other,
			Definition: definition.Definition{Service: service, Command: strings.Split(command, "\n"), Env: strings.Split(env, "\n"), Version: version}.Complete(),
		}
		if want.Definition.Check() != nil {
			return
		}
		name, digest, _ := strings.Cut(variable, " ")
		want.Variables = []Variable{{name, strings.ReplaceAll(digest, " ", "")}}
		from, to, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
		want.Replacements = []Replacement{{time.Duration(i), from, to}}
		want.Leases = []Lease{{PID: int(int32(i)), Start: n}}
		lines := append(LaunchLines(want), LeaseLine(want.Leases[0]))
		if directory != "" {
			want.Leases = append(want.Leases, Lease{Directory: directory})
			lines = append(lines, LeaseLine(want.Leases[1]))
		}
		want.Phase, want.PhaseAt = Launching, want.LaunchedBoot
		later := "later-" + strconv.FormatUint(n, 36)
		lines = append(lines, Line{later, text})

		path := filepath.Join(dir, FileName)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := Create(path, lines); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			if fi, serr := os.Stat(path); serr == nil && len(text)+len(other)+len(variable)+len(directory) < 1<<10 {
				t.Fatalf("%v; %d bytes", err, fi.Size())
			}
			return
		}
		unknown := got.Unknown
		got.Unknown, got.Launched = nil, time.Time{}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if len(unknown) != 1 || unknown[0]+"\n" != string(Encode([]Line{{later, text}})) {
			t.Fatalf("of a later release is kept %q", unknown)
		}
	})
}
