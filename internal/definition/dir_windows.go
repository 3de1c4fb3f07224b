package definition

import (
	"path/filepath"
	"sync"

	"golang.org/x/sys/windows"
)

// defaultDir can neither be deleted nor unmounted.
var defaultDir = sync.OnceValue(func() string {
	dir, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return `C:\`
	}
	return filepath.VolumeName(dir) + `\`
})

func isAbs(dir string) bool { return filepath.IsAbs(dir) }
