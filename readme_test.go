//go:build !windows

// What the documentation says is of no system, and is checked by the go command.

package fastbind_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
)

// The documentation is tested like code: what it prints compiles and runs, what
// it names exists, and what exists is named.

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docs are the README and the pages of docs, by path.
func docs(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("there are no docs")
	}
	pages := map[string]string{}
	for _, p := range append(paths, "README.md", "CHANGELOG.md") {
		pages[p] = text(t, p)
	}
	return pages
}

// all is every page in one.
func all(t *testing.T) string {
	var b strings.Builder
	for _, page := range docs(t) {
		b.WriteString(page)
	}
	return b.String()
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// blocks are the fenced blocks of a language.
func blocks(page, language string) []string {
	var list []string
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		if m[1] == language {
			list = append(list, m[2])
		}
	}
	return list
}

const exampleDir = "examples/greeter"

// unindented removes the tabs that lines stand behind in a function.
func unindented(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimLeft(l, "\t")
	}
	return strings.Join(lines, "\n")
}

// TestREADMESnippets: each Go block of the README stands, line for line and but
// for indentation, in the example that TestREADMEGreeter runs, so the
// very text is compiled and run. Together they, and the imports they need, have
// at most ten lines of fastbind code.
//
// A line counts if it names anything of the packages fastbind or daemon, their
// import paths included, or declares the backend: its type and its methods'
// signatures. What any client and any server have does not count: arguments,
// error handling, the accept loop, loading and answering.
func TestREADMESnippets(t *testing.T) {
	files, err := filepath.Glob(exampleDir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no example", err)
	}
	var sources, snippets string
	imports := map[string]bool{}
	for _, f := range files {
		src := text(t, f)
		sources += unindented(src)
		for _, m := range regexp.MustCompile(`(?m)^\t"github.com/fastbind/fastbind.*"$`).FindAllString(src, -1) {
			imports[m] = true
		}
	}
	code := blocks(text(t, "README.md"), "go")
	if len(code) != 3 {
		t.Fatalf("%d Go blocks in the README, want the tool's, the daemon's and main's", len(code))
	}
	for _, b := range code {
		if !strings.Contains(sources, unindented(b)) {
			t.Errorf("not in %s:\n%s", exampleDir, b)
		}
		snippets += b
	}
	counts := regexp.MustCompile(`\bfastbind\.|\bdaemon\.|^type greeter|^func \(greeter\)|\binst\.`)
	ours := len(imports)
	for l := range strings.Lines(snippets) {
		if counts.MatchString(l) {
			ours++
		}
	}
	if ours > 10 || len(imports) != 2 {
		t.Errorf("the snippets have %d lines of fastbind code, want at most 10; imports: %v", ours, imports)
	}
}

// numbers are what differs from run to run: figures with or without a unit.
var numbers = regexp.MustCompile(`\d[\d.]*(µs|ms|m|s)?(\d[\d.]*s)?`)

// TestREADMECommands: there are exactly two set-up commands. The first runs a
// daemon, and prints what the README shows but for the figures; the second is
// what runs this test.
func TestREADMECommands(t *testing.T) {
	page := text(t, "README.md")
	shell := blocks(page, "sh")
	if len(shell) != 1 {
		t.Fatalf("%d blocks of commands in the README, want 1", len(shell))
	}
	var commands []string
	for l := range strings.Lines(shell[0]) {
		c, _, _ := strings.Cut(l, "#")
		commands = append(commands, strings.TrimSpace(c))
	}
	if len(commands) != 2 || commands[1] != "go test ./..." {
		t.Fatalf("commands %q", commands)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", commands[0]).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", commands[0], err, out)
	}
	masked := func(s string) string {
		var b strings.Builder
		for l := range strings.Lines(s) {
			b.WriteString(strings.Join(strings.Fields(numbers.ReplaceAllString(l, "N")), " ") + "\n")
		}
		return b.String()
	}
	if diff := cmp.Diff(masked(blocks(page, "text")[0]), masked(string(out))); diff != "" {
		t.Errorf("the README does not show what %s prints (-README +printed):\n%s\n%s", commands[0], diff, out)
	}
}

// TestREADMEGreeter: the example prints what the README shows, and is stopped as
// the README says.
func TestREADMEGreeter(t *testing.T) {
	page := text(t, "README.md")
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	env := append(os.Environ(), "FASTBIND_RUNTIME_DIR="+dir+"/run", "FASTBIND_STATE_DIR=", "FASTBIND_CONFIG_DIR="+dir)
	run := func(command string) string {
		t.Helper()
		if !strings.Contains(page, "`"+command+"`") {
			t.Errorf("the README does not have the command %s", command)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	const stop = "go run ./cmd/fastbind stop greeter"
	t.Cleanup(func() { // the second stop, after a failure the first
		cmd := exec.Command("sh", "-c", stop)
		cmd.Env = env
		_ = cmd.Run()
	})
	pid := regexp.MustCompile(`(?m)^\w+, gopher! I am the daemon, pid (\d+)\nconnected after \S+, answered after \S+$`)
	first := pid.FindStringSubmatch(run("go run ./examples/greeter"))
	second := pid.FindStringSubmatch(run("go run ./examples/greeter"))
	if first == nil || second == nil || first[1] != second[1] {
		t.Fatalf("answers %q and %q, want two of one daemon", first, second)
	}
	if !pid.MatchString(blocks(page, "text")[1]) {
		t.Error("the output in the README is not what the example prints")
	}
	if out := run(stop); !strings.Contains(out, "pid "+first[1]) {
		t.Errorf("stop printed %q", out)
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// anchor is a heading as GitHub links to it.
func anchor(heading string) string {
	heading = strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#")))
	heading = regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}

// TestDocsLinks: relative links lead to files and headings that exist.
func TestDocsLinks(t *testing.T) {
	for page, content := range docs(t) {
		prose := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(fence.ReplaceAllString(content, ""), "code")
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
				continue
			}
			if fragment == "" {
				continue
			}
			found := false
			for l := range strings.Lines(text(t, target)) {
				found = found || strings.HasPrefix(l, "#") && anchor(l) == fragment
			}
			if !found {
				t.Errorf("%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// TestDocsDefinition: the reference has every key of a definition and every
// flag that sets one.
func TestDocsDefinition(t *testing.T) {
	full := definition.Definition{
		Service: "s", Instance: "i", Command: []string{"c"}, Self: true, Foreign: true, Bind: "broker", Dir: "/",
		Env: []string{"E=1"}, EnvPolicy: "ignore", FDEnv: []string{"F={fd}"}, Endpoints: []string{"e"}, Version: "1", BoundWithin: 1, AdoptWithin: 1, StopWithin: 1,
		IdleExit: 1, HangAfter: 1, OnHang: "replace",
		OnVersion: "replace", MinVersion: "1.0.0", AllowVersions: []string{"1"},
	}
	page := text(t, "docs/definition.md")
	keys := full.Fields()
	if len(keys) < 14 {
		t.Fatalf("%d keys", len(keys))
	}
	for _, f := range keys {
		if !strings.Contains(page, "`"+f.Key+"`") {
			t.Errorf("docs/definition.md has no %q", f.Key)
		}
	}
	for _, verb := range []string{"start", "dial"} {
		flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(command(t, verb, "--help"), -1)
		if len(flags) < 14 {
			t.Fatalf("%d flags of %s", len(flags), verb)
		}
		for _, m := range flags {
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("docs/definition.md has no flag %s of %s", m[1], verb)
			}
		}
	}
}

// command runs fastbind and returns its output.
func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"run", "./cmd/fastbind"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestDocsVerbs: every verb of the command is documented, and every one in the
// docs exists.
func TestDocsVerbs(t *testing.T) {
	var verbs []string
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) {2,}[A-Z]`).FindAllStringSubmatch(command(t, "--help"), -1) {
		verbs = append(verbs, m[1])
	}
	if len(verbs) < 15 {
		t.Fatalf("verbs %q", verbs)
	}
	pages := all(t)
	for _, v := range verbs {
		if v != "help" && !strings.Contains(pages, "`"+v+"`") && !strings.Contains(pages, "fastbind "+v+" ") {
			t.Errorf("the verb %q is not documented", v)
		}
	}
	known := " " + strings.Join(append(verbs, "man", "broker"), " ") + " "
	for _, m := range regexp.MustCompile("[`(]fastbind ([a-z]+)").FindAllStringSubmatch(pages, -1) {
		if m[1] != "command" && !strings.Contains(known, " "+m[1]+" ") {
			t.Errorf("the docs name fastbind %s, which does not exist", m[1])
		}
	}
}

// TestDocsStages: every stage that an error can name is in the table.
func TestDocsStages(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "internal/launch/fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	page := text(t, "docs/adopting.md")
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		v, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Stage") || len(v.Values) != 1 {
			return true
		}
		stage, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if !strings.Contains(page, "\n| `"+stage+"` | ") {
			t.Errorf("docs/adopting.md has no stage %q", stage)
		}
		return true
	})
	if n < 10 {
		t.Fatalf("%d stages found", n)
	}
}

// TestDocsVariables: every variable of ours that the code knows is documented.
func TestDocsVariables(t *testing.T) {
	pages := all(t)
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		script := path == filepath.Join(".ci", "run")
		if !script && (filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go")) {
			return nil
		}
		for _, v := range regexp.MustCompile(`\bFASTBIND_[A-Z0-9_]*[A-Z0-9]`).FindAllString(text(t, path), -1) {
			if !found[v] && !strings.Contains(pages, "`"+v+"`") {
				t.Errorf("%s: %s is not documented", path, v)
			}
			found[v] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 4 {
		t.Errorf("variables %v", found)
	}
}

// TestDocsProtocol: the page has the interfaces as they are served.
func TestDocsProtocol(t *testing.T) {
	served := []string{text(t, "internal/control/io.fastbind.Daemon.varlink"), text(t, "internal/broker/wire/io.fastbind.Broker.varlink")}
	if got := blocks(text(t, "docs/protocol.md"), "varlink"); !slices.Equal(got, served) {
		t.Error("docs/protocol.md does not have internal/control/io.fastbind.Daemon.varlink and internal/broker/wire/io.fastbind.Broker.varlink")
	}
}

// TestDocsTesting: the page on testing names every fuzz target.
func TestDocsTesting(t *testing.T) {
	page := text(t, "docs/testing.md")
	n := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllStringSubmatch(text(t, path), -1) {
			n++
			if row := regexp.MustCompile("(?m)^\\|.*`" + m[1] + "`.*\\| `" + regexp.QuoteMeta(dir) + "` \\|"); !row.MatchString(page) {
				t.Errorf("docs/testing.md does not have %s of %s", m[1], dir)
			}
		}
		return nil
	})
	if err != nil || n < 20 {
		t.Errorf("%d targets found: %v", n, err)
	}
}
