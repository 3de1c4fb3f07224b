package gocache

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAdoption: what fastbind asks of gocache is one file and the lines that call
// service, at most ten lines for each side with its imports, and the
// documentation shows these very lines.
func TestAdoption(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	const module = `"github.com/fastbind/fastbind`
	uses := ""
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "fastbind.go" {
			uses += strings.Join(regexp.MustCompile(`(?m)^.*\bservice\(.*\n`).FindAllString(string(text), -1), "")
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if strings.HasPrefix(imp.Path.Value, module) && name != "fastbind.go" {
				t.Errorf("%s imports %s", name, path)
			}
			if strings.Contains(path, ".") && path != "github.com/fastbind/fastbind" && path != "github.com/fastbind/fastbind/daemon" {
				t.Errorf("%s imports %s: gocache needs the public packages and the standard library", name, path)
			}
		}
	}
	text, err := os.ReadFile("fastbind.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../../docs/gocache.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "// client side\n")
	client, server, ok2 := strings.Cut(rest, "// daemon side\n")
	if !ok || !ok2 {
		t.Fatal("fastbind.go has not its two parts")
	}
	for side, code := range map[string]string{
		"client": module + "\"\n" + client + uses,
		"daemon": module + "/daemon\"\n" + server,
	} {
		n := 0
		for line := range strings.Lines(code) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "//") {
				continue
			}
			n++
			if !strings.Contains(string(doc), line) {
				t.Errorf("docs/gocache.md does not show %q", line)
			}
		}
		if n > 10 {
			t.Errorf("the %s side has %d lines", side, n)
		}
		t.Logf("%s side: %d lines", side, n)
	}
}
