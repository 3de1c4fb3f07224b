//go:build !windows

package gocache

// tempBase is short: endpoints have paths.
const tempBase = "/tmp"

// testDirs are the directories of a test run, by the variables that lead to them.
var testDirs = map[string]string{"XDG_STATE_HOME": "state", "TMPDIR": "tmp"}

// leftIn returns the names of the files in a directory.
func leftIn(dir string) []string {
	names, _ := readNames(dir)
	return names
}
