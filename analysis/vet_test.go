package analysis_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/analysis"
)

// TestVet: the go command runs fastbindvet over a module that uses the SDK
// itself, not the declarations in testdata, and what is known of one package
// reaches the next.
func TestVet(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "fastbindvet")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", tool, "./cmd/fastbindvet").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(dir, "example")
	if err := os.CopyFS(module, os.DirFS("testdata/module")); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	required, err := exec.CommandContext(t.Context(), "go", "-C", root, "list", "-m", "-f", "{{.Version}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.sum": string(sums),
		"go.mod": "module example.org/example\n\ngo 1.26\n\n" +
			"require (\n\tgithub.com/fastbind/fastbind v0.0.0\n\tgolang.org/x/sys " + strings.TrimSpace(string(required)) + "\n)\n\n" +
			"replace github.com/fastbind/fastbind => " + root + "\n",
	} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-vettool="+tool, "./...")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("go vet found nothing")
	}
	checkPage(t, string(out))
	var lines []string
	for l := range strings.Lines(string(out)) {
		if !strings.HasPrefix(l, "#") {
			lines = append(lines, l)
		}
	}
	for _, want := range []string{
		"main.go:16:11: main touches the disk before daemon.Run: conf.Read → os.ReadFile (conf.go:12); ",
		"main.go:17:21: initialising package example.org/example/conf touches the disk before daemon.Run: conf.init → conf.Read (conf.go:17) → os.ReadFile (conf.go:12); ",
		"main.go:23:11: Bind touches the disk: conf.Read → os.ReadFile (conf.go:12); ",
		"main.go:23:11: Bind uses a package variable that changes: conf.Read → Verbose, assigned in Read (conf.go:13); ",
		"main.go:24:10: Bind uses a package variable that changes: conf.Verbose, assigned in Read; ",
		"main.go:31:17: ReadyLater is called, ",
		"main.go:36:2: the endpoint's path is removed by hand (os.Remove): ",
		"main.go:37:18: Serve never looks at its context, and gives the listener to http.Server.Serve, ",
		"conf/conf.go:16:1: this silences nothing: ",
	} {
		found := false
		for i, l := range lines {
			if strings.Contains(l, want) {
				found, lines = true, append(lines[:i], lines[i+1:]...)
				break
			}
		}
		if !found {
			t.Errorf("not found: %s", want)
		}
	}
	if len(lines) > 0 {
		t.Errorf("found beside what was wanted:\n%s", strings.Join(lines, ""))
	}
	if t.Failed() {
		t.Logf("all that was printed:\n%s", out)
	}
}

// checkPage checks docs/fastbindvet.md: its Go is of the module that was
// checked, and what it says is printed was printed.
func checkPage(t *testing.T, printed string) {
	page, err := os.ReadFile("../docs/fastbindvet.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, name := range []string{"main.go", "conf/conf.go"} {
		src, err := os.ReadFile(filepath.Join("testdata/module", name))
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(src)
	}
	blocks := regexp.MustCompile("(?ms)^```(go|text)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 10 {
		t.Errorf("%d blocks in the page", len(blocks))
	}
	for _, b := range blocks {
		if b[1] == "go" && !strings.Contains(sources.String(), b[2]) {
			t.Errorf("the page shows code that was not checked:\n%s", b[2])
		}
		for l := range strings.Lines(b[2]) {
			if b[1] == "text" && !strings.Contains(printed, l) {
				t.Errorf("the page says that this is printed: %s", l)
			}
		}
	}
	for _, check := range analysis.Analyzers {
		if !strings.Contains(string(page), "`"+check.Name+"`") {
			t.Errorf("the page has no check %s", check.Name)
		}
	}
}
