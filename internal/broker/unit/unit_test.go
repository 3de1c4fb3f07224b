package unit

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
)

var update = flag.Bool("update", false, "write testdata/golden instead of comparing with it")

// units are what the golden files are rendered from.
var units = map[string]Unit{
	"default": {Executable: "/usr/local/bin/fastbind", Instance: "default"},
	"odd": {
		Executable: "/opt/100% $HOME & <b>/fastbind", Instance: "ci-untrusted", Root: "/srv/50% of it/",
		Environment: []string{`FASTBIND_CONFIG_DIR=/srv/a "quoted" \ 'path' & $HOME <%t>`, "FASTBIND_RUNTIME_DIR=/srv/50% of it/"},
	},
}

func TestGolden(t *testing.T) {
	for name, u := range units {
		files, err := u.systemd()
		if err != nil {
			t.Fatal(err)
		}
		if u.Root == "" {
			u.Root = "/Users/user/.local/state/fastbind/run"
		}
		agents, err := u.launchd()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(files, agents...) {
			golden := filepath.Join("testdata", "golden", name, f.Name)
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, []byte(f.Text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), f.Text); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		}
	}
}

// TestRefused: what a file could not say is an error that names it, for either
// manager.
func TestRefused(t *testing.T) {
	good := Unit{Executable: "/bin/true", Instance: "default", Root: "/r", Environment: []string{"A=b"}}
	for _, c := range []struct {
		name, field, reason string
		edit                func(*Unit)
		systemd             bool // only that one refuses it
	}{
		{"relative program", "executable", "absolute", func(u *Unit) { u.Executable = "bin/fastbind" }, false},
		{"no program", "executable", "absolute", func(u *Unit) { u.Executable = "" }, false},
		{"newline in the program", "executable", "control", func(u *Unit) { u.Executable = "/a\nExecStartPost=/b" }, false},
		{"tab in the program", "executable", "control", func(u *Unit) { u.Executable = "/a\tb" }, false},
		{"program not UTF-8", "executable", "UTF-8", func(u *Unit) { u.Executable = "/a\xff" }, false},
		{"quote in the program", "executable", "quotes", func(u *Unit) { u.Executable = "/a'b" }, true},
		{"double quote in the program", "executable", "quotes", func(u *Unit) { u.Executable = `/a"b` }, true},
		{"backslash in the program", "executable", "backslashes", func(u *Unit) { u.Executable = `/a\b` }, true},
		{"instance", "instance", "lower-case", func(u *Unit) { u.Instance = "A" }, false},
		{"no instance", "instance", "empty", func(u *Unit) { u.Instance = "" }, false},
		{"relative root", "root", "absolute", func(u *Unit) { u.Root = "r" }, false},
		{"newline in the root", "root", "control", func(u *Unit) { u.Root = "/r\nExec=" }, false},
		{"long root", "root", "108 bytes", func(u *Unit) { u.Root = "/" + strings.Repeat("r", 108-len("//default/.broker.sock")) }, true},
		{"very long root", "root", "use a shorter root", func(u *Unit) { u.Root = "/" + strings.Repeat("r", 300) }, false},
		{"no assignment", "environment", "NAME=VALUE", func(u *Unit) { u.Environment = []string{"A"} }, false},
		{"no name", "environment", "NAME=VALUE", func(u *Unit) { u.Environment = []string{"=b"} }, false},
		{"odd name", "environment", "NAME=VALUE", func(u *Unit) { u.Environment = []string{"A B=b"} }, false},
		{"two roots", "FASTBIND_RUNTIME_DIR", `another root, "/r"`, func(u *Unit) { u.Environment = []string{"FASTBIND_RUNTIME_DIR=/s"} }, false},
		{"newline in a value", "A", "control", func(u *Unit) { u.Environment = []string{"A=b\nc"} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := good
			c.edit(&u)
			check := func(manager string, err error) {
				var invalid *definition.Invalid
				if !errors.As(err, &invalid) || invalid.Field != c.field || !strings.Contains(invalid.Reason, c.reason) {
					t.Errorf("%s: %v, want a refusal of %s with %q", manager, err, c.field, c.reason)
				}
			}
			_, err := u.systemd()
			check("systemd", err)
			if !c.systemd {
				_, err = u.launchd()
				check("launchd", err)
			}
		})
	}
	if _, err := (Unit{Executable: "/bin/true", Instance: "default"}).launchd(); err == nil {
		t.Error("an agent without a root")
	}
}

// TestLongestSocket: the longest instance of the highest uid has a socket under
// the user's own root, and of a longer path the last byte is told apart.
func TestLongestSocket(t *testing.T) {
	u := Unit{Executable: "/bin/true", Instance: strings.Repeat("i", definition.MaxName)}
	if _, err := u.systemd(); err != nil {
		t.Error(err)
	}
	u.Root = "/" + strings.Repeat("r", maxSocketPath-len("/")-len(Socket("/", u.Instance)))
	if _, err := u.systemd(); err != nil {
		t.Error(err)
	}
	u.Root += "r"
	if _, err := u.systemd(); err == nil {
		t.Error("a path of 108 bytes")
	}
}

func TestEnvironment(t *testing.T) {
	set := map[string]string{"FASTBIND_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "", "PATH": "/bin", "SECRET": "x"}
	got := Environment(func(name string) string { return set[name] })
	if diff := cmp.Diff([]string{"FASTBIND_RUNTIME_DIR=/r", "XDG_STATE_HOME=/s"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPlist: an XML parser reads the strings of an agent as they were meant.
func TestPlist(t *testing.T) {
	u := units["odd"]
	files, err := u.launchd()
	if err != nil {
		t.Fatal(err)
	}
	got := plistStrings(t, files[0].Text)
	for _, want := range []string{u.Executable, u.Instance, Socket(u.Root, u.Instance), `/srv/a "quoted" \ 'path' & $HOME <%t>`} {
		found := false
		for _, s := range got {
			found = found || s == want
		}
		if !found {
			t.Errorf("no string is %q: %q", want, got)
		}
	}
}

// plistStrings are the strings of a property list.
func plistStrings(t *testing.T, text string) []string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	var all []string
	var open string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = token.Name.Local
		case xml.EndElement:
			open = ""
		case xml.CharData:
			if open == "string" {
				all = append(all, string(token))
			}
		}
	}
}
