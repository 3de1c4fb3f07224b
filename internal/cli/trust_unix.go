//go:build !windows

package cli

import (
	"io/fs"
	"strconv"
)

// trustedInfo refuses what another user owns or can write to.
func (a *app) trustedInfo(path string, fi fs.FileInfo) error {
	uid, ok := owner(fi)
	if ok && uid != a.uid && uid != 0 {
		return &fileError{path: path, text: "it belongs to uid " + strconv.Itoa(uid) + ", not to uid " + strconv.Itoa(a.uid)}
	}
	if perm := fi.Mode().Perm(); ok && perm&0o022 != 0 {
		return &fileError{path: path, text: "others can write to it (mode 0" + strconv.FormatUint(uint64(perm), 8) + ")",
			hint: "run: chmod go-w " + path}
	}
	return nil
}
