package gocache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// tempBase is the user's own.
const tempBase = ""

// testDirs are the directories of a test run, by the variables that lead to them.
var testDirs = map[string]string{"TEMP": "tmp", "TMP": "tmp2"}

// leftIn returns the names of the files in a directory but for those that nobody has
// locked: a pin file that its client has removed keeps its name, under Wine, until the
// daemon closes it too, which it does when it finds it unlocked.
func leftIn(dir string) []string {
	names, _ := readNames(dir)
	return slices.DeleteFunc(names, func(name string) bool {
		f, err := openShared(filepath.Join(dir, name), os.O_RDWR)
		if err != nil {
			return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)
		}
		defer f.Close()
		free, err := tryLock(f, true)
		return free && err == nil
	})
}
