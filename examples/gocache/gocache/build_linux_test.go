package gocache

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A module is Go source that imports little, so that a cold build is short.
func newModule(t *testing.T, name string, packages, literal int) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module " + name + "\n\ngo 1.26\n"}
	imports, calls := "", ""
	for i := range packages {
		p := fmt.Sprintf("p%d", i)
		text := fmt.Sprintf("%x", bodyOf(name+p, literal/2))
		files[p+"/"+p+".go"] = fmt.Sprintf("package %s\n\nconst Text = %q\n\nfunc Sum() (n int) {\n\tfor i := range Text {\n\t\tn += int(Text[i])\n\t}\n\treturn n\n}\n", p, text)
		imports += fmt.Sprintf("\t%q\n", name+"/"+p)
		calls += fmt.Sprintf("\tprintln(%s.Sum(), len(%s.Text))\n", p, p)
	}
	files["main.go"] = "package main\n\nimport (\n" + imports + ")\n\nfunc main() {\n" + calls + "}\n"
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goEnv is the environment of a go command that uses the rig's cache.
func (r *rig) goEnv() []string {
	return append(append(os.Environ(), r.env...), "GOCACHEPROG="+r.self+" "+Hidden, "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
}

// build builds a module with the rig's cache and returns the executable's
// content and what go said.
func (r *rig) build(dir string) ([]byte, string) {
	r.t.Helper()
	return build(r.t, dir, r.goEnv())
}

func build(t *testing.T, dir string, env []string, wrap ...string) ([]byte, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	args := append(wrap, "go", "build", "-trimpath", "-o", out, ".")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("go build: %v\n%s", err, text)
		return nil, string(text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Error(err)
	}
	return b, string(text)
}

// plainBuild builds with cmd/go's own cache.
func plainBuild(t *testing.T, dir string) []byte {
	t.Helper()
	b, _ := build(t, dir, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0"))
	return b
}

// warm is a store that holds what any build needs of the standard library.
var warm struct {
	once sync.Once
	dir  string
	cold stats // after the cold build that filled it
}

func warmUp(t *testing.T) {
	t.Helper()
	warm.once.Do(func() {
		r := newRig(t)
		dir := newModule(t, "warm", 1, 10)
		if got := first(r.build(dir)); !bytes.Equal(got, plainBuild(t, dir)) {
			t.Error("a cold build differs from the plain one")
		}
		warm.cold = r.stats()
		warm.dir = filepath.Join(testRoot, "warm")
		r.stop()
		if err := os.Rename(r.cfg.dir, warm.dir); err != nil {
			t.Error(err)
		}
	})
	if warm.dir == "" {
		t.Fatal("no warm store")
	}
}

func first[A, B any](a A, _ B) A { return a }

// fill gives the rig's store the standard library.
func (r *rig) fill() {
	r.t.Helper()
	warmUp(r.t)
	for _, kind := range []string{"objects", "actions"} {
		err := filepath.WalkDir(filepath.Join(warm.dir, kind), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := r.cfg.dir + strings.TrimPrefix(path, warm.dir)
			if d.IsDir() {
				return os.MkdirAll(to, 0o700)
			}
			return os.Link(path, to)
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
}
