//go:build (!unix && !windows) || solaris || illumos || aix

package gocache

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// haveLocks is false: a lock is always free here, nobody removes a body that is
// younger than a day, and pin files are believed for as long.
const haveLocks = false

func openShared(path string, flags int) (*os.File, error) { return os.OpenFile(path, flags, 0o600) }

func tryLock(*os.File, bool) (bool, error) { return true, nil }
func waitLock(*os.File, bool) error        { return nil }
func unlock(*os.File)                      {}
func fileNumber(fs.FileInfo) (a, b uint64) { return 0, 0 }
func isReadOnly(error) bool                { return false }
func isFull(err error) bool                { return errors.Is(err, errors.ErrUnsupported) }

func readSmall(path string, limit int) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)))
	return b, fi.ModTime(), err
}
