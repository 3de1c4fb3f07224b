package dirwatch

import (
	"io/fs"
	"os"
	"syscall"
	"time"
)

// poll is open without the kernel's help: the same errors, then a ticker.
func poll(paths []string, what subject, tick time.Duration) (*Watcher, error) {
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err == nil && what != file && !fi.IsDir() {
			err = syscall.ENOTDIR
		}
		if err != nil {
			if pe, ok := err.(*fs.PathError); ok {
				err = pe.Err
			}
			return nil, &fs.PathError{Op: "watch", Path: path, Err: err}
		}
	}
	return start(nil, tick), nil
}
