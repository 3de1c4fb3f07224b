//go:build !windows

package fastbind

import (
	"path/filepath"
	"strconv"
)

// maxEndpoint is the longest path that every system takes as a socket address,
// without its NUL (sun_path has 104 bytes on BSD, 108 on Linux).
const maxEndpoint = 103

// misnamed says why a path is no endpoint's, "" if it may be.
func misnamed(path string) string {
	switch {
	case !filepath.IsAbs(path):
		return "the path is not absolute"
	case len(path) > maxEndpoint:
		return "the path is longer than " + strconv.Itoa(maxEndpoint) + " bytes"
	case filepath.Clean(path) != path:
		return "the path is not clean; use " + strconv.Quote(filepath.Clean(path))
	}
	return ""
}
