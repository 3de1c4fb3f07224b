//go:build !linux

package limit

import (
	"context"
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/dirwatch"
)

// gated: no process can be put anywhere, nor can another one's limits be set, so
// there is nothing to wait for.
const gated = false

func claimCgroup(a *Available) { a.Cgroup.Why = "this system has no cgroups" }

func setRlimit(int, Kind, int64) error  { return errors.ErrUnsupported }
func rlimitOf(int, Kind) (int64, error) { return 0, errors.ErrUnsupported }
func where(int) (string, error)         { return "", errors.ErrUnsupported }

func makeCgroup(string, string, Wanted, map[Kind]string) (Place, *os.File, error) {
	return Place{}, nil, errors.ErrUnsupported
}

func enter(Place, int) error { return errors.ErrUnsupported }

func readBack(Place, Wanted) (map[Kind]int64, map[Kind]string, error) {
	return nil, nil, errors.ErrUnsupported
}

func readEvents(Place) (events, error)             { return events{}, errors.ErrUnsupported }
func watchEvents(Place) (*dirwatch.Watcher, error) { return nil, errors.ErrUnsupported }
func empty(context.Context, Place) error           { return errors.ErrUnsupported }
func removeDir(Place) error                        { return errors.ErrUnsupported }
func killAll(Place) error                          { return errors.ErrUnsupported }
func leftovers(string, string) ([]Place, error)    { return nil, errors.ErrUnsupported }
