package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		{"large", strings.Repeat("#", maxFile+1), `f.toml: larger than 64 KiB`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseFile("f.toml", []byte(tt.text))
			if err == nil {
				d := p.def.Complete()
				d.Service = "f"
				if err = d.Check(); err != nil {
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

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("command = [\"x\"]\nstop_within = \"1s\"\n"))
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
	})
}
