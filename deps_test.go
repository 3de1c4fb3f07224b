//go:build !windows

// The tests of this file ask the go command, which there is none of where the tests of
// Windows run (internal/wine).

package fastbind_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSDKImports: whoever imports the SDK gets the standard library and
// golang.org/x/sys, nothing else, and of the standard library none of the
// packages that cost a client its start-up time and size.
func TestSDKImports(t *testing.T) {
	const module = "github.com/fastbind/fastbind"
	for pkg, forbidden := range map[string][]string{
		".":        {"encoding/json", "log", "net/http", "os/exec", "os/user", "text/template"},
		"./daemon": {"encoding/json", "log", "net/http", "os/exec", "os/user", "text/template"},
	} {
		for _, goos := range []string{"linux", "darwin", "freebsd", "windows"} {
			cmd := exec.Command("go", "list", "-deps", pkg)
			cmd.Env = append(cmd.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, dep := range strings.Fields(string(out)) {
				first, _, _ := strings.Cut(dep, "/")
				if strings.Contains(first, ".") && dep != module && !strings.HasPrefix(dep, module+"/") && !strings.HasPrefix(dep, "golang.org/x/sys/") {
					t.Errorf("%s on %s imports %s", pkg, goos, dep)
				}
				if dep == "fmt" && pkg == "." && goos == "linux" { // elsewhere x/sys imports it
					t.Error("the client SDK imports fmt, which costs start-up time and size")
				}
				if strings.HasPrefix(dep, "crypto/") && goos != "windows" { // where a pipe's nonce needs crypto/rand
					t.Errorf("%s on %s imports %s, which costs start-up time and size", pkg, goos, dep)
				}
				for _, f := range forbidden {
					if dep == f {
						t.Errorf("%s on %s imports %s, which costs start-up time or size", pkg, goos, dep)
					}
				}
			}
		}
	}
}

// TestClientSize: a tool that dials, asks and reads the answer with the client SDK is
// at most 1 MB larger than one that does so with package net: 1,045,000 bytes with Go
// 1.26 on amd64, of which 668,000 are left without symbols and debugging information.
// Each option and call beyond adds what it needs: all of them together 130,000 more.
//
// It is a bound for what creeps in. What does is told by go tool nm -size -sort size:
// often one call that brings in a piece of the standard library that package net does
// without (time.Parse, errors.As, os.ReadDir, strings.NewReplacer), or a small function
// that is inlined in many places.
func TestClientSize(t *testing.T) {
	size := func(imports, dial string) int64 {
		dir := t.TempDir()
		source := `package main

import (` + imports + `)

func main() {
	c, err := ` + dial + `
	if err != nil {
		println(err.Error())
		return
	}
	_, _ = c.Write([]byte("ping"))
	_, _ = c.Read(make([]byte, 4))
	_ = c.Close()
}
`
		if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		exe := filepath.Join(dir, "tool")
		// Without -trimpath the size would depend on where the source lies, by pages.
		cmd := exec.Command("go", "build", "-trimpath", "-o", exe, filepath.Join(dir, "main.go"))
		cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		fi, err := os.Stat(exe)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	plain := size(`"net"`, `net.Dial("unix", "x")`)
	ours := size(`"context"; "github.com/fastbind/fastbind"`, `fastbind.Dial(context.Background(), fastbind.Service{Name: "x"})`)
	t.Logf("with net %d bytes, with fastbind %d, %d more", plain, ours, ours-plain)
	if ours-plain > 1<<20 {
		t.Errorf("the SDK adds %d bytes to a client, more than 1 MB", ours-plain)
	}
}
