package cli

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/definition"
)

// Each file is refused with line, field and reason.
func TestParseFileRefuses(t *testing.T) {
	const x = "command = [\"x\"]\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", `f.toml: command: it is missing; it is the program and its arguments, a list of strings`},
		{"syntax", x + "= 3\n", `f.toml:2: invalid character at start of key: U+003D '='`},
		{"unterminated", "command = [\"x\"\n", `f.toml:1: array is incomplete`},
		{"duplicate", "dir = \"/\"\ndir = \"/\"\n", `f.toml:2: dir: key dir is already defined`},
		{"unknown", x + "environment = []\n", `f.toml:2: environment: unknown field`},
		{"misspelt", "\n\ncommnad = [\"x\"]\n", `f.toml:3: commnad: unknown field; did you mean command?`},
		{"table", x + "[limits]\nmemory = 3\n", `f.toml:2: limits: unknown field`},
		{"dotted", "command.x = 1\n", `f.toml:1: command: it must be a list of strings such as ["a", "b"], not a table`},
		{"command type", "command = \"nginx -g x\"\n", `f.toml:1: command: it must be a list of strings such as ["a", "b"], not a string`},
		{"element type", "command = [\"x\", 3]\n", `f.toml:1: command: element 2 must be a string, not an integer`},
		{"no command", "command = []\n", `f.toml:1: command: it is missing; it is the program and its arguments, a list of strings`},
		{"relative command", "command = [\"./x\"]\n", `f.toml:1: command: "./x": use an absolute path or a name to be found in PATH`},
		{"empty program", "command = [\"\"]\n", `f.toml:1: command: it is empty`},
		{"string type", x + "bind = true\n", `f.toml:2: bind: it must be a string, not a boolean`},
		{"bind", x + "bind = \"me\"\n", `f.toml:2: bind: "me": use "broker" or "daemon"`},
		{"policy", x + "env_policy = \"no\"\n", `f.toml:2: env_policy: "no": use "ignore", "coexist" or "refuse"`},
		{"dir", x + "dir = \"tmp\"\n", `f.toml:2: dir: "tmp": use an absolute path: a daemon has no caller's directory`},
		{"empty dir", x + "dir = \"\"\n", `f.toml:2: dir: it is empty`},
		{"env", x + "env = [\"A B\"]\n", `f.toml:2: env: "A B": a variable's name has letters, digits and _`},
		{"endpoints", x + "endpoints = [\"a\"]\nforeign = false\n", `f.toml:2: endpoints: a daemon made with package daemon has one endpoint; only a foreign one is handed more`},
		{"endpoints", x + "endpoints = [\"A\"]\n", `f.toml:2: endpoints: "A": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{"endpoints", x + "endpoints = \"a\"\n", `f.toml:2: endpoints: it must be a list of strings such as ["a", "b"], not a string`},
		{"fd_env", x + "fd_env = [\"LISTEN_FDS=1\"]\n", `f.toml:2: fd_env: "LISTEN_FDS=1": this variable belongs to the handover`},
		{"number as duration", x + "stop_within = 5\n", `f.toml:2: stop_within: it must be a string such as "500ms", not an integer`},
		{"no duration", x + "stop_within = \"5\"\n", `f.toml:2: stop_within: "5" is no duration; write "500ms" or "10s"`},
		{"zero duration", x + "stop_within = \"0s\"\n", `f.toml:2: stop_within: use 1ms to 1h`},
		{"long duration", x + "stop_within = \"2h\"\n", `f.toml:2: stop_within: "2h0m0s": use 1ms to 1h`},
		{"foreign", x + "foreign = \"no\"\n", `f.toml:2: foreign: it must be true or false, not a string`},
		{"service", x + "service = \"y\"\n", `f.toml:2: service: the file's name is the service's name`},
		{"instance", x + "instance = \"y\"\n", `f.toml:2: instance: a file defines the service in every instance; use --instance`},
		{"first mistake", "bind = 1\nfoo = 2\n", `f.toml:1: bind: it must be a string, not an integer`},
		{"date", x + "version = 2026-01-01\n", `f.toml:2: version: it must be a string, not a date or time`},
		{"ready", x + "ready = \"soon\"\n", `f.toml:2: ready: "soon": use "notify", "accept", "http PATH", "output REGEXP", "command PROGRAM ARG…" or "delay DURATION"`},
		{"ready type", x + "ready = [\"accept\"]\n", `f.toml:2: ready: it must be a string, not a list`},
		{"ready of a backend", x + "foreign = false\nready = \"accept\"\n", `f.toml:3: ready: a program made with the fastbind SDK says that by itself; leave it out, or foreign = false`},
		{"watchdog of a backend", x + "watchdog = \"1s\"\nforeign = false\n", `f.toml:2: watchdog: a program made with the fastbind SDK says that by itself; leave it out, or foreign = false`},
		{"notify access", x + "notify_access = \"none\"\n", `f.toml:2: notify_access: "none": use "main" or "all"`},
		{"restart", x + "restart = \"never\"\n", `f.toml:2: restart: "never": use "on-demand", "on-failure" or "always"`},
		{"empty restart", x + "restart = \"\"\n", `f.toml:2: restart: it is empty`},
		{"short backoff", x + "backoff_min = \"1ms\"\n", `f.toml:2: backoff_min: "1ms": use 10ms to 1h`},
		{"zero backoff", x + "backoff_max = \"0s\"\n", `f.toml:2: backoff_max: it must not be 0; leave it out`},
		{"no backoff", x + "backoff_max = \"1\"\n", `f.toml:2: backoff_max: "1" is no duration; write "500ms" or "10s"`},
		{"backoff order", x + "backoff_min = \"1m\"\nbackoff_max = \"1s\"\n", `f.toml:3: backoff_max: "1s": shorter than backoff_min, 1m0s`},
		{"backoff factor", x + "backoff_factor = 11\n", `f.toml:2: backoff_factor: "11": use 1 to 10`},
		{"backoff factor 0", x + "backoff_factor = 0\n", `f.toml:2: backoff_factor: use 1 to 10`},
		{"backoff factor nan", x + "backoff_factor = nan\n", `f.toml:2: backoff_factor: "NaN": use 1 to 10`},
		{"backoff factor type", x + "backoff_factor = \"2\"\n", `f.toml:2: backoff_factor: it must be a number, not a string`},
		{"backoff reset", x + "backoff_reset = \"25h\"\n", `f.toml:2: backoff_reset: "25h0m0s": use 100ms to 24h`},
		{"ready within", x + "ready_within = \"25h\"\n", `f.toml:2: ready_within: "25h0m0s": use 1ms to 24h, or leave it out: loading may take as long as it does then`},
		{"watchdog", x + "watchdog = 10\n", `f.toml:2: watchdog: it must be a string such as "500ms", not an integer`},
		{"memory", x + "memory = \"1.5G\"\n", `f.toml:2: memory: "1.5G": give a whole number of bytes, or one with K, M, G or T`},
		{"memory type", x + "memory = true\n", `f.toml:2: memory: it must be a number or a string such as "512M", not a boolean`},
		{"negative tasks", x + "tasks = -1\n", `f.toml:2: tasks: "-1": give a whole number`},
		{"no tasks", x + "tasks = 0\n", `f.toml:2: tasks: "0": it must not be 0: leave it out for no limit`},
		{"cpu weight", x + "cpu_weight = 10001\n", `f.toml:2: cpu_weight: "10001": it must be at most 10000`},
		{"open files", x + "open_files = 8\n", `f.toml:2: open_files: "8": it must be at least 16`},
		{"own scope", x + "own_scope = 1\n", `f.toml:2: own_scope: it must be true or false, not an integer`},
		{"hold", x + "hold = \"yes\"\n", `f.toml:2: hold: it must be true or false, not a string`},
		{"hold of who binds", x + "bind = \"daemon\"\nhold = true\n", `f.toml:3: hold: a daemon that binds its endpoint itself leaves nothing to hold; use bind = "broker"`},
		{"large", strings.Repeat("#", maxFile+1), `f.toml: larger than 64 KiB`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseFile("f.toml", []byte(tt.text))
			if err == nil {
				d := p.def.Complete()
				d.Service = "f"
				if err = d.Check(); err == nil {
					err = p.broker.complete(d)
				}
				if err != nil {
					err = p.invalid(err)
				}
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.toml")
	text := `command = ["nginx", "-g", "daemon off;", ""]
bind = "daemon"
dir = "` + strings.ReplaceAll(srv, `\`, `\\`) + `"
env = ["EDITOR", "MODE=fast"]
env_policy = "coexist"
fd_env = ["NGINX={fd};"]
version = "1.2"
foreign = false
bound_within = "250ms"
adopt_within = "1s"
stop_within = "1m"
idle_exit = "1h"
hang_after = "2m"
on_hang = "report"
`
	write(t, path, text)
	a := testApp(t, "FASTBIND_CONFIG_DIR="+dir)
	a.instance = "ci"
	got, err := a.file("web")
	if err != nil {
		t.Fatal(err)
	}
	want := definition.Definition{
		Service: "web", Instance: "ci", Command: []string{"nginx", "-g", "daemon off;", ""}, Bind: "daemon", Dir: srv,
		Env: []string{"EDITOR", "MODE=fast"}, EnvPolicy: "coexist", FDEnv: []string{"NGINX={fd};"}, Version: "1.2",
		BoundWithin: 250 * time.Millisecond, AdoptWithin: time.Second, StopWithin: time.Minute,
		IdleExit: time.Hour, HangAfter: 2 * time.Minute, OnHang: "report", OnVersion: "ignore",
	}
	if diff := cmp.Diff(want, got.def); diff != "" {
		t.Error(diff)
	}
	// A file can say every field of a definition but what names or finds it.
	want.Foreign = true
	for _, f := range want.Fields() {
		known := f.Key == "service" || f.Key == "instance" || f.Key == "self"
		for _, k := range fileFields {
			known = known || k == f.Key
		}
		if !known {
			t.Errorf("a file cannot say %s", f.Key)
		}
	}
	if f, err := a.file("other"); f != nil || err != nil {
		t.Errorf("a missing file is %v, %v", f, err)
	}
}

// The fields that a broker keeps are no part of the definition: who launches without
// one would have another daemon otherwise.
func TestReadBrokerFields(t *testing.T) {
	dir := t.TempDir()
	text := `command = ["x"]
memory = "1G"
hold = true
ready = "http /healthz"
notify_access = "all"
ready_within = "1m"
watchdog = "10s"
restart = "always"
backoff_min = "1s"
backoff_max = "2s"
backoff_factor = 3
backoff_reset = "1m"
own_scope = true
tasks = "64"
cpu_weight = 50
open_files = 1024
`
	write(t, filepath.Join(dir, "web.toml"), text)
	a := testApp(t, "FASTBIND_CONFIG_DIR="+dir)
	got, err := a.file("web")
	if err != nil {
		t.Fatal(err)
	}
	s := got.broker.service
	if diff := cmp.Diff(supervise.Policy{Restart: "always", BackoffMin: time.Second, BackoffMax: 2 * time.Second, BackoffFactor: 3,
		BackoffReset: time.Minute, ReadyWithin: time.Minute, Watchdog: 10 * time.Second,
		HangAfter: definition.DefaultHangAfter, OnHang: "replace", StopWithin: definition.DefaultStopWithin}, s.Policy); diff != "" {
		t.Error(diff)
	}
	if want := (limit.Wanted{Own: true, Memory: 1 << 30, Tasks: 64, CPUWeight: 50, OpenFiles: 1024}); s.Limits != want {
		t.Errorf("limits %+v", s.Limits)
	}
	if s.Sign.Kind != probe.HTTP || s.Sign.Path != "/healthz" || s.Access != notify.AccessAll || !got.broker.hold {
		t.Errorf("%+v, %q, hold %v", s.Sign, s.Access, got.broker.hold)
	}
	if want := []string{"memory", "ready", "notify_access", "ready_within", "watchdog", "restart", "backoff_min", "backoff_max", "backoff_factor",
		"backoff_reset", "own_scope", "tasks", "cpu_weight", "open_files"}; !slices.Equal(got.broker.given, want) {
		t.Errorf("given: %q", got.broker.given)
	}
	plain := definition.Definition{Service: "web", Instance: "default", Command: []string{"x"}, Foreign: true}.Complete()
	if diffs := definition.Diff(plain, got.def); len(diffs) > 0 {
		t.Errorf("the definition has them: %v", diffs)
	}
	// Every policy is a field of a file.
	for _, f := range s.Policy.Fields() {
		if !slices.Contains(fileFields, f.Key) {
			t.Errorf("a file cannot say %s", f.Key)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("command = [\"x\"]\nstop_within = \"1s\"\n"))
	f.Add([]byte("command = [\"x\"]\nready = \"output ^up$\"\nrestart = \"always\"\nbackoff_factor = 1.5\nmemory = \"1G\"\nhold = true\n"))
	f.Add([]byte("command = [\"x\"]\nwatchdog = \"1s\"\nforeign = false\ntasks = 0\nbackoff_max = \"1ms\"\n"))
	f.Add([]byte("[a]\nb.c = 1\n[[d]]\n"))
	f.Add([]byte("command = [\"x\", '''\ny''']\r\n\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseFile("f.toml", b)
		if err != nil {
			if fe, ok := err.(*fileError); !ok || fe.text == "" {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		// What was parsed is the same after a record has kept it.
		var again definition.Definition
		for _, field := range p.def.Fields() {
			if err := again.Set(field.Key, field.Value); err != nil {
				t.Fatalf("%s: %v", field.Key, err)
			}
		}
		if diffs := definition.Diff(p.def, again); len(diffs) > 0 {
			t.Errorf("%v", diffs)
		}
		// And what is for the broker is refused with a reason, or can be used.
		p.def.Service = "f"
		d := p.def.Complete()
		if d.Check() != nil {
			return
		}
		if err := p.broker.complete(d); err != nil {
			if i, ok := errors.AsType[*definition.Invalid](err); !ok || !slices.Contains(brokerKeys, i.Field) || i.Reason == "" {
				t.Errorf("%T %v", err, err)
			}
		} else if err := p.broker.service.Policy.Check(); err != nil {
			t.Error(err)
		}
	})
}
