package journal

import (
	"os"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/sharing"
)

// openAppend and openRead let others rename and delete what they have opened: a log is
// moved aside under the daemon that writes it, and under whoever follows it.
//
// FILE_FLAG_OPEN_REPARSE_POINT opens a link itself.
func openAppend(path string, access int) (*os.File, error) {
	rights := uint32(windows.FILE_APPEND_DATA | windows.FILE_READ_ATTRIBUTES | windows.FILE_WRITE_ATTRIBUTES | windows.SYNCHRONIZE)
	if access == os.O_RDWR {
		rights |= windows.FILE_GENERIC_READ
	}
	return sharing.Open(path, rights, windows.OPEN_ALWAYS, windows.FILE_FLAG_OPEN_REPARSE_POINT)
}

func openRead(path string) (*os.File, error) {
	return sharing.Open(path, windows.FILE_GENERIC_READ, windows.OPEN_EXISTING, 0)
}

func rename(from, to string) error { return sharing.Rename(from, to) }
