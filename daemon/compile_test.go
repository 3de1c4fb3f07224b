//go:build !windows

package daemon_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestCompileFail: a backend that could keep state out of order does not
// compile, and the compiler's error names daemon.Backend, whose documentation
// explains each violation. It is the same compiler for every system, and where the tests
// of Windows run (internal/wine) there is no go command.
func TestCompileFail(t *testing.T) {
	for name, says := range map[string]string{
		"field":      "does not satisfy",
		"bindstate":  "wrong type for method Bind",
		"servestate": "wrong type for method Serve",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("go", "build", "-o", t.TempDir(), "./testdata/compilefail/"+name).CombinedOutput()
			if err == nil {
				t.Fatal("it compiled")
			}
			for _, want := range []string{"daemon.Backend", says} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the error does not contain %q:\n%s", want, out)
				}
			}
		})
	}
}
