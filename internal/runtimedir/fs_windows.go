package runtimedir

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// maxAddr is no limit: an endpoint's address is no path (see pipeName). It is the
// longest path that the system takes.
const maxAddr = 32767

func networkFS(path string) (string, bool) {
	volume := filepath.VolumeName(path)
	if rest, ok := strings.CutPrefix(volume, `\\`); ok && (!strings.HasPrefix(rest, `?`) && !strings.HasPrefix(rest, `.`) || strings.HasPrefix(strings.ToUpper(rest), `?\UNC`)) {
		return volume, true // a share, whether it can be reached now or not
	}
	p, err := windows.UTF16PtrFromString(volume + `\`)
	if err != nil {
		return "", false
	}
	return volume, windows.GetDriveType(p) == windows.DRIVE_REMOTE
}
