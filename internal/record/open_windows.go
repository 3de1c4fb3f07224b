package record

import (
	"os"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/sharing"
)

// openFile: others may delete a record that somebody reads, with its directory.
func openFile(path string, flags int) (*os.File, error) {
	rights, disposition := uint32(windows.FILE_GENERIC_READ), uint32(windows.OPEN_EXISTING)
	if flags&os.O_APPEND != 0 {
		rights |= windows.FILE_APPEND_DATA
	}
	if flags&os.O_EXCL != 0 {
		disposition = windows.CREATE_NEW
	}
	return sharing.Open(path, rights, disposition, 0)
}

// makePrivate: the directory's access list holds for what is made in it.
func makePrivate(*os.File) error { return nil }
