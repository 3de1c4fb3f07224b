// Package reexec lets a test binary be other processes: helpers, registered
// beside the test that uses them, which it becomes when it is executed again. It
// is for tests alone.
//
//	var hold = reexec.Helper("hold", func(args []string) { … })
//
//	func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }
//
//	cmd := reexec.Command(t, hold, "argument")
package reexec

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// helpers are what a re-execution of the test binary can be, by name. They are
// registered while packages are initialised, and only read after that.
var helpers = map[string]func(args []string){}

var used sync.Map

const variable = "REEXEC_HELPER"

// Helper registers f under a name and returns the name. The process exits with
// status 0 when f returns.
func Helper(name string, f func(args []string)) string {
	helpers[name] = f
	return name
}

// Command returns the command, not started, that runs a registered helper.
func Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	if helpers[name] == nil {
		t.Fatalf("no helper %q", name)
	}
	used.Store(name, true)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	// The race detector would wait for a second at every exit.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", variable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// Used counts a helper as used where its test cannot run.
func Used(name string) { used.Store(name, true) }

// Main runs the tests and returns the status to exit with, or becomes a helper.
// A helper that no test used fails a full run.
func Main(m *testing.M) int {
	if name := os.Getenv(variable); name != "" {
		f := helpers[name]
		if f == nil {
			fmt.Fprintf(os.Stderr, "no helper %q\n", name)
			return 2
		}
		f(os.Args[1:])
		return 0
	}
	code := m.Run()
	full := !testing.Short() && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == "" &&
		flag.Lookup("test.skip").Value.String() == ""
	if code != 0 || !full {
		return code
	}
	for name := range helpers {
		if _, ok := used.Load(name); !ok {
			fmt.Fprintf(os.Stderr, "helper %q is used by no test\n", name)
			code = 1
		}
	}
	return code
}

// Check ends a helper that cannot do its part.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "helper:", err)
		os.Exit(2)
	}
}
