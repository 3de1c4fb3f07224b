package gocache

// tempBase is the user's own.
const tempBase = ""

// testDirs are the directories of a test run, by the variables that lead to them.
var testDirs = map[string]string{"FASTBIND_RUNTIME_DIR": "run", "FASTBIND_STATE_DIR": "state", "TEMP": "tmp", "TMP": "tmp2"}
