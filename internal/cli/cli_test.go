package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// testApp is an app in a world of its own: nothing of this process but its uid.
func testApp(t *testing.T, env ...string) *app {
	t.Helper()
	dir := t.TempDir()
	a := newApp(process{
		env:     append([]string{"FASTBIND_RUNTIME_DIR=" + dir + "/run", "FASTBIND_STATE_DIR=" + dir + "/state", "HOME=" + dir}, env...),
		streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard},
		cwd:     func() (string, error) { return dir, nil },
		now:     time.Now,
		uid:     os.Geteuid(),
	})
	a.instance = "default"
	return a
}

// command runs the command in such a world.
func command(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	p := testApp(t, env...).process
	var out, errs bytes.Buffer
	p.args, p.streams = args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
	status = run(t.Context(), p)
	return status, out.String(), errs.String()
}

func TestExitStatus(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(context.Background())
	cancel(errInterrupted)
	none := context.Background()
	for _, tt := range []struct {
		err  error
		ctx  context.Context
		want int
	}{
		{nil, none, 0},
		{errors.New("other"), none, 1},
		{&hinted{errors.New("other"), "hint"}, none, 1},
		{&usageError{"usage", ""}, none, 2},
		{&launch.Fault{Class: launch.NotRunning}, none, 3},
		{&launch.Fault{Class: launch.LaunchFailed}, none, 4},
		{fmt.Errorf("wrapped: %w", &launch.Fault{Class: launch.LaunchFailed}), none, 4},
		{&launch.Fault{Class: launch.Refusal}, none, 5},
		{&fileError{path: "f"}, none, 5},
		{&runtimedir.Refused{Path: "/"}, none, 5},
		{launch.ErrSelf, none, 5},
		{&launch.Fault{Class: launch.Deadline, Err: context.DeadlineExceeded}, none, 6},
		{context.DeadlineExceeded, none, 6},
		{&launch.Fault{Class: launch.NoService}, none, 7},
		{&launch.Fault{Class: launch.Hung}, none, 8},
		{quiet(3), none, 3},
		{&launch.Fault{Class: launch.Deadline, Err: errInterrupted}, interrupted, 130},
		{errInterrupted, interrupted, 130},
		{&launch.Fault{Class: launch.LaunchFailed}, interrupted, 4}, // it failed before the interrupt
	} {
		if got := exitStatus(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v: exit status %d, want %d", tt.err, got, tt.want)
		}
	}
	errs := []error{quiet(3), &launch.Fault{Class: launch.NoService}, &launch.Fault{Class: launch.LaunchFailed}}
	if got := exitStatus(none, worst(none, errs)); got != 7 {
		t.Errorf("of several, exit status %d, want the highest, 7", got)
	}
}

func TestHarmless(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain text, ünïcode 漢字 \t tab", "plain text, ünïcode 漢字 \t tab"},
		{"\x1b[31mred", `\x1b[31mred`},
		{"a\rb\nc\x00\x7f", `a\x0db\x0ac\x00\x7f`},
		{"c1 \u009b31m", `c1 \u009b31m`},
		{"raw \x9b31m \xff", `raw \x9b31m \xff`},
		{"bidi \u202eevil\u2066", `bidi \u202eevil\u2066`},
		{"lines \u2028 \u2029", `lines \u2028 \u2029`},
		{"tag \U000e0041", `tag \U000e0041`},
		{"\uFFFD stays", "\uFFFD stays"},
		{"", ""},
	} {
		if got := harmless(tt.in); got != tt.want {
			t.Errorf("harmless(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add("\x1b]0;title\x07\xc2\x9b\xe2\x80\xae")
	f.Fuzz(func(t *testing.T, s string) {
		got := harmless(s)
		if harmless(got) != got || strings.ContainsFunc(got, acts) {
			t.Errorf("harmless(%q) = %q", s, got)
		}
	})
}

var (
	errorMembers = []string{"stage", "status", "signal", "errno", "message", "log_tail", "log", "retry_at", "service", "instance",
		"differences", "hint"}
	serviceMembers = []string{"service", "instance", "variant", "phase", "generation", "pid", "version", "endpoint", "endpoints", "started_at",
		"uptime_seconds", "connections", "leases", "ends_in_seconds", "log", "progress", "last_failure", "retry_at", "definition", "payoff", "sha256", "held_by", "disabled",
		"not_in_force", "limits", "environment"}
)

// object returns the members of v as JSON has them.
func object(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Every member is there, null where there is no value.
func TestJSONMembers(t *testing.T) {
	for _, tt := range []struct {
		what    string
		v       any
		members []string
		values  []string // the members that have one
	}{
		{"an error without anything", errorOf(errors.New("bare")), errorMembers, []string{"message"}},
		{"a fault without anything", errorOf(&launch.Fault{Class: launch.LaunchFailed, Service: "s", Stage: "load", Status: -1}),
			errorMembers, []string{"hint", "message", "service", "stage"}},
		{"a service that never ran", view{name: "web", instance: "default"}.json(), serviceMembers, []string{"disabled", "instance", "service"}},
	} {
		m := object(t, tt.v)
		var names, values []string
		for k, v := range m {
			names = append(names, k)
			if v != nil {
				values = append(values, k)
			}
		}
		slices.Sort(names)
		slices.Sort(values)
		if diff := cmp.Diff(slices.Sorted(slices.Values(tt.members)), names); diff != "" {
			t.Errorf("%s has the members\n%s", tt.what, diff)
		}
		if diff := cmp.Diff(tt.values, values); diff != "" {
			t.Errorf("%s has the values\n%s", tt.what, diff)
		}
	}
}

// The object of a service, its failure included, byte for byte.
func TestServiceJSON(t *testing.T) {
	fraction := 0.5
	retry := time.Unix(3, 0)
	v := view{
		name: "web", instance: "ci", variant: "0123", known: true, phase: "loading", generation: 3, pid: 7, version: "1",
		endpoint: "/s", further: []string{"m", "a"}, started: time.Unix(1, 0), uptime: 90 * time.Second, alive: true, connections: new(int), log: "/l",
		progress: &progressJSON{"index", &fraction}, retry: time.Unix(2, 0), heldBy: 9,
		file: &fileDefinition{path: "/f", broker: brokerFields{given: []string{"memory", "restart"}}},
		failure: &launch.Fault{Class: launch.LaunchFailed, Service: "web", Instance: "ci", Stage: "load", Status: 0,
			Signal: syscall.SIGKILL.String(), Err: syscall.ENOENT, Log: "/l", LogTail: []string{"x <y>"}, RetryAt: retry, Cure: "mend it",
			Differences: []definition.Difference{{Field: "env", Have: "a"}}},
	}
	var b bytes.Buffer
	a := testApp(t)
	a.out = newScreen(&b, true)
	a.print(v.json())
	further := func(name string) string { return strconv.Quote(runtimedir.Place{}.Further(name)) } // /sock-NAME, or a pipe
	want := `{"service":"web","instance":"ci","variant":"0123","phase":"loading","generation":3,"pid":7,"version":"1",` +
		`"endpoint":"/s","endpoints":{"a":` + further("a") + `,"m":` + further("m") + `},"started_at":"1970-01-01T00:00:01Z","uptime_seconds":90,"connections":0,"leases":null,"ends_in_seconds":null,"log":"/l",` +
		`"progress":{"message":"index","fraction":0.5},"last_failure":{"stage":"load","status":0,"signal":"SIGKILL",` +
		`"errno":"` + errnoName(syscall.ENOENT) + `","message":"\"web\" of instance \"ci\": failed in stage load: ` + syscall.ENOENT.Error() + ` (signal: killed): ` +
		`env: have a, want none, retry after ` + retry.Format(time.TimeOnly) + `","log_tail":["x <y>"],"log":"/l",` +
		`"retry_at":"1970-01-01T00:00:03Z","service":"web","instance":"ci",` +
		`"differences":[{"field":"env","have":"a","want":null}],"hint":"mend it"},` +
		`"retry_at":"1970-01-01T00:00:02Z","definition":"/f","payoff":null,"sha256":null,"held_by":9,"disabled":false,"not_in_force":["memory"],"limits":null,"environment":null}` + "\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// Each command prints exactly one object, with schema and error, also in an
// empty world.
func TestJSONReplies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "good.toml")
	write(t, file, "command = [\"x\"]\n")
	for _, tt := range []struct {
		status int
		args   []string
	}{
		{0, []string{"status"}}, {7, []string{"status", "x"}}, {0, []string{"list"}}, {7, []string{"why", "x"}},
		{7, []string{"start", "x"}}, {7, []string{"dial", "x"}}, {7, []string{"stop", "x"}}, {0, []string{"stop", "--all"}},
		{7, []string{"restart", "x"}}, {7, []string{"reset", "x"}}, {7, []string{"logs", "x"}}, {0, []string{"purge"}},
		{7, []string{"purge", "x"}}, {0, []string{"version"}}, {0, []string{"doctor"}}, {0, []string{"validate", file}},
		{5, []string{"validate", file + ".not"}}, {2, []string{"start"}}, {2, []string{"nonsense"}}, {2, []string{"stop"}},
		{noProgram, []string{"start", "x", "--", "/no/such/program"}},
	} {
		status, out, errs := command(t, nil, append([]string{"--json"}, tt.args...)...)
		if status != tt.status {
			t.Errorf("%v: exit status %d, want %d", tt.args, status, tt.status)
		}
		if errs != "" {
			t.Errorf("%v: stderr %q", tt.args, errs)
		}
		var v map[string]any
		if err := json.Unmarshal([]byte(out), &v); err != nil || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: %v in %q", tt.args, err, out)
			continue
		}
		e, ok := v["error"]
		if v["schema"] != float64(schema) || !ok || (status != 0) != (e != nil) {
			t.Errorf("%v: %s", tt.args, out)
		}
		if m, ok := e.(map[string]any); ok && len(m) != len(errorMembers) {
			t.Errorf("%v: members of the error: %v", tt.args, m)
		}
	}
}

// Without --json an error is one line on stderr, with at most a hint, and
// stdout is empty.
func TestErrorLines(t *testing.T) {
	const name = `: use lower-case letters, digits and, after the first character, . _ -`
	for _, tt := range []struct {
		status int
		want   []string
		args   []string
	}{
		{7, []string{`fastbind: "x": no such service: it was never launched here`, `hint: say how to start it: fastbind start x -- COMMAND ARG…`},
			[]string{"start", "x"}},
		{2, []string{`fastbind: NAME is missing`, `hint: see: fastbind dial --help`}, []string{"dial"}},
		{2, []string{`fastbind: unknown command "strat" for "fastbind"`, `hint: did you mean: fastbind start?`}, []string{"strat"}},
		{2, []string{`fastbind: unknown flag: --frob`, `hint: see: fastbind stop --help`}, []string{"stop", "--frob"}},
		{2, []string{`fastbind: accepts 1 arg(s), received 0`, `hint: see: fastbind why --help`}, []string{"why"}},
		{2, []string{`fastbind: invalid service "X"` + name}, []string{"why", "X"}},
		{2, []string{`fastbind: invalid instance "../x"` + name, `hint: see: fastbind list --help`}, []string{"list", "--instance", "../x"}},
		{2, []string{`fastbind: invalid env "LISTEN_FDS=2": this variable belongs to the handover`},
			[]string{"start", "x", "--env", "LISTEN_FDS=2", "--", "/bin/true"}},
	} {
		status, out, errs := command(t, nil, tt.args...)
		if status != tt.status || out != "" {
			t.Errorf("%v: exit status %d, want %d; stdout %q", tt.args, status, tt.status, out)
		}
		if diff := cmp.Diff(strings.Join(tt.want, "\n")+"\n", errs); diff != "" {
			t.Errorf("%v: %s", tt.args, diff)
		}
	}
}

func TestTable(t *testing.T) {
	tab := table{heads: []string{"A", "LONGER"}, rows: [][]string{{"x\ty", ""}, {"é\x1b", "z"}}}
	for _, tt := range []struct {
		terminal bool
		want     string
	}{
		{false, "x\\ty\t-\né\\x1b\tz\n"},
		{true, "A      LONGER\nx\\ty   -\né\\x1b  z\n"},
	} {
		var b bytes.Buffer
		tab.print(screen{w: &checked{w: &b}, terminal: tt.terminal})
		if b.String() != tt.want {
			t.Errorf("terminal %v: %q, want %q", tt.terminal, b.String(), tt.want)
		}
	}
}

func TestSentences(t *testing.T) {
	three, after := 3, int64(1234)
	for _, tt := range []struct {
		e    event
		want string
	}{
		{event{Kind: "launched", Generation: 2, PID: 7, BoundAfter: &after}, "generation 2 launched, pid 7, bound after 1.234ms"},
		{event{Kind: "failed", Generation: 2, Stage: "load", Reason: "no index", Status: &three}, "generation 2 failed in stage load: no index (exit status 3)"},
		{event{Kind: "failed", Stage: "executable", Reason: "no program"}, "a launch failed in stage executable: no program"},
		{event{Kind: "failed", Generation: 1, Reason: "gone", Signal: "killed"}, "generation 1 failed: gone (signal: killed)"},
		{event{Kind: "refused", Reason: "budget"}, "refused to launch: budget"},
		{event{Kind: "refused", Stage: "policy", Reason: "it is another", differs: []string{"env: have A, want none", "dir: have /, want /x"}},
			"refused: it is another; env: have A, want none; dir: have /, want /x"},
		{event{Kind: "stopped", Generation: 2, PID: 7, Reason: "asked to"}, "generation 2, pid 7, stopped: asked to"},
		{event{Kind: "restored", Reason: "deleted"}, "endpoint restored: deleted"},
		{event{Kind: "fallback", Reason: "x"}, "fell back: x"},
		{event{Kind: "handed-over", Generation: 4, Reason: "upgrade"}, "handed-over, generation 4: upgrade"},
	} {
		if got := tt.e.sentence(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// An event has every documented member, null where there is no value, and what a
// later release wrote besides.
func TestEventJSON(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`{"event":"x","later":{"a":[1.50]},"pid":7,"differs env":"have A, want B"}`,
			`{"schema":null,"time":null,"event":"x","service":null,"instance":null,"generation":null,"pid":7,"reason":null,"stage":null,` +
				`"status":null,"signal":null,"errno":null,"bound_after_us":null,"after_us":null,"later":{"a":[1.50]},"differs env":"have A, want B"}`},
		{`{"twice":1,"twice":2}`, `{"twice":1,"twice":2}`},
	} {
		e, ok := parseEvent([]byte(tt.line))
		if !ok {
			t.Errorf("%s is no event", tt.line)
		}
		if diff := cmp.Diff(tt.want, string(e.raw)); diff != "" {
			t.Error(diff)
		}
	}
}

// What a later release calls as this one does, but for the case, changes nothing.
func TestEventCase(t *testing.T) {
	e, ok := parseEvent([]byte(`{"event":"stopped","EVENT":"x","generation":2,"pid":7,"Pid":"seven","reason":"asked to","REASON":null}`))
	if want := "generation 2, pid 7, stopped: asked to"; !ok || e.sentence() != want {
		t.Errorf("told as %q, %t; want %q", e.sentence(), ok, want)
	}
	if _, ok := parseEvent([]byte(`{"event":"stop`)); ok {
		t.Error("half a line is an event")
	}
}

func TestLastLines(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"", 3, ""}, {"a\nb\nc\n", 0, ""}, {"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\n", 9, "a\nb\nc\n"}, {"a\nb", 1, "b"}, {"\n\n", 1, "\n"}, {"a", 1, "a"},
	} {
		path := filepath.Join(t.TempDir(), "log")
		write(t, path, tt.text)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := lastLines(f, tt.n)
		_ = f.Close()
		if err != nil || string(got) != tt.want {
			t.Errorf("the last %d lines of %q are %q, %v", tt.n, tt.text, got, err)
		}
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"comand": "command", "stop-within": "stop_within", "envpolicy": "env_policy", "memry": "memory", "mermaid": "", strings.Repeat("x", 1000): ""} {
		if got := nearest(word, fileFields); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", word, got, want)
		}
	}
}

// TestVerbAlone: a verb that is made alone is the one of the whole tree.
func TestVerbAlone(t *testing.T) {
	a := testApp(t)
	for _, whole := range a.command(nil).Commands() {
		if whole.GroupID == "" || whole.Name() == "help" || whole.Name() == "completion" {
			continue
		}
		root := a.command([]string{whole.Name(), "--json"})
		if names := root.Commands(); len(names) != 1 || names[0].Name() != whole.Name() {
			t.Errorf("%s makes %d verbs, the first of them %s", whole.Name(), len(names), names[0].Name())
			continue
		}
		if alone := root.Commands()[0]; alone.UsageString() != whole.UsageString() || alone.Long != whole.Long {
			t.Errorf("%s alone is used otherwise:\n%s\n%s", whole.Name(), alone.UsageString(), whole.UsageString())
		}
	}
	for _, args := range [][]string{nil, {"--json", "status"}, {"statu"}, {"help", "dial"}, {"man"}, {"completion", "bash"}, {"__complete", "di"}} {
		if n := len(a.command(args).Commands()); n < 20 {
			t.Errorf("%q makes %d verbs", args, n)
		}
	}
}

// Every verb has help, and a group unless it is hidden; and the manual has no
// lines that roff would take for requests.
func TestHelpAndManual(t *testing.T) {
	root := testApp(t).command(nil)
	for _, c := range root.Commands() {
		if c.Short == "" || c.Runnable() && c.Long == "" && c.Name() != "version" {
			t.Errorf("%s has no help", c.Name())
		}
		if c.Runnable() && !c.Hidden && c.GroupID == "" {
			t.Errorf("%s has no group", c.Name())
		}
		for _, l := range strings.Split(c.Long+"\n"+c.Example, "\n") {
			if len([]rune(l)) > 84 {
				t.Errorf("%s: long line: %s", c.Name(), l)
			}
		}
	}
	page := manual(root)
	for _, want := range []string{`.TH "FASTBIND" 1`, ".SH EXAMPLES", `.BR fastbind\-start (1)`} {
		if !strings.Contains(page, want) {
			t.Errorf("the manual has no %s", want)
		}
	}
	if got, want := roff(".x\n'y\n\\-z"), `\&.x`+"\n"+`\&'y`+"\n"+`\e\-z`; got != want {
		t.Errorf("roff: %q, want %q", got, want)
	}
}
