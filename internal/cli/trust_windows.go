package cli

import (
	"io/fs"

	"github.com/fastbind/fastbind/internal/runtimedir"
)

// trustedInfo refuses what another user owns or can write to. The administrators and the
// system can write to anything.
func (a *app) trustedInfo(path string, _ fs.FileInfo) error {
	if r := runtimedir.VerifyUnwritable(path); r != nil {
		return &fileError{path: path, text: r.Reason, hint: r.Cure, err: r.Err}
	}
	return nil
}
