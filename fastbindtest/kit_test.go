//go:build linux || windows

package fastbindtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// givenBuilt names the programs to a test binary that a test runs, or that runs where
// there is no go command (internal/wine).
const givenBuilt = "FASTBINDTEST_BUILT"

// built is the directory of the programs that the tests judge.
var built = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(givenBuilt); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.MkdirTemp("", "fastbindtest-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "./internal/broken", "../examples/greeter", "../examples/gocache")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the programs to judge, which %s can name: %w\n%s", givenBuilt, err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	// Else the race detector makes each supervisor last a second longer.
	if os.Getenv("GORACE") == "" {
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	code := m.Run()
	if dir, _ := built(); dir != "" && os.Getenv(givenBuilt) == "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program is one of those that were built.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name+suffix)
}

// target is the plain daemon, or one with a defect.
func target(t *testing.T, m Mode, flags ...string) Target {
	broken := program(t, "broken")
	command := append([]string{broken}, flags...)
	target := Target{Request: "hello\n", Expect: `^pid \d+: hello\n$`, Limits: limits}
	switch m {
	case Inherit:
		target.Command = append(command, "inherit")
	case Socket:
		target.Command = append(command, "socket", "{socket}")
	case Port:
		target.Command = append(command, "port", "{port}")
	case Client:
		with := func(verb string) []string { return append(slices.Clone(command), verb) }
		target.Client, target.Status, target.Stop = with("ping"), [][]string{with("status")}, with("stop")
		target.Request, target.Expect = "", `^pid \d+: ping$`
	}
	if slices.Contains(flags, "{idle}") {
		target.IdleExit = 200 * time.Millisecond
	}
	return target
}

// brokenCases are the names of the cases that were broken or undecided.
func brokenCases(r Report) []string {
	var list []string
	for _, res := range r.Results {
		if res.Outcome == Broken || res.Outcome == Undecided {
			list = append(list, res.Case.Name)
		}
	}
	return list
}

// describe is all that a test needs to say of a report.
func describe(r Report) string {
	var b strings.Builder
	for _, res := range r.Results {
		b.WriteString("\n" + string(res.Outcome) + "  " + res.Case.Name + "  " + res.Took.Round(time.Millisecond).String() + "  " + res.Reason)
		if res.Outcome != Holds && res.Outcome != NotApplicable {
			b.WriteString("\n    " + strings.Join(res.Observed, "\n    "))
		}
	}
	return b.String()
}

// A trial is one target and the cases that it breaks.
type trial struct {
	name   string
	target Target
	want   []string
}

// A defect of the plain daemon breaks the case of its name, and also others.
type defect struct {
	defect string
	mode   Mode
	flags  []string
	also   []string
}

// try judges targets side by side.
func try(t *testing.T, trials []trial) {
	type outcome struct {
		report Report
		err    error
	}
	slots := make(chan bool, atOnce)
	results := make([]chan outcome, len(trials))
	for i, tr := range trials {
		results[i] = make(chan outcome, 1)
		go func() {
			slots <- true
			defer func() { <-slots }()
			r, err := Check(t.Context(), tr.target, nil)
			results[i] <- outcome{r, err}
		}()
	}
	for i, tr := range trials {
		t.Run(tr.name, func(t *testing.T) {
			got := <-results[i]
			if got.err != nil {
				t.Fatal(got.err)
			}
			if broken := brokenCases(got.report); !slices.Equal(broken, tr.want) {
				t.Errorf("%s\nbroken are %q, want %q", describe(got.report), broken, tr.want)
			}
			if n := got.report.Count(Holds); n < least[tr.name] {
				t.Errorf("%s\n%d cases hold, want %d", describe(got.report), n, least[tr.name])
			}
			if got.report.OK() != (len(tr.want) == 0) {
				t.Errorf("OK is %v", got.report.OK())
			}
			t.Logf("%v, %d hold, %d do not apply", got.report.Took.Round(time.Millisecond), got.report.Count(Holds), got.report.Count(NotApplicable))
		})
	}
}

// TestKit: what does everything right passes whole, however it is started, and so
// do our examples; and each defect fails its own case and no other.
func TestKit(t *testing.T) {
	greeter, gocache := program(t, "greeter"), program(t, "gocache")
	trials := []trial{
		// The slowest first: the SDK's clients wait for 30 s before they ask whether
		// a daemon hangs.
		{"greeter/client", Target{Client: []string{greeter}, Expect: "I am the daemon", Limits: patient}, nil},
		{"gocache/client", Target{Client: []string{gocache, "ping"}, Status: [][]string{{gocache, "stats"}}, Stop: []string{gocache, "stop"},
			Limits: patient}, impatient},
		{"greeter/inherit", Target{Command: []string{greeter, "--daemon"}, Request: "kit\n", Expect: "kit! I am the daemon", Limits: limits}, nil},
		{"gocache/inherit", Target{Command: []string{gocache, "__gocache", "daemon"}, Limits: limits}, nil},
		{"plain/inherit", target(t, Inherit, "-spawn", "-idle", "{idle}"), nil},
		{"plain/socket", target(t, Socket, "-idle", "{idle}"), nil},
		{"plain/port", target(t, Port), nil},
		{"plain/client", target(t, Client, "-idle", "{idle}"), nil},
	}
	for _, d := range defects {
		tg := target(t, d.mode, append([]string{"-defect", d.defect}, d.flags...)...)
		if !slices.Contains(elsewhere, d.defect) {
			tg.Skip = elsewhere
		}
		trials = append(trials, trial{"defect/" + d.defect + "/" + string(d.mode), tg, append([]string{d.defect}, d.also...)})
	}
	for _, c := range Cases() {
		if !slices.ContainsFunc(c.Modes, func(m Mode) bool { return c.lacking(m) == "" }) {
			continue // nothing here can break it
		}
		if slices.Contains(together, c.Name) {
			continue
		}
		if !slices.ContainsFunc(trials, func(tr trial) bool { return slices.Equal(tr.want, []string{c.Name}) }) {
			t.Errorf("no daemon breaks %s alone", c.Name)
		}
	}
	try(t, trials)
}

// TestRun: as a Go test the kit passes what is right, and fails and skips by case.
func TestRun(t *testing.T) {
	var flags []string
	child := os.Getenv("FASTBINDTEST_CHILD") != "" // the one below
	if child {
		flags = []string{"-defect", "kill9"}
	}
	tg := target(t, Inherit, flags...)
	tg.Only = []string{"starts", "kill9", "crowd"}
	Run(t, tg)
	if child {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestRun$", "-test.v")
	cmd.Env = append(os.Environ(), "FASTBINDTEST_CHILD=1", givenBuilt+"="+filepath.Dir(tg.Command[0]))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the test of a broken daemon ended with %v", err)
	}
	for _, want := range []string{"--- PASS: TestRun/contract/starts", "--- FAIL: TestRun/R9/kill9", "broken: after " + killWord + " of pid",
		"--- SKIP: TestRun/R1/crowd", "not applicable: whoever launches"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestNothingStays: whatever a target does, and however a check ends, its
// processes and files are gone.
func TestNothingStays(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", "/tmp")
	ctx, cancel := context.WithCancel(t.Context())
	tg := target(t, Client, "-defect", "hang-ends")
	tg.Env, tg.Only = []string{"MARK=" + dir}, []string{"starts", "kill9", "hang-ends"}
	var began []string
	_, err := Check(ctx, tg, func(c Case, r *Result) {
		began = append(began, c.Name)
		if c.Name == "hang-ends" && r == nil {
			time.AfterFunc(500*time.Millisecond, cancel) // with a stopped daemon and a client that waits
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the check ended with %v after %q", err, began)
	}
	all := processes()
	if self := os.Getpid(); all[self].pid != self || image(self) == "\x00" || len(environment(self)) == 0 {
		t.Errorf("this process is not seen: %+v, image %q", all[self], image(self))
	}
	for pid := range all {
		if slices.Contains(environment(pid), "MARK="+dir) || strings.HasPrefix(image(pid), program(t, "broken")) {
			t.Errorf("pid %d is left: %s", pid, commandLine(pid))
		}
	}
}
