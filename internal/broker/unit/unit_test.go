package unit

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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
func plistStrings(t interface{ Fatal(...any) }, list string) []string {
	d := xml.NewDecoder(strings.NewReader(list))
	var all []string
	var text string
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
			text = ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if token.Name.Local == "string" {
				all = append(all, text)
			}
		}
	}
}

// unquoted reads the first word of a list as systemd does (systemd.syntax(7)), with
// specifiers expanded, of which there must be none but the percent sign.
func unquoted(line string) (word, rest string, err error) {
	var b strings.Builder
	s, ok := strings.CutPrefix(line, `"`)
	for ok && s != "" {
		c := s[0]
		s = s[1:]
		switch {
		case c == '"':
			return b.String(), s, nil
		case c == '\\' && s != "" && (s[0] == '\\' || s[0] == '"'):
			b.WriteByte(s[0])
			s = s[1:]
		case c == '%' && s != "" && s[0] == '%':
			b.WriteByte('%')
			s = s[1:]
		case c == '\\' || c == '%':
			return "", "", fmt.Errorf("%c and then %q", c, s)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("no quoted word: %q", line)
}

// TestNothingSlipsIn: whatever a unit has, it is refused or it is in the files to
// the letter, where it was meant to be, and adds nothing to them.
func TestNothingSlipsIn(t *testing.T) {
	keys := func(text string) (all []string) {
		for line := range strings.Lines(text) {
			k, _, _ := strings.Cut(line, "=")
			all = append(all, k)
		}
		return all
	}
	plain := Unit{Executable: "/x", Instance: "i", Root: "/r", Environment: []string{"A=b"}}
	want, err := plain.systemd()
	if err != nil {
		t.Fatal(err)
	}
	nasty := rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("\"'\\%$ \t\n\r;#[]={}<>&\x00\x7f\ufffe"))))
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		u := Unit{Executable: "/" + nasty.Draw(t, "executable"), Instance: "i", Root: "/" + nasty.Draw(t, "root"),
			Environment: []string{"A=" + nasty.Draw(t, "value")}}
		if files, err := u.systemd(); err == nil {
			taken++
			for i, f := range files {
				if diff := cmp.Diff(keys(want[i].Text), keys(f.Text)); diff != "" {
					t.Fatal(diff)
				}
				for line := range strings.Lines(f.Text) {
					line = strings.TrimSuffix(line, "\n")
					if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
						if word, rest, err := unquoted(command); err != nil || word != u.Executable || rest != " broker --instance i" {
							t.Fatalf("%q is read as %q, %q, %v", line, word, rest, err)
						}
					}
					if assignment, ok := strings.CutPrefix(line, "Environment="); ok {
						if word, rest, err := unquoted(assignment); err != nil || word != u.Environment[0] || rest != "" {
							t.Fatalf("%q is read as %q, %q, %v", line, word, rest, err)
						}
					}
					if path, ok := strings.CutPrefix(line, "ListenStream="); ok {
						if got := strings.ReplaceAll(path, "%%", "%"); got != Socket(u.Root, "i") || strings.TrimSpace(path) != path {
							t.Fatalf("%q is read as %q", line, got)
						}
					}
				}
			}
		}
		if files, err := u.launchd(); err == nil {
			got := plistStrings(t, files[0].Text)
			want := []string{"io.fastbind.broker.i", u.Executable, "broker", "--instance", "i", strings.TrimPrefix(u.Environment[0], "A="), Socket(u.Root, "i"), "Interactive"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
	if taken == 0 {
		t.Error("every unit was refused")
	}
}
