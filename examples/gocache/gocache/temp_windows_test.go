package gocache

// tempBase is the user's own.
const tempBase = ""

// testDirs are the directories of a test run, by the variables that lead to them.
var testDirs = map[string]string{"TEMP": "tmp", "TMP": "tmp2"}
