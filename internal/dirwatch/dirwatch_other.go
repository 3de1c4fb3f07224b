//go:build !linux

package dirwatch

import "time"

func open(paths []string, what subject, tick time.Duration) (*Watcher, error) {
	return poll(paths, what, tick)
}
