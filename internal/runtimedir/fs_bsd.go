//go:build darwin || freebsd

package runtimedir

import "golang.org/x/sys/unix"

// maxAddr: sun_path has 104 bytes.
const maxAddr = 103

func networkFS(path string) (string, bool) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return "", false
	}
	// MNT_LOCAL is set on every file system that is stored here (statfs(2)).
	return unix.ByteSliceToString(st.Fstypename[:]), st.Flags&unix.MNT_LOCAL == 0
}
